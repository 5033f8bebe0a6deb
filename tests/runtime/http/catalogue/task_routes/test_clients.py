"""The routes by task, by the clients that call them, and by hand where clients send no mistakes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from runtime.http import asgi
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.task_routes.handler import LibraryTasks, TaskRoutes
from runtime.http.server import library_app
from runtime.http.transport.draining_server import DrainingApp
from runtime.http.transport.protocol import UVICORN
from runtime.protocol import loads
from runtime.system.telemetry.trace import CallTrace, make_sampler
from tests import in_process, task_stages
from tests.sleepers import Served, run, serving

TEXTS = ["a cat", "the dog barks", "42!"]


def answer_of(tmp_path: Any, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """What a request of the declared functions is answered."""

    async def work(served: Served) -> httpx.Response:
        return await served.client.request(method, path, json=body, **more)

    return run(serving(tmp_path, *task_stages.all_declared()), work)


def test_openais_clients_embed(tmp_path):
    """Both of them, one text and several, as numbers and in base64, of a function that sleeps."""
    import openai  # half a second, which only this test takes

    expected = [task_stages.vector(text) for text in TEXTS]

    def sync(url: str) -> None:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            one = client.embeddings.create(model="vowels", input=TEXTS[1])
            assert one.data[0].embedding == expected[1]
            assert (one.usage.prompt_tokens, one.model) == (3, "vowels")
            models = client.models.list().data
            assert [model.id for model in models] == ["vowels", "short", "rank", "judge"]
            assert client.models.retrieve("judge").id == "judge"
            short = client.embeddings.create(model="short", input=TEXTS, dimensions=2)
            assert [one.embedding for one in short.data] == [one[:2] for one in expected]
            assert short.usage.total_tokens == 2 + 4 + 1  # four bytes a token
            judged = client.moderations.create(model="judge", input=["OH NO", "oh no"])
            assert [result.flagged for result in judged.results] == [True, False]
            with pytest.raises(openai.NotFoundError) as missing:
                client.embeddings.create(model="vowles", input="a")
            assert missing.value.code == "model_not_found"
            assert missing.value.param == "model"
            assert "'vowels'" in missing.value.message
            with pytest.raises(openai.BadRequestError, match="tokens"):
                client.embeddings.create(model="vowels", input=[[1, 2], [3]])

    async def work(served: Served) -> None:
        async with in_process.serving(library_app(served.library)) as port:
            url = f"http://127.0.0.1:{port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                assert served.library.entries.require("vowels").state.state == "asleep"
                for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
                    answer: Any = await client.embeddings.create(
                        model="vowels", input=TEXTS, **more
                    )
                    got = [one.embedding for one in answer.data]
                    if more.get("encoding_format") == "base64":
                        got = [np.frombuffer(base64.b64decode(one), "<f4").tolist() for one in got]
                    assert got == expected
                    assert [one.index for one in answer.data] == [0, 1, 2]
            await asyncio.to_thread(sync, url)
            wrong = url.removesuffix("/v1")
            async with openai.AsyncOpenAI(base_url=wrong, api_key="none", max_retries=0) as client:
                with pytest.raises(openai.NotFoundError, match="/v1/embeddings"):
                    await client.embeddings.create(model="vowels", input="a")
                with pytest.raises(openai.NotFoundError, match="/v1/models"):
                    await client.models.list()

    run(serving(tmp_path, *task_stages.all_declared()), work)


def test_a_request_of_many_texts_is_one_call(tmp_path):
    """Its rows share batches."""
    task_stages.SIZES.clear()
    answer = answer_of(tmp_path, "POST", "/v1/embeddings", {"model": "vowels", "input": ["a"] * 64})
    assert len(answer.json()["data"]) == 64
    assert max(task_stages.SIZES) > 1


def test_documents_are_ranked_in_the_form_of_cohere(tmp_path):
    """The best first; texts or objects; with documents where they are asked for."""
    documents = ["red and blue", {"text": "green"}, "blue", "blue and red and green"]
    body = {"model": "rank", "query": "red blue", "documents": documents}
    answer = answer_of(tmp_path, "POST", "/v1/rerank", body).json()
    assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [
        (0, 2.0),
        (3, 2.0),
        (2, 1.0),
        (1, 0.0),
    ]
    assert "document" not in answer["results"][0]
    more = {**body, "top_n": 2, "return_documents": True}
    answer = answer_of(tmp_path, "POST", "/v1/rerank", more).json()
    assert [one["document"] for one in answer["results"]] == [
        {"text": "red and blue"},
        {"text": "blue and red and green"},
    ]
    assert answer["usage"]["total_tokens"] > 0


def test_a_route_needs_no_name_where_one_function_has_its_task(tmp_path):
    """OpenAI's moderations name none by default."""
    answer = answer_of(tmp_path, "POST", "/v1/moderations", {"input": "OH"}).json()
    assert answer["model"] == "judge"
    assert answer["results"][0]["category_scores"] == {"rude": 1.0, "polite": 0.25}
    assert answer["results"][0]["categories"] == {"rude": True, "polite": False}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("embeddings", {"input": "a"}, 400, "missing_input", "model"),  # there are two
        ("embeddings", {"model": "no", "input": "a"}, 404, "model_not_found", "model"),
        ("embeddings", {"model": "plain", "input": "a"}, 400, "bad_request", "model"),
        ("embeddings", {"model": "rank", "input": "a"}, 400, "bad_request", "model"),
        ("embeddings", {"model": 7, "input": "a"}, 400, "wrong_datatype", "model"),
        ("embeddings", {"model": "vowels"}, 400, "missing_input", "input"),
        ("embeddings", {"model": "vowels", "input": []}, 400, "malformed_body", "input"),
        ("embeddings", {"model": "vowels", "input": [1, 2]}, 400, "wrong_datatype", "input"),
        ("embeddings", {"model": "vowels", "input": [[1]]}, 400, "wrong_datatype", "input"),
        ("embeddings", {"model": "vowels", "input": ["a", 1]}, 400, "wrong_datatype", "input[1]"),
        ("embeddings", {"model": "vowels", "input": ["a"] * 2049}, 413, "too_large", "input"),
        (
            "embeddings",
            {"model": "vowels", "input": "a", "encoding_format": "int8"},
            400,
            "bad_request",
            "encoding_format",
        ),
        (
            "embeddings",
            {"model": "vowels", "input": "a", "dimensions": 2},
            400,
            "bad_request",
            "dimensions",
        ),
        (
            "embeddings",
            {"model": "short", "input": "a", "dimensions": 9},
            400,
            "bad_request",
            "dimensions",
        ),
        (
            "embeddings",
            {"model": "short", "input": "a", "dimensions": True},
            400,
            "wrong_datatype",
            "dimensions",
        ),
        (
            "embeddings",
            {"model": "vowels", "input": "a", "dimension": 2},
            400,
            "unknown_input",
            "dimension",
        ),
        (
            "embeddings",
            {"model": "short", "input": ["a", "refused", "refused"]},
            400,
            "bad_request",
            "input[1]",
        ),
        ("embeddings", ["a"], 400, "wrong_datatype", None),
        ("rerank", {"model": "rank", "query": "a"}, 400, "missing_input", "documents"),
        (
            "rerank",
            {"model": "rank", "query": "a", "documents": [{"title": "a"}]},
            400,
            "wrong_datatype",
            "documents[0]",
        ),
        (
            "rerank",
            {"model": "rank", "query": "a", "documents": ["a"], "top_n": 0},
            400,
            "wrong_datatype",
            "top_n",
        ),
        (
            "rerank",
            {"model": "rank", "query": "a", "documents": ["a"], "return_documents": 1},
            400,
            "wrong_datatype",
            "return_documents",
        ),
        ("moderations", {"input": [{"type": "text"}]}, 400, "wrong_datatype", "input[0]"),
        ("completions", {}, 404, "not_found", None),
    ],
)
def test_a_mistake_is_told_in_the_form_of_openai(
    tmp_path, path: str, body: Any, status: int, code: str, param: str | None
):
    """What its clients raise has our code and the place."""
    answer = answer_of(tmp_path, "POST", f"/v1/{path}", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert len(answer.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", "/v1/embeddings", b"", 405, "method_not_allowed"),
        ("POST", "/v1/models", b"", 405, "method_not_allowed"),
        ("GET", "/v1/models/no", b"", 404, "model_not_found"),
        ("GET", "/v1/models/plain", b"", 404, "model_not_found"),
        ("POST", "/v1/embeddings", b"{", 400, "malformed_body"),
        ("POST", "/v1/embeddings", b" " * (17 << 20), 413, "too_large"),
    ],
)
def test_what_is_no_request_is_refused(
    tmp_path, method: str, path: str, content: bytes, status: int, code: str
):
    """With the same form."""
    answer = answer_of(tmp_path, method, path, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_calls_by_task_are_counted_and_bounded(tmp_path):
    """As calls of their function; a deadline holds; nothing is left behind."""

    async def work(served: Served) -> None:
        body = {"model": "vowels", "input": "a"}
        assert (await served.client.post("/v1/embeddings", json=body)).status_code == 200
        late = await served.client.post(
            "/v1/embeddings", json=body, headers={"x-request-timeout-seconds": "0.000001"}
        )
        assert (late.status_code, late.json()["error"]["type"]) == (504, "server_error")
        assert served.library.counters.of("vowels").calls.codes == {200: 1}
        large = {"model": "vowels", "input": ["word " * 2000] * 64}
        answer = await served.client.post("/v1/embeddings", json=large)
        assert loads(answer.content)["usage"]["total_tokens"] == 64 * 2000

    run(serving(tmp_path, *task_stages.all_declared()), work)


def test_a_call_by_task_is_in_the_trace_of_its_client(tmp_path):
    """With the parts of the function's time."""
    arrived: list[CallTrace] = []

    def begin(fields: Mapping[bytes, bytes]) -> CallTrace:
        arrived.append(CallTrace.begin(fields, make_sampler("parentbased_always_on", "")))
        return arrived[-1]

    async def work(served: Served) -> None:
        served.library.counters.tell(lambda name, answered: None, begin)
        body = {"model": "vowels", "input": "a"}
        headers = {"traceparent": f"00-{7:032x}-{8:016x}-01"}
        answer = await served.client.post("/v1/embeddings", json=body, headers=headers)
        assert answer.status_code == 200

    run(serving(tmp_path, *task_stages.all_declared()), work)
    (trace,) = arrived
    assert (trace.trace_id, trace.parent_id) == (7, 8)
    assert {part.kind for part in trace.parts} == {"queue", "batch", "stage"}


@pytest.mark.full
def test_langchain_embeds(tmp_path):
    """With the option that has it send texts."""
    langchain_openai = pytest.importorskip("langchain_openai")

    def work_in_thread(url: str) -> None:
        embeddings = langchain_openai.OpenAIEmbeddings(
            model="vowels", base_url=url, api_key="none", check_embedding_ctx_length=False
        )
        expected = [task_stages.vector(text) for text in TEXTS]
        assert embeddings.embed_documents(TEXTS) == expected
        assert embeddings.embed_query(TEXTS[0]) == expected[0]

    async def work(served: Served) -> None:
        async with in_process.serving(library_app(served.library)) as port:
            await asyncio.to_thread(work_in_thread, f"http://127.0.0.1:{port}/v1")

    run(serving(tmp_path, *task_stages.all_declared()), work)


def test_later_calls_of_a_connection_are_answered_alike(tmp_path):
    """On a cluster the routes have connections of their own, whose later calls run without a
    task.
    """

    async def work(served: Served) -> None:
        await served.library.load("vowels")
        app = AsgiApp(TaskRoutes(LibraryTasks(served.library)))
        async with (
            in_process.serving(app, **UVICORN) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            body = {"model": "vowels", "input": TEXTS}
            answers = [await client.post("/v1/embeddings", json=body) for _ in range(3)]
            assert len({answer.content for answer in answers}) == 1
            assert answers[0].json()["usage"]["total_tokens"] == 6
            wrong = [await client.post("/v1/embeddings", json={"model": "x"}) for _ in range(2)]
            assert [answer.json()["error"]["code"] for answer in wrong] == ["missing_input"] * 2
            assert (await client.get("/v1/models")).status_code == 200
            again = await client.post("/v1/embeddings", json=body)
            assert again.content == answers[0].content

    run(serving(tmp_path, *task_stages.all_declared()), work)


def test_what_the_transport_refuses_is_told_in_the_form_of_openai(tmp_path, monkeypatch):
    """A body that does not come, a deadline that it misses, a process that ends: as what the route
    itself refuses; other routes have their own form.
    """
    monkeypatch.setattr(asgi, "UPLOAD_TIMEOUT_S", 0.1)

    async def error_of(port: int, path: str, *headers: str, body: bytes = b"{") -> tuple[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"POST {path} HTTP/1.1", "host: t", "content-length: 2", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        error = json.loads(await reader.readexactly(length))["error"]
        writer.close()
        return head[9:12].decode(), error

    async def work(served: Served) -> None:
        app = library_app(served.library)
        hurry = "x-request-timeout-seconds: 0.05"
        async with in_process.serving(app, **UVICORN) as port:
            status, error = await error_of(port, "/v1/embeddings")
            assert (status, error["code"], error["type"]) == (
                "408", "slow_upload", "invalid_request_error",
            )  # fmt: skip
            status, error = await error_of(port, "/v1/embeddings", hurry)
            assert (status, error["code"], error["type"]) == (
                "504", "deadline_exceeded", "server_error",
            )  # fmt: skip
            status, error = await error_of(port, "/v2/models/vowels")
            assert (status, type(error)) == ("408", str)
        async with in_process.serving(DrainingApp(app), **UVICORN) as port:
            status, error = await error_of(port, "/v1/embeddings", body=b"{}")
            assert (status, error["code"], error["type"]) == ("503", "draining", "server_error")
            status, error = await error_of(port, "/v2/models/vowels", body=b"{}")
            assert (status, type(error)) == ("503", str)

    run(serving(tmp_path, *task_stages.all_declared()), work)
