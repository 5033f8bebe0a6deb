"""The replay proxy: calls are held and passed on again, within their deadline, and answers
are requested once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.ingress import replay
from deployments.ingress.replay import (
    MAX_BYTES,
    MAX_CALLS,
    MAX_PAUSE_S,
    MAX_REPLAYED_BODY_BYTES,
    MIN_PAUSE_S,
    UNKNOWN_APP_TERMS,
    ReplayProxy,
    pause_s,
)
from deployments.ingress.wake_signal import ReplayTerms
from deployments.serving.host import host_terms
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


class Serve:
    """A stand-in for Ray Serve: fails in these ways, one an attempt, then answers with the body it
    got.
    """

    def __init__(self, *failures: ASGIApp | Exception | None) -> None:
        self.failures = list(failures)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        self.bodies.append(body)
        failure = self.failures.pop(0) if self.failures else JSONResponse({"size": len(body)})
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            await failure(scope, receive, send)


TERMS = ReplayTerms(10.0, 4 << 20, 3, 8 << 20)


def standing_by(
    serve: ASGIApp, terms: ReplayTerms = TERMS, *, seconds: float = 10.0
) -> tuple[ReplayProxy, httpx.AsyncClient]:
    """A replay proxy and a client of it; each call has so many seconds."""
    standby = ReplayProxy(serve)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        late = DeadlineExceeded("late.", retry_after_s=1)
        await standby(
            scope,
            receive,
            send,
            prefix="/f",
            terms=terms,
            deadline=time.monotonic() + seconds,
            expired_error=late,
        )

    return standby, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy")


async def call(
    serve: ASGIApp,
    body: bytes | AsyncIterator[bytes] = b"{}",
    *,
    seconds: float = 10.0,
    terms: ReplayTerms = TERMS,
) -> httpx.Response:
    """Through a standby that gives the call so many seconds."""
    standby, client = standing_by(serve, terms, seconds=seconds)
    async with client:
        answer = await client.post("/v2/models/f", content=body)
    assert (
        repr(standby) == f"<ReplayProxy: 0 calls wait, <ByteBudget: 0 of {MAX_BYTES} bytes held>>"
    )
    assert not standby._queues
    return answer


BARE = PlainTextResponse("Internal Server Error", 500)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "failure",
    [
        BARE,
        PlainTextResponse("", 503),
        Response(status_code=500),
        PlainTextResponse("", 408),
        RuntimeError("died"),
        None,
    ],
)
async def test_a_call_whose_replica_dies_is_passed_on_again(failure):
    """However that looks: an excuse of Serve's, an exception, or no answer at all. The replica gets
    the same body each time.
    """
    serve = Serve(failure, failure)
    answer = await call(serve, b"the body")
    assert (answer.status_code, answer.json()) == (200, {"size": 8})
    assert serve.bodies == [b"the body"] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 400, 429, 500, 503, 504])
async def test_a_functions_own_answer_is_requested_once(status):
    """Its errors too, whatever their status."""
    serve = Serve(JSONResponse({"code": "its_own"}, status))
    answer = await call(serve)
    assert (answer.status_code, answer.json(), len(serve.bodies)) == (
        status,
        {"code": "its_own"},
        1,
    )


@pytest.mark.anyio
async def test_a_call_is_given_up_at_its_deadline():
    """As often as it was passed on."""
    serve = Serve(*[BARE] * 1000)
    answer = await call(serve, seconds=0.2)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
        504,
        "deadline_exceeded",
        "1",
    )
    assert len(serve.bodies) > 1


@pytest.mark.anyio
async def test_a_stream_may_say_that_its_time_is_over():
    """The replica ends it at the same moment, and needs a little longer to send that."""

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.sleep(0.4)
        await send({"type": "http.response.body", "body": b"event: error\ndata: {}\n\n"})

    answer = await call(Serve(streams), seconds=0.2)
    assert answer.text == "data: 1\n\nevent: error\ndata: {}\n\n"


@pytest.mark.anyio
async def test_a_body_too_long_to_be_held_is_passed_on_once():
    """The error says so, and when to call again."""
    body = b"x" * (MAX_REPLAYED_BODY_BYTES + 1)
    assert (await call(Serve(), body)).json() == {"size": len(body)}
    serve = Serve(BARE)
    lost = await call(serve, body)
    assert (lost.status_code, lost.json()["code"], lost.headers["retry-after"]) == (
        503,
        "unavailable",
        "1",
    )
    assert len(serve.bodies) == 1


@pytest.mark.anyio
async def test_a_call_whose_client_left_is_not_computed_again():
    """It disconnected while its replica died."""
    messages = iter(
        [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    )
    attempts = 0

    async def receive():
        return next(messages)

    async def serve(scope, receive, send):
        nonlocal attempts
        attempts += 1
        while (await receive())["type"] != "http.disconnect":
            pass

    async def send(message):
        pytest.fail("there is no client to be answered")

    scope = {"type": "http", "headers": []}
    late = DeadlineExceeded("")
    await ReplayProxy(serve)(
        scope,
        receive,
        send,
        prefix="/f",
        terms=TERMS,
        deadline=time.monotonic() + 10,
        expired_error=late,
    )
    assert attempts == 1


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_call_that_waits_for_a_deleted_deployment_goes_to_what_serves_its_path_then():
    """Serve would hold it until its deadline, and no replica would come."""
    declared = [True]
    attempts = 0

    async def serve(scope, receive, send):
        nonlocal attempts
        attempts += 1
        if declared[0]:
            declared[0] = False
            await asyncio.Event().wait()
        await JSONResponse({"code": "quarantined"}, 503)(scope, receive, send)

    standby = ReplayProxy(serve)

    async def app(scope, receive, send):
        late = DeadlineExceeded("")
        until, is_declared = time.monotonic() + 10, lambda: declared[0]
        await standby(
            scope,
            receive,
            send,
            prefix="/f",
            terms=TERMS,
            deadline=until,
            expired_error=late,
            is_deployed=is_declared,
        )

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://proxy"
    ) as client:
        answer = await client.post("/v2/models/f", content=b"{}")
    assert (answer.status_code, answer.json()["code"], attempts) == (503, "quarantined", 2)


def test_the_pauses_grow_to_a_bound():
    """A crashed replica is replaced within seconds, and each attempt costs the proxy."""
    assert [pause_s(attempt) for attempt in (1, 2, 3, 4, 50)] == [
        MIN_PAUSE_S,
        0.1,
        0.2,
        MAX_PAUSE_S,
        MAX_PAUSE_S,
    ]


async def chunks(size: int, *, each: int = 64 << 10) -> AsyncIterator[bytes]:
    """A body without a length; it may not end."""
    for _ in range(size // each):
        yield bytes(each)


class Hoards:
    """What Serve does while there is no replica: it takes all that arrives, and answers nothing."""

    def __init__(self) -> None:
        self.taken = 0
        self.requested = asyncio.Event()
        self.is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requested.set()
        try:
            while (message := await receive())["type"] != "http.disconnect":
                self.taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    await asyncio.Event().wait()
        finally:
            self.is_over = True


@pytest.mark.anyio
@pytest.mark.parametrize(
    "terms",
    [
        TERMS,
        ReplayTerms(10.0, 4 << 20, 3, 8 << 20, replay=False),
        ReplayTerms(10.0, 4 << 20, 3, 2 << 20),
    ],
)
async def test_a_body_larger_than_the_function_takes_is_refused_and_not_kept(terms):
    """By its length before anything is read; without one as soon as more than that has come."""
    serve = Hoards()
    long = await call(serve, bytes((4 << 20) + 1), terms=terms)
    assert (long.status_code, long.json()["code"], serve.requested.is_set()) == (
        413,
        "too_large",
        False,
    )
    assert long.json()["request_id"] == long.headers["x-request-id"] != ""
    endless = await call(serve, chunks(1 << 40), terms=terms)
    assert (endless.status_code, endless.json()["code"]) == (413, "too_large")
    assert serve.taken <= 4 << 20
    assert serve.is_over


@pytest.mark.anyio
async def test_no_more_calls_wait_than_the_function_takes():
    """The next is 429 at once, and when one leaves there is a place again."""
    serve = Hoards()
    standby, client = standing_by(serve)
    async with client:
        waiting = [asyncio.create_task(client.post("/", content=b"{}")) for _ in range(3)]
        while standby._calls < 3:
            await asyncio.sleep(0)
        refused = await client.post("/", content=b"{}")
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            429,
            "overloaded",
            "1",
        )
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        waiting.append(asyncio.create_task(client.post("/", content=b"{}")))
        await asyncio.sleep(0)
        assert standby._calls == 3
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
    assert not standby._queues


@pytest.mark.anyio
async def test_no_more_calls_wait_than_may_of_all_functions_together(monkeypatch):
    """Each is one of HAProxy's connections: many functions that wake leave some for others."""
    monkeypatch.setattr(replay, "MAX_CALLS", 8)
    standby = ReplayProxy(Hoards())
    terms = ReplayTerms(10.0, 1 << 20, 100, 1 << 20)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await standby(scope, receive, send, prefix=scope["path"], terms=terms)

    transport = httpx.ASGITransport(app)
    async with asyncio.timeout(30), httpx.AsyncClient(transport=transport) as client:
        waiting = [
            asyncio.create_task(client.post(f"http://proxy/{name}"))
            for name in "ab"
            for _ in "1234"
        ]
        while standby._calls < 8:
            await asyncio.sleep(0)
        refused = await client.post("http://proxy/c")
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "0 calls wait for a replica here and 8 in all" in refused.json()["error"]
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
    assert standby._calls == 0


