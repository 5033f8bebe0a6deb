"""What a request with a key for some functions is shown of a server that has more: on every route
that lists, names or hints.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.server import library_app
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from wakeful import Shape

HERE = __name__
MINE = {"x-wakeful-key": "ops", "x-wakeful-functions": "mine,mine2"}
HIDDEN = ("theirs", "theirs2", "broken_of_theirs")


Vector = Annotated[NDArray[np.float32], Shape(-1)]


def vector(text: str) -> Vector:
    """An embedding."""
    return np.array([len(text), 1.0], np.float32)


class Broken:
    """It does not load."""

    def __init__(self) -> None:
        raise ValueError("no weights")

    def __call__(self, text: str) -> Vector:
        return np.zeros(2, np.float32)


def spec(name: str, stage: str = "vector", **more: Any) -> FunctionSpec:
    """A function of the task of embeddings."""
    graph = [{"stage": "embedding", "python": f"{HERE}:{stage}"}]
    args = {"graph": graph, "task": "embedding", "description": f"{name} does it", **more}
    return FunctionSpec.from_args(name, f"/v2/models/{name}", args)


def serving(root: Path, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a test on a client of a server of all of them, of which one has failed."""

    async def main() -> None:
        workers = Workers(1)
        declared = [spec("mine"), spec("mine2"), spec("theirs"), spec("theirs2")]
        declared.append(spec("broken_of_theirs", "Broken"))
        library = FunctionLibrary(
            map(DeclaredFunction, declared),
            Settings.read({"WAKEFUL_ROOT": str(root)}),
            workers=workers,
            budget_bytes=None,
        )

        async def app(scope: Any, receive: Any, send: Any) -> None:
            # as HAProxy leads: the host answers below its prefix, the catalogue all else
            at = host if scope["path"].startswith("/v2/models") else rest
            await at(scope, receive, send)

        host, rest = AsgiApp(LibraryHandler(library)), library_app(library)
        try:
            for name in ("mine", "theirs"):
                await library.load(name)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://t"
            ) as client:
                failed = await client.post("/v2/models/broken_of_theirs", json={"text": "a"})
                assert failed.status_code == 503
                for name in ("mine", "theirs"):
                    called = await client.post(f"/v2/models/{name}", json={"text": "a"})
                    assert called.status_code == 200, called.text
                await test(client)
        finally:
            await library.close()
            await asyncio.to_thread(workers.close, 5.0)

    asyncio.run(main())


