"""Calls are recorded as what they were, whichever way they come; what must not be recorded is in
none of them.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from runtime.http.server import library_app, make_captures, make_library
from runtime.library.capture.captures import Captures
from runtime.library.capture.control import LocalCaptures
from runtime.library.library import FunctionLibrary
from runtime.settings import Settings
from tests import in_process, task_stages
from tests.sleepers import HANDS, obedient
from wakeful import Header, MediaType, State

HERE = __name__
PREFIX = "/v2/models"
CANARY = "canary4711"


class Tagged(TypedDict):
    """An answer that has what must not be recorded."""

    label: str
    image: str


def tag(text: str, image: str = "", top: int = 1) -> Tagged:
    """Refuses a text."""
    if text == "refuse":
        raise RequestError(f"{image} is refused.")
    return {"label": text.upper() * top, "image": image}


def size(image: bytes) -> int:
    """A body as it is."""
    return len(image)


def raw_lines(data: bytes = b"", text: str = "") -> int:
    """A body as it is, of a type that has lines elsewhere."""
    return len(data)


def blob(text: str) -> Annotated[bytes, MediaType("application/json")]:
    """A file of a type that other answers have."""
    return text.encode()


def rows(text: str) -> Annotated[bytes, MediaType("application/x-ndjson")]:
    """Likewise."""
    return text.encode()


def keyed(text: str, x_api_key: Header[str] = "") -> str:
    """Reads a secret header."""
    return text


def spell(text: str, image: str = "") -> Iterator[str]:
    """An item for each letter."""
    for letter in text:
        if letter == "!":
            raise RequestError(f"{image} is refused.")
        yield letter


class Followed(TypedDict):
    """With what it passes on."""

    total: float
    seen: float


def add(x: float, seen: State[float]) -> Followed:
    """A sequence's sum."""
    return {"total": (seen or 0.0) + x, "seen": (seen or 0.0) + x}


def function(name: str, stage: str, **args: Any) -> FunctionSpec:
    """Of one stage of this module, every call of which is recorded."""
    args = {"capture": {"rate": 1}, **args}
    graph = [{"stage": "s", "python": stage if ":" in stage else f"{HERE}:{stage}"}]
    return FunctionSpec.from_args(name, f"{PREFIX}/{name}", {"graph": graph, **args})


Work = Callable[[httpx.AsyncClient, Captures], Awaitable[Any]]


def record(folder: Path, *specs: FunctionSpec, work: Work) -> dict[str, list[dict[str, Any]]]:
    """What is recorded of each function while ``work`` calls them over sockets."""
    settings = Settings(root=folder, models=folder, captures=folder / "captures")

    async def main() -> None:
        library, workers = make_library(specs, settings)
        captures = make_captures(library, settings)
        control = LocalCaptures(captures, library.counters, settings.captures)
        try:
            async with (
                in_process.serving(library_app(library, captures=control)) as port,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
            ):
                await work(client, captures)
            await settle(library)
        finally:
            await asyncio.to_thread(captures.close)
            await library.close()
            await asyncio.to_thread(workers.close, 1.0)

    asyncio.run(main())
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "captures").glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.stem] = [line for line in lines if "at" in line]
    return found


async def settle(library: FunctionLibrary) -> None:
    """Until no call is under way."""
    async with asyncio.timeout(30):
        while any(
            (loaded := library.entries.require(name).function) is not None
            and loaded.in_flight.calls
            for name in library.entries.specs
        ):
            await asyncio.sleep(0.01)


def texts(of: dict[str, Any]) -> str:
    """All of a line, with what stands in it in base64."""
    return json.dumps(of) + base64.b64decode(of.get("body_base64", "")).decode("latin-1")


