"""Which of several hosts a function belongs to, and what happens to a call that reaches another."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest
import uvicorn
from starlette.responses import JSONResponse

from deployments.passing import PASSED, Passing, owner_of
from runtime.batching.workers import Workers
from runtime.http.library_app import LibraryApp
from runtime.library import Declared, Library
from runtime.settings import Settings
from runtime.spec import FunctionSpec

NAMES = [f"f{i}" for i in range(1000)]


def greet(name: str) -> dict[str, str]:
    """A stage."""
    return {"greeting": f"hello {name}"}


def test_functions_are_spread_evenly_and_only_those_of_a_host_that_goes_move():
    """So that a death wakes no more than it must."""
    before = {name: owner_of(name, ["a", "b", "c"]) for name in NAMES}
    after = {name: owner_of(name, ["a", "c"]) for name in NAMES}
    assert all(250 < count < 420 for count in Counter(before.values()).values())
    assert {name for name in NAMES if before[name] != after[name]} == {name for name in NAMES if before[name] == "b"}


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


@pytest.fixture
async def passing(tmp_path, anyio_backend):
    """A host named `me`, with one function that belongs to the host named `other`."""
    name = next(name for name in NAMES if owner_of(name, ["me", "other"]) == "other")
    spec = FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": [{"stage": "s", "python": f"{__name__}:greet"}]})
    workers = Workers(1)
    library = Library([Declared(spec)], Settings(root=tmp_path, models=tmp_path), workers=workers, budget_bytes=None)
    host = Passing(LibraryApp(library), library, "me")
    host.peers = {"me": "127.0.0.1:1", "other": "127.0.0.1:1"}  # nobody listens there
    yield host, spec
    await host.close()
    await library.close()
    workers.close(5)


def caller(host: Passing) -> httpx.AsyncClient:
    """Calls the host without a socket."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host")


@pytest.mark.anyio
async def test_a_call_whose_host_is_gone_is_answered_here(passing):
    """The body is at hand, and inference is pure."""
    host, spec = passing
    async with caller(host) as client:
        answer = await client.post(spec.route_prefix, json={"name": "a"})
    assert (answer.status_code, answer.json()) == (200, {"greeting": "hello a"})


@pytest.mark.anyio
async def test_a_call_is_passed_on_once_with_its_body_and_id(passing):
    """The other host answers; its status and headers come back."""
    host, spec = passing
    seen = []

    async def other(scope, receive, send):
        body = (await receive())["body"]
        seen.append((scope["path"], dict(scope["headers"]), body))
        await JSONResponse({"said": "other"}, 418, {"server-timing": "total;dur=1"})(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(other, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    host.peers = {"me": "127.0.0.1:1", "other": f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"}
    async with caller(host) as client:
        answer = await client.post(spec.route_prefix, json={"name": "a"}, headers={"x-request-id": "mine"})
    server.should_exit = True
    await serving
    assert (answer.status_code, answer.json(), answer.headers["server-timing"]) == (418, {"said": "other"}, "total;dur=1")
    ((path, headers, body),) = seen
    assert (path, body, headers[b"x-request-id"], headers[PASSED]) == (spec.route_prefix, b'{"name":"a"}', b"mine", b"1")