LOOKS = [
    ("GET", "/"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/repository/index"),
    ("POST", "/v2/repository/index"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/their"),
    ("GET", "/v1/models/theirs"),
    ("GET", "/v2/models/their"),
    ("POST", "/v2/models/theirz"),
    ("GET", "/theirs"),
    ("POST", "/v1/models/theirs:predict"),
    ("POST", "/v2/repository/models/theirs/load"),
    ("POST", "/v2/repository/models/their/load"),
    ("POST", "/v2/repository/models/theirs/pin"),
    ("POST", "/v1/embeddings"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), LOOKS)
def test_no_name_of_another_function_is_told(tmp_path, method, path):
    """In a list, a number, a hint, an error. Where the client has written it itself, the answer is
    that to a name of no function.
    """

    async def test(client: httpx.AsyncClient) -> None:
        body = {"input": "a"} if path == "/v1/embeddings" else None

        async def ask(path: str, **more: str) -> httpx.Response:
            headers = {"x-request-id": "one", **more}
            return await client.request(method, path, json=body, headers=headers)

        answer = await ask(path, **MINE)
        if re.search(r"\btheirs\b", path):
            nothing = await ask(path.replace("theirs", "thairs"), **MINE)
            assert answer.text.replace("theirs", "thairs") == nothing.text
        else:
            assert [name for name in HIDDEN if name in answer.text] == []
        everything = await ask(path)
        assert (
            answer.status_code == everything.status_code
            or "repository/models" in path
            or (path in ("/v2/health/ready", "/v1/models/theirs"))
        )

    serving(tmp_path, test)


def test_a_route_has_the_path_that_haproxy_compares(tmp_path):
    """It has asked for no scope where a slash, or an end of the line, was encoded."""

    async def test(client: httpx.AsyncClient) -> None:
        for method, path in (
            ("POST", "/v2%2Frepository/models/mine/unload"),
            ("POST", "/v2/repository%2fmodels/mine/unload"),
            ("POST", "/v2/repository/models%2Fmine/unload"),
            ("GET", "/v2%2Frepository/index"),
            ("GET", "/v2%2Fmodels/stats"),
            ("POST", "/v1%2Fembeddings"),
            ("POST", "/v1%2frerank"),
            ("POST", "/v%31%2Fmoderations"),
            ("GET", "/v1%2Fmodels"),
            ("GET", "/v1%2Fmodels%2Fmine"),
            ("GET", "/metrics%0a"),
            ("GET", "/%0A"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        plain = await client.get("/v2/repositor%79/index")
        assert {one["name"]: one["state"] for one in plain.json()}["mine"] == "READY"
        models = (await client.get("/%76%31/mode%6Cs")).json()["data"]
        assert "mine" in [one["id"] for one in models]

    serving(tmp_path, test)


@pytest.mark.parametrize("path", ["/console", "/console/assets/app.js"])
def test_what_is_open_without_a_key_names_no_function(tmp_path, path):
    """HAProxy says that such a request opens none."""

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.get(path, headers={"x-wakeful-functions": "-"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert [name for name in ("mine", *HIDDEN) if name in answer.text] == []

    serving(tmp_path, test)


def test_what_is_its_own_is_shown(tmp_path):
    """As to a key of all functions."""

    async def test(client: httpx.AsyncClient) -> None:
        async def get(path: str) -> Any:
            answer = await client.get(path, headers=MINE)
            assert answer.status_code == 200, answer.text
            return answer.json() if answer.headers["content-type"] == "application/json" else answer

        assert [one["name"] for one in (await get("/"))["functions"]] == ["mine", "mine2"]
        assert [one["name"] for one in await get("/v2/repository/index")] == ["mine", "mine2"]
        assert [one["id"] for one in (await get("/v1/models"))["data"]] == ["mine", "mine2"]
        assert await get("/v2/health/ready") == {"ready": True, "failed": []}
        assert {one["name"] for one in (await get("/v2/models/stats"))["model_stats"]} == {
            "mine",
            "mine2",
        }
        document = await get("/openapi.json")
        paths = [path for path in document["paths"] if path.startswith("/v2/models/")]
        assert paths
        assert all(path.split("/")[3] in ("mine", "mine2", "stats") for path in paths)
        assert (await client.get("/openapi.json")).json() != document
        assert await get("/openapi.json") == document
        metrics = (await get("/metrics")).text
        assert 'wakeful_requests_total{function="mine",code="200"} 1' in metrics
        assert (await client.get("/v2/health/ready")).status_code == 503

    serving(tmp_path, test)


def test_a_function_of_another_is_as_one_that_is_not_declared(tmp_path):
    """Where a body or a path names it: the same answer, byte by byte, and nothing is done."""

    async def test(client: httpx.AsyncClient) -> None:
        async def ask(method: str, path: str, name: str) -> tuple[int, str]:
            answer = await client.request(
                method,
                path.format(name),
                json={"model": name, "input": "a"} if path == "/v1/embeddings" else None,
                headers={**MINE, "x-request-id": "one"},
            )
            return answer.status_code, answer.text.replace(name, "NAME")

        for method, path in (
            ("POST", "/v1/embeddings"),
            ("GET", "/v1/models/{}"),
            ("POST", "/v2/repository/models/{}/load"),
            ("POST", "/v2/repository/models/{}/unload"),
            ("POST", "/v2/repository/models/{}/pin"),
        ):
            theirs, nothing = await ask(method, path, "theirs2"), await ask(method, path, "thairs2")
            assert theirs == nothing, path
            assert theirs[0] == 404
        index = (await client.get("/")).json()["functions"]
        assert {one["name"]: one["state"] for one in index}["theirs2"] == "asleep"
        mine = await client.post(
            "/v1/embeddings", json={"model": "mine", "input": "a"}, headers=MINE
        )
        assert mine.status_code == 200
        alone = {**MINE, "x-wakeful-functions": "mine"}
        unnamed = await client.post("/v1/embeddings", json={"input": "a"}, headers=alone)
        assert json.loads(unnamed.text)["model"] == "mine"

    serving(tmp_path, test)