def test_a_call_is_recorded_in_each_form(tmp_path):
    """JSON, rows, lines, a form, a compressed body, raw: body and outcome."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        url = f"{PREFIX}/tag"
        for _ in range(2):  # the second on a hot connection
            await client.post(url, json={"text": "a"}, headers={"x-request-id": "one"})
        await client.post(url, json=[{"text": "a"}, {"text": 1}])
        lines = b'{"text": "a"}\n{"text": "b"}\n'
        ndjson = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}
        await client.post(url, content=lines, headers=ndjson)
        await client.post(url, data={"text": "a"})
        await client.post(
            url, content=gzip.compress(b'{"text": "z"}'), headers={"content-encoding": "gzip"}
        )
        await client.post(
            f"{PREFIX}/size", content=b"\x89PNG", headers={"content-type": "image/png"}
        )

    found = record(
        tmp_path, function("tag", "tag"), function("size", "size", accepts=["image/*"]), work=work
    )
    one, hot, rows, lines, form, packed = found["tag"]
    answer = b'{"label":"A","image":""}'
    for each in (one, hot):
        assert (each["id"], each["path"], each["body"]) == ("one", f"{PREFIX}/tag", {"text": "a"})
        assert (each["status"], each["code"]) == (200, "")
        assert each["answer_sha256"] == hashlib.sha256(answer).hexdigest()
        assert each["bytes_out"] == len(answer)
    assert (one["warm"], hot["warm"]) == (False, True)
    assert rows["body"] == [{"text": "a"}, {"text": 1}]
    assert base64.b64decode(lines["body_base64"]) == b'{"text": "a"}\n{"text": "b"}\n'
    digest = hashlib.sha256(answer + b"\n" + answer.replace(b"A", b"B") + b"\n").hexdigest()
    assert lines["answer_sha256"] == digest
    assert base64.b64decode(form["body_base64"]) == b"text=a"
    assert packed["body"] == {"text": "z"}
    assert base64.b64decode(found["size"][0]["body_base64"]) == b"\x89PNG"
    assert [call["at"] for call in found["tag"]] == sorted(call["at"] for call in found["tag"])


def test_one_lot_is_drawn_for_a_call_whichever_way_it_comes(tmp_path):
    """Asleep and awake, on a hot connection or not: the share is the one that is declared, and the
    lines of a sequence have none drawn twice.
    """
    drawn: list[str] = []

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        def draw(name: str) -> float:
            drawn.append(name)
            return 1.0

        for name in ("tag", "spell", "embed", "add"):
            recorder = captures.recorder_of(name)
            assert recorder is not None
            recorder._random = lambda name=name: draw(name)
        url, ndjson = f"{PREFIX}/tag", {"content-type": "application/x-ndjson"}
        for _ in range(3):
            await client.post(url, json={"text": "a"})
        await client.post(url, json=[{"text": "a"}])
        await client.post(url, content=b'{"text": "a"}', headers=ndjson)
        await client.post(url, data={"text": "a"})
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
        await client.post(f"{url}/infer", json={"inputs": [tensor]})
        await client.post(url, content=b"{nonsense")
        await client.post(f"{PREFIX}/spell", json={"text": "ab"})
        await client.post("/v1/embeddings", json={"input": "a", "model": "embed"})
        headers = {"x-sequence-id": "s", "x-sequence-start": "1"}
        await client.post(f"{PREFIX}/add", json={"x": 1.0}, headers=headers)

    capture = {"rate": 0.5}
    found = record(
        tmp_path,
        function("tag", "tag", capture=capture),
        function("spell", "spell", capture=capture),
        function("embed", f"{task_stages.__name__}:embed", task="embedding", capture=capture),
        function("add", "add", sequences={}, capture=capture),
        work=work,
    )
    assert Counter(drawn) == {"tag": 8, "spell": 1, "embed": 1, "add": 1}
    assert not {"tag", "spell", "embed"} & found.keys()


def test_a_client_writes_nothing_but_values_into_a_line(tmp_path):
    """Whatever type it says a body has: one that is not recorded, and so would be JSON's."""
    long = "; x=" + "y" * 1100

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        for media_type, body in (
            ("application/octet-stream", b'1, "path": "/elsewhere"'),
            ("application/octet-stream", b"{garbage\n\n"),
            ("application/x-www-form-urlencoded", b"image=a"),
        ):
            headers = {"content-type": media_type + long}
            answer = await client.post(f"{PREFIX}/size", content=body, headers=headers)
            assert answer.status_code == 200, answer.text

    found = record(tmp_path, function("size", "size", accepts=["application/*"]), work=work)
    assert [one["path"] for one in found["size"]] == [f"{PREFIX}/size"] * 3
    assert [one["left_out"] for one in found["size"]] == ["large"] * 3


