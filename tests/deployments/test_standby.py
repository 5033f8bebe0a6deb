"""The proxy that stands by: calls are held and passed on again, within their deadline, and answers are asked for once."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.standby import FIRST_PAUSE_S, HELD_BODY_BYTES, LONGEST_PAUSE_S, Standby, pause_s
from runtime.errors import DeadlineExceeded


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


class Serve:
    """What stands for Ray Serve: fails in these ways, one an attempt, then answers with the body it got."""

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


async def call(serve: ASGIApp, body: bytes = b"{}", *, seconds: float = 10.0) -> httpx.Response:
    """Through a standby that gives the call so many seconds."""
    standby = Standby(serve)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await standby(scope, receive, send, deadline=time.monotonic() + seconds, late=DeadlineExceeded("late.", retry_after_s=1))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy") as client:
        answer = await client.post("/v2/models/f", content=body)
    assert standby._held == 0
    return answer


BARE = PlainTextResponse("Internal Server Error", 500)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "failure", [BARE, PlainTextResponse("", 503), Response(status_code=500), PlainTextResponse("", 408), RuntimeError("died"), None]
)
async def test_a_call_whose_replica_dies_is_passed_on_again(failure):
    """However that looks: an excuse of Serve's, an exception, or no answer at all. The replica gets the same body each time."""
    serve = Serve(failure, failure)
    answer = await call(serve, b"the body")
    assert (answer.status_code, answer.json()) == (200, {"size": 8})
    assert serve.bodies == [b"the body"] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 400, 429, 500, 503, 504])
async def test_a_functions_own_answer_is_asked_for_once(status):
    """Its errors too, whatever their status."""
    serve = Serve(JSONResponse({"code": "its_own"}, status))
    answer = await call(serve)
    assert (answer.status_code, answer.json(), len(serve.bodies)) == (status, {"code": "its_own"}, 1)


@pytest.mark.anyio
async def test_a_call_is_given_up_at_its_deadline():
    """As often as it was passed on."""
    serve = Serve(*[BARE] * 1000)
    answer = await call(serve, seconds=0.2)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (504, "deadline_exceeded", "1")
    assert len(serve.bodies) > 1


@pytest.mark.anyio
async def test_a_stream_may_say_that_its_time_is_over():
    """Who computes it ends it at the same moment, and needs a little longer to say so."""

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.sleep(0.4)
        await send({"type": "http.response.body", "body": b"event: error\ndata: {}\n\n"})

    answer = await call(Serve(streams), seconds=0.2)
    assert answer.text == "data: 1\n\nevent: error\ndata: {}\n\n"


@pytest.mark.anyio
async def test_a_body_too_long_to_be_held_is_passed_on_once():
    """The caller is told so, and when to call again."""
    body = b"x" * (HELD_BODY_BYTES + 1)
    assert (await call(Serve(), body)).json() == {"size": len(body)}
    serve = Serve(BARE)
    lost = await call(serve, body)
    assert (lost.status_code, lost.json()["code"], lost.headers["retry-after"]) == (503, "unavailable", "1")
    assert len(serve.bodies) == 1


@pytest.mark.anyio
async def test_a_caller_who_left_is_not_computed_again():
    """He hung up while his replica died."""
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])
    attempts = 0

    async def receive():
        return next(messages)

    async def serve(scope, receive, send):
        nonlocal attempts
        attempts += 1
        while (await receive())["type"] != "http.disconnect":
            pass

    async def send(message):
        pytest.fail("nobody is there to be answered")

    scope = {"type": "http", "headers": []}
    await Standby(serve)(scope, receive, send, deadline=time.monotonic() + 10, late=DeadlineExceeded(""))
    assert attempts == 1


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_call_that_waits_for_a_deleted_deployment_goes_to_who_serves_its_path_then():
    """Serve would hold it until its deadline, and nobody would come."""
    declared = [True]
    attempts = 0

    async def serve(scope, receive, send):
        nonlocal attempts
        attempts += 1
        if declared[0]:
            declared[0] = False
            await asyncio.Event().wait()
        await JSONResponse({"code": "quarantined"}, 503)(scope, receive, send)

    standby = Standby(serve)

    async def app(scope, receive, send):
        late = DeadlineExceeded("")
        await standby(scope, receive, send, deadline=time.monotonic() + 10, late=late, is_declared=lambda: declared[0])

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy") as client:
        answer = await client.post("/v2/models/f", content=b"{}")
    assert (answer.status_code, answer.json()["code"], attempts) == (503, "quarantined", 2)


def test_the_pauses_grow_to_a_bound():
    """A dead replica is replaced within seconds, and each attempt costs the proxy."""
    assert [pause_s(attempt) for attempt in (1, 2, 3, 4, 50)] == [FIRST_PAUSE_S, 0.1, 0.2, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
