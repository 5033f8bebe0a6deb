"""Which of several hosts a function belongs to, and what happens to a call that reaches another."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from deployments.serving.forwarding import FORWARDED, HostRouter, is_same_machine, owner_host
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.request_headers import ARRIVAL
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import in_process

NAMES = [f"f{i}" for i in range(1000)]


def greet(name: str) -> dict[str, str]:
    """A stage."""
    return {"greeting": f"hello {name}"}


def test_functions_are_spread_evenly_and_only_those_of_a_host_that_goes_move():
    """So that a crash wakes no more than it must."""
    before = {name: owner_host(name, ["a", "b", "c"]) for name in NAMES}
    after = {name: owner_host(name, ["a", "c"]) for name in NAMES}
    assert all(250 < count < 420 for count in Counter(before.values()).values())
    assert {name for name in NAMES if before[name] != after[name]} == {
        name for name in NAMES if before[name] == "b"
    }


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


@pytest.fixture
async def passing(tmp_path, anyio_backend):
    """A host named `me`, with one function that belongs to the host named `other`."""
    name = next(name for name in NAMES if owner_host(name, ["me", "other"]) == "other")
    spec = FunctionSpec.from_args(
        name, f"/v2/models/{name}", {"graph": [{"stage": "s", "python": f"{__name__}:greet"}]}
    )
    workers = Workers(1)
    library = FunctionLibrary(
        [DeclaredFunction(spec)],
        Settings(root=tmp_path, models=tmp_path),
        workers=workers,
        budget_bytes=None,
    )
    host = HostRouter(LibraryHandler(library), library, "me")
    host.peers = {"me": "127.0.0.1:1", "other": "127.0.0.1:1"}  # no process listens there
    yield host, spec
    await host.close()
    await library.close()
    workers.close(5)


def caller(host: HostRouter) -> httpx.AsyncClient:
    """Calls the host without a socket."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(AsgiApp(host)), base_url="http://host", timeout=60
    )