def test_a_file_is_not_taken_for_json_by_its_type(tmp_path):
    """What is in it may be anything, and would stand within the line."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        for path in ("blob", "rows"):
            for text in ('{}, "path": "/elsewhere"', "{}"):
                answer = await client.post(f"{PREFIX}/{path}", json={"text": text})
                assert (answer.status_code, answer.text) == (200, text)

    full = {"rate": 1, "answer": "full"}
    found = record(
        tmp_path,
        function("blob", "blob", capture=full),
        function("rows", "rows", capture=full),
        work=work,
    )
    for calls in found.values():
        assert [one["answer_sha256"] != "" for one in calls] == [True, True]
        assert not any("answer" in one for one in calls)


def test_v2_is_recorded_with_its_tensors(tmp_path):
    """JSON as JSON, binary with the length of its head."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        def call() -> None:
            port = client.base_url.port
            with triton.InferenceServerClient(f"127.0.0.1:{port}") as own:
                for is_binary in (False, True):
                    tensor = triton.InferInput("text", [1, 1], "BYTES")
                    tensor.set_data_from_numpy(
                        np.array([["a"]], dtype=object), binary_data=is_binary
                    )
                    own.infer("tag", [tensor])

        await asyncio.to_thread(call)

    plain, binary = record(tmp_path, function("tag", "tag"), work=work)["tag"]
    assert plain["path"].startswith(f"{PREFIX}/tag")
    assert plain["path"].endswith("/infer")
    body = base64.b64decode(binary["body_base64"])
    length = int(binary["headers"]["inference-header-content-length"])
    assert json.loads(body[:length])["inputs"][0]["name"] == "text"
    assert body[length:] == b"\x01\0\0\0a"
    assert plain["status"] == binary["status"] == 200


def test_refused_and_failed_calls_are_recorded(tmp_path):
    """With status and code; a path that is none of the function's is not."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        url = f"{PREFIX}/tag"
        await client.post(url, json={"text": "refuse"})
        await client.post(url, json={"txet": "a"})
        await client.post(url, content=b"{nonsense")
        await client.post(url, content=b"x" * 900)
        await client.post(url, content=b"a", headers={"content-type": "text/plain"})
        await client.post(f"{url}?key={CANARY}", json={"text": "a"})
        await client.post(url, json={"text": "a"}, headers={"x-request-timeout-seconds": "1e-9"})
        await client.post(f"{url}/{CANARY}", json={"text": "a"})
        await client.get(url)
        await client.post(f"{PREFIX}/broken", json={"n": 1})

    HANDS["recorded"].fault = "no weights"
    broken = obedient("broken", "recorded", capture={"rate": 1})
    limited = function("tag", "tag", limits={"max_body_bytes": 500})
    found = record(tmp_path, limited, broken, work=work)
    assert [(one["status"], one["code"]) for one in found["tag"]] == [
        (400, "bad_request"),
        (400, "missing_input"),
        (400, "malformed_body"),
        (413, "too_large"),
        (415, "unsupported_media_type"),
        (400, "unknown_input"),
        (504, "deadline_exceeded"),
    ]
    assert [one.get("left_out") for one in found["tag"]][3:] == ["unread"] * 4
    assert found["tag"][0]["body"] == {"text": "refuse"}
    assert CANARY not in json.dumps(found)
    (unloaded,) = found["broken"]
    assert (unloaded["status"], unloaded["path"]) == (503, f"{PREFIX}/broken")
    assert unloaded["body"] == {"n": 1}


def test_a_stream_is_recorded_item_by_item(tmp_path):
    """Whatever form it is sent in: the items, when the first went, and how it ended."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        url = f"{PREFIX}/spell"
        for accept in ("text/event-stream", "application/x-ndjson", "application/json"):
            await client.post(url, json={"text": "ab"}, headers={"accept": accept})
        await client.post(f"{url}/generate_stream", json={"text": "ab"})
        await client.post(url, json={"text": ""})
        await client.post(url, json={"text": "a!"})

    spec = function("spell", "spell", capture={"rate": 1, "answer": "full"})
    events, lines, whole, generated, empty, broken = record(tmp_path, spec, work=work)["spell"]
    digests = {one["answer_sha256"] for one in (events, lines, whole)}
    assert len(digests) == 1
    assert events["answer"] == lines["answer"] == whole["answer"]
    assert [one["items"] for one in (events, lines, whole, generated, empty, broken)] == [
        2, 2, 2, 2, 0, 1,
    ]  # fmt: skip
    assert 0 < events["first_ms"] <= events["latency_ms"]
    assert (broken["status"], broken["code"]) == (200, "bad_request")
    assert generated["path"] == f"{PREFIX}/spell/generate_stream"


