"""The proxy that stands by for functions without a replica: it holds a call until there is one, and sends it again if that one dies.

HAProxy sends calls here when no replica of a function is up: it sleeps at zero, it is being replaced, or its only replica has just died
with the call in it. Ray Serve's proxy passes them to a replica as soon as one is there, but answers a bare 500 for a call that was with a
replica when it died, and for as long as it has not heard of that death. Inference is pure, so such a call is simply passed on again:
after a pause, within its deadline. What is an answer of the function's, an error included, is never asked for twice.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import Unavailable, WakefulError
from runtime.http.exchange import header, request_id, send_error

HELD_BODY_BYTES: Final = 1024 * 1024
"""A longer body is passed on once, as it comes. HAProxy sends again what fits its buffer, 64 KiB."""

HELD_BYTES: Final = 64 * 1024 * 1024
"""Of all calls that are held; beyond it bodies are passed on once."""

LAST_S: Final = 2.0
"""Beyond its deadline, for an answer that streams: whoever computes it says in it that the time is over, and the caller is to hear so."""

LOOK_S: Final = 1.0
"""How often it is asked whether what a call waits for still exists."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 0.4
"""An attempt costs this process 5 ms; a dead replica is replaced within one to five seconds."""


def pause_s(attempt: int) -> float:
    """Seconds before the next attempt, after ``attempt`` of them."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 10))


def is_serves_own(start: Message) -> bool:
    """Whether a response is Serve's excuse and no answer of a function's: those are JSON or binary, whatever their status."""
    if start["status"] < 500 and start["status"] != 408:
        return False
    kinds = [value for key, value in start["headers"] if key.lower() == b"content-type"]
    return not kinds or not kinds[0].startswith((b"application/json", b"application/octet-stream"))


def lengthen(wait: asyncio.Timeout) -> None:
    """The answer that is waited for has begun, and streams."""
    until = wait.when()
    if until is not None and not wait.expired():
        wait.reschedule(until + LAST_S)


class Standby:
    """Around Serve's handling of a request in its proxy.

    Mutable state: ``_held``, bytes of the bodies in hand.
    """

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve
        self._held = 0.0

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        deadline: float,
        late: WakefulError,
        is_declared: Callable[[], bool] = lambda: False,
    ) -> None:
        """One exchange, answered by its deadline.

        Args:
            deadline: seconds, ``time.monotonic``.
            late: what is answered when it is over.
            is_declared: asked each second whether the deployment that is waited for still exists. Serve waits for one that was deleted as
                for any other; here the call goes to who serves its path from then on.
        """
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()) as wait:
                answer = _Answer(send, wait)
                if await self._attempts(scope, receive, answer, is_declared):
                    return
        except TimeoutError:
            if answer.has_begun:
                raise
            await send_error(send, late, request_id(scope))
            return
        lost = "the replica that had this call died, and the body is too long to be held here and sent again; call again."
        await send_error(send, Unavailable(lost, retry_after_s=1), request_id(scope))

    async def _attempts(self, scope: Scope, receive: Receive, answer: _Answer, is_declared: Callable[[], bool]) -> bool:
        """Whether the caller was answered, or left."""
        size = _length(scope)
        if size > HELD_BODY_BYTES or self._held + size > HELD_BYTES:
            return await self._attempt(scope, receive, answer, is_declared)
        self._held += size
        try:
            again = _Again(receive)
            await again.gather()
            attempt = 0
            while not again.has_left and not await self._attempt(dict(scope), again.once_more(), answer, is_declared):
                attempt += 1
                await asyncio.sleep(pause_s(attempt))
        finally:
            self._held -= size
        return True

    async def _attempt(self, scope: Scope, receive: Receive, answer: _Answer, is_declared: Callable[[], bool]) -> bool:
        """Whether a function answered. A death may look like an excuse of Serve's, an exception, or nothing at all."""
        was_declared = is_declared()
        serving = asyncio.ensure_future(self._serve(scope, receive, answer))
        serving.add_done_callback(_seen)
        try:
            while not serving.done():
                await asyncio.wait({serving}, timeout=LOOK_S)
                if was_declared and not answer.has_begun and not is_declared():
                    serving.cancel()
                    await asyncio.wait({serving}, timeout=LOOK_S)  # it must not speak once another attempt does
                    return False
        finally:
            serving.cancel()
        if answer.has_begun:
            serving.result()  # raises what cut it off
        return answer.has_begun


def _seen(serving: asyncio.Future[None]) -> None:
    if not serving.cancelled():
        serving.exception()


class _Answer:
    """Passes an answer on, unless it is Serve's excuse.

    Args:
        wait: for the call's deadline; one that streams has ``LAST_S`` more.
    """

    def __init__(self, send: Send, wait: asyncio.Timeout) -> None:
        self._send = send
        self._wait = wait
        self._is_excuse = False
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_excuse = is_serves_own(message)
            if not self._is_excuse and b"content-length" not in {key.lower() for key, _ in message["headers"]}:
                lengthen(self._wait)
        if not self._is_excuse:
            self.has_begun = True
            await self._send(message)


class _Again:
    """Receives a body that is in hand as often as it is wanted, and whatever else the caller does.

    Mutable state: ``has_left``; ``_body``, whole once gathered; ``_is_due``, whether it is what comes next.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body = b""
        self._is_due = False
        self.has_left = False

    async def gather(self) -> None:
        """Reads it all."""
        chunks = []
        while True:
            message = await self._heard()
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._body = b"".join(chunks)
                return

    def once_more(self) -> Receive:
        """For the next attempt."""
        self._is_due = True
        return self._next

    async def _next(self) -> Message:
        if not self._is_due:
            return await self._heard()
        self._is_due = False
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _heard(self) -> Message:
        message = await self._receive()
        self.has_left |= message["type"] == "http.disconnect"
        return message


def _length(scope: Scope) -> float:
    """Of the body; without a Content-Length it may be of any."""
    said = header(scope, b"content-length")
    if said.isdigit():
        return int(said)
    return math.inf if header(scope, b"transfer-encoding") else 0