@pytest.mark.anyio
async def test_no_more_bytes_wait_than_the_function_takes():
    """Two bodies of 4 MiB; a third is refused as soon as it comes, and what was counted is given
    back.
    """
    standby, client = standing_by(Hoards())
    async with client:
        waiting = [asyncio.create_task(client.post("/", content=bytes(4 << 20))) for _ in range(2)]
        while standby._bodies.held < 8 << 20:
            await asyncio.sleep(0)
        refused = [await client.post("/", content=body) for body in (b"{}", chunks(1 << 20))]
        assert [(one.status_code, one.headers["retry-after"]) for one in refused] == [
            (429, "1")
        ] * 2
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
    assert standby._bodies.held == 0


@pytest.mark.anyio
async def test_one_function_leaves_memory_for_others():
    """However many it would take."""
    terms = ReplayTerms(10.0, 1 << 30, 1 << 20, 1 << 40)
    standby, client = standing_by(Hoards(), terms)
    async with client:
        waiting = [
            asyncio.create_task(client.post("/", content=b"")) for _ in range(MAX_CALLS // 2)
        ]
        while standby._calls < MAX_CALLS // 2:
            await asyncio.sleep(0)
        assert (await client.post("/", content=b"")).status_code == 429
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)


@pytest.mark.anyio
@pytest.mark.parametrize("failure", [BARE, RuntimeError("died"), None])
async def test_a_call_whose_function_declines_replay_is_passed_on_once(failure):
    """It may have been computed: the client gets the error, and decides."""
    serve = Serve(failure)
    lost = await call(serve, terms=ReplayTerms(10.0, 1000, 3, 4000, replay=False))
    assert (lost.status_code, lost.json()["code"], len(serve.bodies)) == (503, "unavailable", 1)
    assert "limits.replay" in lost.json()["error"]


@pytest.mark.anyio
async def test_what_is_not_ours_is_bounded_and_nothing_else():
    """Serve's answer is the answer, an error in plain text too, and it has the time that Serve
    gives it.
    """
    standby = ReplayProxy(serve := Serve(BARE))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await standby(scope, receive, send, prefix="", terms=UNKNOWN_APP_TERMS)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://proxy"
    ) as client:
        answer = await client.post("/shop", content=b"{}")
        assert (answer.status_code, answer.text, len(serve.bodies)) == (
            500,
            "Internal Server Error",
            1,
        )
        large = await client.post(
            "/shop", content=b"", headers={"content-length": str(MAX_BYTES + 1)}
        )
        assert (large.status_code, large.json()["code"]) == (413, "too_large")


def test_a_call_waits_for_a_host_that_has_no_function_yet():
    """Or no more: the host says that there is none, as soon as it is up."""
    empty = host_terms([], "host")
    assert min(empty.max_calls, empty.max_body_bytes) > 0
    assert empty.max_bytes >= empty.max_body_bytes
    one = FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx"})
    assert host_terms([one], "host") == empty