def test_a_client_that_leaves_is_recorded_as_such(tmp_path):
    """Before its answer, and in the middle of one."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        await client.post(f"{PREFIX}/slow", json={"n": 1})
        HANDS["left"].may_answer.clear()
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{PREFIX}/slow", json={"n": 2}, timeout=0.5)
        async with asyncio.timeout(30):
            while 'function="slow",code="499"' not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
        HANDS["left"].may_answer.set()
        body = {"text": "a" * 100_000}
        async with client.stream("POST", f"{PREFIX}/spell", json=body) as answer:
            async for _ in answer.aiter_bytes():
                break

    slow = obedient("slow", "left", capture={"rate": 1})
    found = record(tmp_path, slow, function("spell", "spell"), work=work)
    first, second = found["slow"]
    assert (first["status"], first["code"]) == (200, "")
    assert (second["status"], second["code"], second["body"]) == (499, "disconnected", {"n": 2})
    (cut,) = found["spell"]
    assert (cut["status"], cut["code"]) == (200, "disconnected")
    assert "answer_sha256" not in cut


def test_a_sequence_is_recorded_as_a_whole_or_not(tmp_path):
    """Whatever the rate: its calls, with its id, by headers and by parameters."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        for name in map(str, range(1, 41)):
            for x, flag in ((1.0, "start"), (2.0, "end")):
                if int(name) % 2:
                    headers = {"x-sequence-id": name, f"x-sequence-{flag}": "1"}
                    answer = await client.post(f"{PREFIX}/add", json={"x": x}, headers=headers)
                else:
                    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [x]}
                    parameters = {"sequence_id": name, f"sequence_{flag}": True}
                    answer = await client.post(
                        f"{PREFIX}/add/infer", json={"inputs": [tensor], "parameters": parameters}
                    )
                assert answer.status_code == 200, answer.text

    spec = function("add", "add", sequences={}, capture={"rate": 0.5})
    calls = record(tmp_path, spec, work=work)["add"]
    by_name: dict[str, list[str]] = {}
    for one in calls:
        by_name.setdefault(one["sequence"], []).append(one["path"])
    assert all(len(paths) == 2 for paths in by_name.values())
    assert 5 <= len(by_name) <= 35
    assert {path.removeprefix(f"{PREFIX}/add") for paths in by_name.values() for path in paths} == {
        "",
        "/infer",
    }
    headers = next(one["headers"] for one in calls if not one["path"].endswith("/infer"))
    assert headers["x-sequence-id"]