@pytest.mark.anyio
async def test_a_call_whose_host_is_gone_is_answered_here(passing):
    """The body is at hand, and inference is pure."""
    host, spec = passing
    async with caller(host) as client:
        answer = await client.post(spec.route_prefix, json={"name": "a"})
    assert (answer.status_code, answer.json()) == (200, {"greeting": "hello a"})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Another host, at the address given."""
    async with in_process.serving(app) as port:
        yield f"127.0.0.1:{port}"


@pytest.mark.anyio
async def test_a_compressed_call_is_passed_on_decoded(passing):
    """It is decoded, and bounded, once; where the other host is gone it is answered here."""
    host, spec = passing
    seen = []

    async def other(scope, receive, send):
        seen.append((dict(scope["headers"]), (await receive())["body"]))
        await JSONResponse({"said": "other"})(scope, receive, send)

    request = {
        "content": gzip.compress(b'{"name": "a"}'),
        "headers": {"content-encoding": "gzip", "content-type": "application/json"},
    }
    async with serving(other) as address, caller(host) as client:
        gone, host.peers = host.peers, {"me": "127.0.0.1:1", "other": address}
        assert (await client.post(spec.route_prefix, **request)).json() == {"said": "other"}
        host.peers = gone
        assert (await client.post(spec.route_prefix, **request)).json() == {"greeting": "hello a"}
    ((headers, body),) = seen
    assert body == b'{"name": "a"}'
    assert headers[b"content-length"] == b"13"
    assert b"content-encoding" not in headers


OF_THE_EDGE = {b"x-wakeful-edge": b"c0ffee", b"x-wakeful-key": b"ops", b"x-wakeful-functions": b"a"}
"""By which the other host knows that the call came through HAProxy, and whose it is."""


@pytest.mark.anyio
async def test_a_call_is_passed_on_once_with_its_body_its_id_and_its_time(passing):
    """The other host answers; its status and headers come back. It gets the time when the call arrived,
    whatever this one got.
    """
    host, spec = passing
    seen = []

    async def other(scope, receive, send):
        body = (await receive())["body"]
        seen.append((scope["path"], dict(scope["headers"]), body))
        await JSONResponse({"said": "other"}, 418, {"server-timing": "total;dur=1"})(
            scope, receive, send
        )

    async with serving(other) as address, caller(host) as client:
        host.peers = {"me": "127.0.0.1:1", "other": address}
        answer = await client.post(
            spec.route_prefix, json={"name": "a"}, headers={"x-request-id": "mine"}
        )
        arrived = time.time() - 5
        await client.post(
            spec.route_prefix,
            json={"name": "a"},
            headers={
                ARRIVAL.decode(): f"{arrived * 1e6:.0f}-7-8",
                **{name.decode(): value.decode() for name, value in OF_THE_EDGE.items()},
            },
        )
    assert (answer.status_code, answer.json(), answer.headers["server-timing"]) == (
        418,
        {"said": "other"},
        "total;dur=1",
    )
    (path, headers, body), (_, older, _) = seen
    assert OF_THE_EDGE.items() <= older.items()
    assert (path, body, headers[b"x-request-id"], headers[FORWARDED]) == (
        spec.route_prefix,
        b'{"name":"a"}',
        b"mine",
        b"1",
    )
    age, rest = older[ARRIVAL].split(b"-", 1)
    # as it came, so that a call of a sequence that is sent again has the same name
    assert (int(age) / 1e6, rest) == (
        pytest.approx(arrived, abs=0.5),
        f"7-8@{arrived * 1e6:.0f}-7-8".encode(),
    )
    assert int(headers[ARRIVAL].split(b"-")[0]) / 1e6 == pytest.approx(time.time(), abs=20)


@pytest.mark.anyio
async def test_a_host_that_does_not_answer_keeps_no_call_longer_than_its_deadline(passing):
    """504 from here; the other host may hang for ever."""
    host, spec = passing
    requested, is_over = asyncio.Event(), asyncio.Event()

    async def hangs(scope, receive, send):
        requested.set()
        await is_over.wait()

    async with serving(hangs) as address, caller(host) as client:
        host.peers = {"me": "127.0.0.1:1", "other": address}
        late = await client.post(
            spec.route_prefix, json={"name": "a"}, headers={"x-request-timeout-seconds": "0.2"}
        )
        is_over.set()
    assert requested.is_set()
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


@pytest.mark.anyio
async def test_a_call_of_a_host_is_answered_here_once_the_host_is_gone(passing):
    """It hangs, and is not among the peers any more."""
    host, spec = passing
    requested, is_over = asyncio.Event(), asyncio.Event()

    async def hangs(scope, receive, send):
        requested.set()
        await is_over.wait()

    async with serving(hangs) as address, caller(host) as client:
        host.peers = {"me": "127.0.0.1:1", "other": address}
        call = asyncio.create_task(client.post(spec.route_prefix, json={"name": "a"}))
        await requested.wait()
        host.peers = {"me": "127.0.0.1:1"}
        answer = await call
        is_over.set()
    assert (answer.status_code, answer.json()) == (200, {"greeting": "hello a"})


@pytest.mark.anyio
async def test_a_call_beyond_the_budget_is_not_passed_on(passing):
    """429 before its body is read; held bytes are given back however a call was answered."""
    host, spec = passing
    budget = host._local.body_budget
    host._library.budget_bytes = 100
    budget.held = 40
    async with caller(host) as client:
        assert (await client.post(spec.route_prefix, json={"name": "a" * 40})).status_code == 429
        budget.held = 0
        assert (await client.post(spec.route_prefix, json={"name": "a" * 40})).status_code == 200
    assert budget.held == 0


@pytest.mark.anyio
async def test_a_call_is_passed_on_as_it_was_sent(passing):
    """Its path as it was written, its query, and no header more than are needed to send it."""
    host, spec = passing
    seen = {}

    async def other(scope, receive, send):
        seen.update(scope)
        await JSONResponse({}, headers={"x-more": "1"})(scope, receive, send)

    path = f"{spec.route_prefix}/%69nfer?a=%2F&b=%C3%A4"
    async with serving(other) as address, caller(host) as client:
        host.peers = {"me": "127.0.0.1:1", "other": address}
        client.headers.clear()
        sent = {"accept": "text/event-stream", "x-mine": "ä".encode(), "expect": "100-continue"}
        answer = await client.post(path, content=b"x", headers=sent)
    assert answer.headers["x-more"] == "1"
    assert (seen["raw_path"] + b"?" + seen["query_string"]).decode() == path
    headers = dict(seen["headers"])
    given = {b"host", b"content-length", b"x-request-id", FORWARDED, ARRIVAL}
    assert set(headers) == {b"accept", b"x-mine", *given}
    assert (headers[b"accept"], headers[b"x-mine"], headers[b"content-length"]) == (
        b"text/event-stream",
        "ä".encode(),
        b"1",
    )


@pytest.mark.anyio
async def test_no_more_calls_are_passed_on_than_are_bounded(passing, monkeypatch):
    """429 at once; when one is answered the next is passed on."""
    monkeypatch.setattr("deployments.serving.forwarding.MAX_FORWARDED", 2)
    host, spec = passing
    requested, is_over = asyncio.Semaphore(0), asyncio.Event()

    async def other(scope, receive, send):
        requested.release()
        await is_over.wait()
        await JSONResponse({})(scope, receive, send)

    async with serving(other) as address, caller(host) as client:
        host.peers = {"me": "127.0.0.1:1", "other": address}
        calls = [
            asyncio.create_task(client.post(spec.route_prefix, json={"name": "a"}))
            for _ in range(2)
        ]
        for _ in calls:
            await requested.acquire()
        refused = await client.post(spec.route_prefix, json={"name": "a"})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            429,
            "overloaded",
            "1",
        )
        is_over.set()
        assert [(await one).status_code for one in calls] == [200, 200]
        assert (await client.post(spec.route_prefix, json={"name": "a"})).status_code == 200


@pytest.mark.anyio
async def test_a_stream_is_passed_on_as_it_comes(passing):
    """The caller has the first of it before the other host has the rest; when it disconnects, the
    other host learns so.
    """
    host, spec = passing
    go, has_left = asyncio.Event(), asyncio.Event()

    async def streams(scope, receive, send):
        await receive()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        has_left.set()

    async with (
        serving(streams) as other,
        serving(AsgiApp(host)) as me,
        httpx.AsyncClient(base_url=f"http://{me}", timeout=60) as client,
    ):
        host.peers = {"me": me, "other": other}
        async with (
            asyncio.timeout(30),
            client.stream("POST", spec.route_prefix, json={"name": "a"}) as answer,
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (
                200,
                "text/event-stream",
            )
            chunks = answer.aiter_text()
            assert await anext(chunks) == "data: 1\n\n"
            go.set()
            assert await anext(chunks) == "data: 2\n\n"
        await asyncio.wait_for(has_left.wait(), 30)
        while host.exchanges:
            await asyncio.sleep(0.005)


@pytest.mark.anyio
async def test_a_stream_whose_host_dies_is_cut(passing):
    """Half of it is no answer, and no other host can go on with it: the caller finds that it ended
    too soon.
    """
    host, spec = passing

    async def dies(scope, receive, send):
        await receive()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})

    async with (
        serving(dies) as other,
        serving(AsgiApp(host)) as me,
        httpx.AsyncClient(base_url=f"http://{me}", timeout=60) as client,
    ):
        host.peers = {"me": me, "other": other}
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(spec.route_prefix, json={"name": "a"})


@pytest.mark.anyio
async def test_every_call_of_a_function_with_sequences_goes_to_its_host(tmp_path, anyio_backend):
    """Also once it is loaded here, because the other host was gone for a while: a sequence is in
    one place, or lost, and that is reported.
    """
    name = next(name for name in NAMES if owner_host(name, ["me", "other"]) == "other")
    graph = [{"stage": "add", "python": "tests.accumulators:add"}]
    spec = FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": graph, "sequences": {}})
    workers = Workers(1)
    library = FunctionLibrary(
        [DeclaredFunction(spec)],
        Settings(root=tmp_path, models=tmp_path),
        workers=workers,
        budget_bytes=None,
    )
    host = HostRouter(LibraryHandler(library), library, "me")
    host.peers = {"me": "127.0.0.1:1", "other": "127.0.0.1:1"}  # no process listens there
    begin, goes_on = {"x-sequence-id": "a", "x-sequence-start": "1"}, {"x-sequence-id": "a"}

    async def other(scope, receive, send):
        await JSONResponse({"said": "other"}, 409)(scope, receive, send)

    try:
        async with serving(other) as address, caller(host) as client:
            assert (await client.post(spec.route_prefix, json={"n": 1}, headers=begin)).json() == {
                "calls": 1
            }
            host.peers = {"me": "127.0.0.1:1", "other": address}
            assert (
                await client.post(spec.route_prefix, json={"n": 1}, headers=goes_on)
            ).json() == {"said": "other"}
    finally:
        await host.close()
        await library.close()
        workers.close(5)


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("10.0.0.1:30001", True),
        ("127.0.0.1:30001", True),
        ("[::1]:30001", True),
        ("10.0.0.2:30001", False),
        ("10.0.0.11:30001", False),
    ],
)
def test_a_host_of_this_machine_is_not_given_up_because_it_does_not_read(address, near):
    """It may be loading; another machine may be lost."""
    assert is_same_machine(address, "10.0.0.1:30000") == near