def test_calls_by_task_are_recorded_as_they_were_sent(tmp_path):
    """In the form of their route, for the function that answered."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        for text in ("two words", ""):
            await client.post("/v1/embeddings", json={"input": text, "model": "embed"})

    spec = function("embed", f"{task_stages.__name__}:embed", task="embedding")
    first, *_ = record(tmp_path, spec, work=work)["embed"]
    assert first["path"] == "/v1/embeddings"
    assert first["body"] == {"input": "two words", "model": "embed"}
    assert first["answer_sha256"]


@pytest.mark.parametrize("answer", ["digest", "full"])
def test_what_is_omitted_is_recorded_on_no_way(tmp_path, answer):
    """Nor is a header that may be a secret: a canary is sent wherever one can be."""

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        secret = {"authorization": CANARY, "cookie": CANARY, "x-api-key": CANARY}
        url, row = f"{PREFIX}/tag", {"text": "a", "image": CANARY}
        tensors = [
            {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}
            for name, value in row.items()
        ]

        async def post(path: str, **more: Any) -> None:
            headers = secret | more.pop("headers", {})
            await client.post(path, headers=headers, **more)

        ndjson = {"content-type": "application/x-ndjson"}
        await post(url, json=row)
        await post(url, json=[row, {"text": "refuse", "image": CANARY}])
        await post(url, json=row | {"text": "refuse"})
        await post(url, json={"text": "a", "imgae": CANARY})
        await post(url, json={"text": 1, "image": CANARY})
        await post(url, content=json.dumps(row).encode(), headers=ndjson)
        await post(
            url,
            content=json.dumps(row).encode(),
            headers={**ndjson, "accept": ndjson["content-type"]},
        )
        await post(url, data=row)
        await post(url, files={"text": (None, "a"), "image": (None, CANARY)})
        await post(url, content=CANARY.encode(), headers={"content-type": "text/plain"})
        await post(url, content=CANARY.encode())
        await post(f"{url}/infer", json={"inputs": tensors})
        await post(f"{url}/infer", json={"inputs": [*tensors, tensors[1]]})
        text, image = tensors
        for head in (
            {"outputs": [{"name": "label", "image": CANARY}]},
            {"id": {"image": CANARY}},
            {"parameters": {"timeout": {"image": CANARY}}},
            {"inputs": [text | {"shape": [CANARY]}]},
            {"inputs": [text | {"datatype": CANARY}]},
            {"inputs": [text | {"parameters": {"image": CANARY}}]},
            {"inputs": [{"name": [image]}]},
        ):
            await post(f"{url}/infer", json={"inputs": [text], **head})
        ndjson_of_raw = json.dumps({"text": CANARY}).encode()
        await post(f"{PREFIX}/lines", content=ndjson_of_raw, headers=ndjson)
        await post(f"{PREFIX}/spell", json=row)
        await post(f"{PREFIX}/spell/generate_stream", json={"text": "a", "parameters": row})
        await post(f"{PREFIX}/spell", json=row | {"text": "a!"})
        await post(f"{PREFIX}/size", content=CANARY.encode(), headers={"content-type": "image/png"})
        await post(f"{PREFIX}/size", json={"image": base64.b64encode(CANARY.encode()).decode()})
        await post(f"{PREFIX}/keyed", json={"text": "a"})
        await post("/v1/embeddings", json={"input": CANARY})

    ndjson_type = "application/x-ndjson"
    capture = {"rate": 1, "omit": ["image"], "answer": answer}
    found = record(
        tmp_path,
        function("tag", "tag", capture=capture),
        function("spell", "spell", capture=capture),
        function("size", "size", accepts=["image/*"], capture=capture),
        function("keyed", "keyed", capture={"rate": 1, "answer": answer}),
        function(
            "lines", "raw_lines", accepts=[ndjson_type], capture={**capture, "omit": ["data"]}
        ),
        function(
            "embed",
            f"{task_stages.__name__}:embed",
            task="embedding",
            capture={**capture, "omit": ["text"]},
        ),
        work=work,
    )
    assert {name: len(calls) for name, calls in found.items()} == {
        "tag": 20, "spell": 3, "size": 2, "keyed": 1, "embed": 1, "lines": 1,
    }  # fmt: skip
    for calls in found.values():
        for call in calls:
            assert CANARY not in texts(call)
            assert base64.b64encode(CANARY.encode()).decode() not in texts(call)
            # of what was made of it there is no digest: it could be guessed
            assert not ("answer_sha256" in call and "omitted" in call)
    first, rows, *_ = found["tag"]
    assert (first["body"], first["omitted"]) == ({"text": "a"}, ["image"])
    assert rows["body"] == [{"text": "a"}, {"text": "refuse"}]
    if answer == "full":
        assert first["answer"] == {"label": "A"}


def test_an_operator_begins_and_ends_it(tmp_path):
    """Over HTTP, for a time; without a declared rate nothing is recorded otherwise."""
    path = "/v2/repository/models/tag/capture"

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        async def call() -> None:
            await client.post(f"{PREFIX}/tag", json={"text": "a"})

        await call()
        assert captures.recorder_of("tag") is None
        assert (await client.get(path)).json() | {"file": ""} == {
            "rate": 0.0,
            "until": None,
            "declared_rate": 0.0,
            "file": "",
            "calls": 0,
            "lost": 0,
            "ends_with_process": True,
        }
        begun = (await client.post(path, json={"rate": 1, "for_s": 60})).json()
        assert (begun["rate"], Path(begun["file"]).name) == (1.0, "tag.jsonl")
        await call()
        assert (await client.delete(path)).json()["until"] is None
        await call()
        await client.post(path, json={"rate": 1, "for_s": 0.05})
        async with asyncio.timeout(30):
            while captures.recorder_of("tag") is not None:
                await asyncio.sleep(0.01)
        await call()
        for method, target, body, status, code in (
            ("POST", path, {"rate": 2, "for_s": 1}, 400, "bad_request"),
            ("POST", path, {"rate": 1, "for_s": 0}, 400, "bad_request"),
            ("POST", path, {"rate": 1, "for_s": 1e9}, 400, "bad_request"),
            ("POST", path, {"rate": 1}, 400, "missing_input"),
            ("POST", path, {"rate": True, "for_s": 1}, 400, "wrong_datatype"),
            ("POST", path, {"rate": 1, "for_s": 1, "omit": []}, 400, "unknown_input"),
            ("POST", path.replace("tag", "gat"), {"rate": 1, "for_s": 1}, 404, "not_found"),
            ("GET", path.replace("tag", "gat"), None, 404, "not_found"),
            ("PUT", path, None, 405, "method_not_allowed"),
        ):
            refused = await client.request(method, target, json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code), body

    found = record(tmp_path, function("tag", "tag", capture={}), work=work)
    assert len(found["tag"]) == 1


def test_where_nothing_can_be_written_an_operator_is_told(tmp_path):
    """Before calls are lost; declared captures lose them, and the calls are answered."""
    (tmp_path / "captures").write_text("in the way")

    async def work(client: httpx.AsyncClient, captures: Captures) -> None:
        path = "/v2/repository/models/tag/capture"
        refused = await client.post(path, json={"rate": 1, "for_s": 60})
        assert refused.status_code == 409
        assert "WAKEFUL_CAPTURES" in refused.json()["error"]
        answer = await client.post(f"{PREFIX}/tag", json={"text": "a"})
        assert answer.status_code == 200
        await asyncio.to_thread(captures.close)
        assert (await client.get(path)).json()["lost"] == 1
        assert 'wakeful_capture_lost_total{function="tag"} 1' in (await client.get("/metrics")).text

    assert record(tmp_path, function("tag", "tag"), work=work) == {}
