"""Holds the calls of functions without a replica until one answers, and sends a call again if its
replica dies. Runs in Ray Serve's proxy, which is HAProxy's backup server.

HAProxy sends calls here when no replica of a function is up: it sleeps at zero, it is being
replaced, or its only replica has just died with the call in it. Ray Serve's proxy passes them to a
replica as soon as there is one, but answers a bare 500 for a call that was with a replica when it
died, and for as long as it does not know of that death. Inference is pure, so such a call is sent
again: after a pause, within its deadline. An answer of the function's, an error included, is never
asked for twice, and a call whose function declines it (``limits.replay``) is sent once.

Calls that wait here are bounded before they are held, by the function's own limits
(``deployments.ingress.wake_signal.ReplayTerms``) and by those of this process: Serve would keep all
that a client sends, whatever its length, in a queue without a bound.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.wake_signal import ReplayTerms
from deployments.ray_support.environment import CONNECTIONS
from deployments.ray_support.texts import is_error_page
from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import Overloaded, TooLarge, Unavailable, WakefulError
from runtime.http.exchange import REQUEST_ID, error_response
from runtime.http.request_headers import printable_id

MAX_REPLAYED_BODY_BYTES: Final = 1024 * 1024
"""A longer body is passed on once, as it arrives. HAProxy sends again what fits its buffer, 64 KiB.
"""

MAX_BYTES: Final = 256 * 1024 * 1024
"""Of the bodies of all calls that wait here: Serve keeps what has arrived until there is a replica.
"""

MAX_CALLS: Final = CONNECTIONS // 4
"""That wait here, of all functions: each is one of HAProxy's connections, and the others are for
calls that are answered.
"""

RETRY_AFTER_S: Final = 1.0
"""After which a client that is refused here may call again."""

LOST: Final = (
    "the replica that had this call died, and the body is too long to be held here and sent again; "
    "call again."
)
NOT_REPLAYED: Final = (
    "no replica has answered this call, and limits.replay says that it is not sent again; it may "
    "have been computed."
)

UNKNOWN_APP_TERMS: Final = ReplayTerms(math.inf, MAX_BYTES, MAX_CALLS, MAX_BYTES, replay=False)
"""For applications that are not known to be ours: their calls are bounded, nothing else."""

STREAM_GRACE_S: Final = 2.0
"""After its deadline, for an answer that streams: the replica says in the stream that the time is
over, and the client is to get that.
"""

CHECK_S: Final = 1.0
"""How often it is checked whether the deployment that a call waits for still exists."""

MIN_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 0.4
"""An attempt costs this process 5 ms; a dead replica is replaced within one to five seconds."""


def pause_s(attempt: int) -> float:
    """Return the seconds before the next attempt, after ``attempt`` of them."""
    return min(MAX_PAUSE_S, MIN_PAUSE_S * 2.0 ** min(attempt - 1, 10))


def extend_for_stream(timeout: asyncio.Timeout) -> None:
    """Give an answer that has begun, and streams, ``STREAM_GRACE_S`` more."""
    until = timeout.when()
    if until is not None and not timeout.expired():
        timeout.reschedule(until + STREAM_GRACE_S)


class ReplayProxy:
    """An ASGI application around Serve's handling of a request in its proxy.

    Mutable state: ``_bodies`` (bytes of all calls), ``_calls`` that wait, ``_queues`` (both by
    prefix, while calls wait there).
    """

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve
        self._bodies = ByteBudget(lambda: MAX_BYTES)
        self._calls = 0
        self._queues: dict[str, _PrefixQueue] = {}

    def __repr__(self) -> str:
        return f"<ReplayProxy: {self._calls} calls wait, {self._bodies!r}>"

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        prefix: str,
        terms: ReplayTerms,
        deadline: float = math.inf,
        expired_error: WakefulError | None = None,
        is_deployed: Callable[[], bool] = lambda: False,
    ) -> None:
        """Answer one request by its deadline; refuse it at once if more waits than may.

        Args:
            prefix: of what is called; waiting calls are counted by it.
            terms: bound what may wait there.
            deadline: seconds, ``time.monotonic``; infinity leaves it to Serve.
            expired_error: the answer at the deadline; None: Serve's responses are passed on as they
                are, its errors included.
            is_deployed: called each second: whether the deployment that is waited for still exists.
                Serve waits for one that was deleted as for any other; here the call then goes to
                what serves its path from then on.
        """
        queue = self._queues.get(prefix) or _PrefixQueue(terms)
        reservation = BodyReservation((queue.bodies, self._bodies), lambda: RETRY_AFTER_S)
        body = _ReplayableBody(scope, receive, terms.max_body_bytes, reservation)
        try:
            self._refuse_if_full(queue)
            body.refuse_by_length()
        except WakefulError as error:
            await send_refusal(scope, send, error)
            return
        queue.terms = terms
        queue.calls += 1
        self._calls += 1
        self._queues[prefix] = queue
        try:
            await self._answer(scope, body, send, terms, deadline, expired_error, is_deployed)
        finally:
            body.end()
            self._calls -= 1
            queue.calls -= 1
            if not queue.calls:
                del self._queues[prefix]

    def _refuse_if_full(self, queue: _PrefixQueue) -> None:
        if queue.calls >= queue.max_calls or self._calls >= MAX_CALLS:
            raise Overloaded(
                f"{queue.calls} calls wait for a replica here and {self._calls} in all; "
                f"{queue.max_calls} and {MAX_CALLS} may. "
                "Call again, or raise limits.max_queued_requests.",
                retry_after_s=RETRY_AFTER_S,
            )

    async def _answer(
        self,
        scope: Scope,
        body: _ReplayableBody,
        send: Send,
        terms: ReplayTerms,
        deadline: float,
        expired_error: WakefulError | None,
        is_deployed: Callable[[], bool],
    ) -> None:
        until = None
        if expired_error is not None:
            until = asyncio.get_running_loop().time() + deadline - time.monotonic()
        try:
            async with asyncio.timeout_at(until) as timeout:
                answer = _AttemptAnswer(send, timeout, takes_all=expired_error is None)
                if await self._attempt_until_answered(scope, body, answer, terms, is_deployed):
                    return
        except TimeoutError:
            if answer.has_begun:
                raise
            assert expired_error is not None
            await send_refusal(scope, send, expired_error)
            return
        except WakefulError as error:  # the body is more than may wait
            if answer.has_begun:
                raise
            await send_refusal(scope, send, error)
            return
        lost = Unavailable(LOST if terms.replay else NOT_REPLAYED, retry_after_s=RETRY_AFTER_S)
        await send_refusal(scope, send, lost)

    async def _attempt_until_answered(
        self,
        scope: Scope,
        body: _ReplayableBody,
        answer: _AttemptAnswer,
        terms: ReplayTerms,
        is_deployed: Callable[[], bool],
    ) -> bool:
        """Return whether the client was answered, or has disconnected."""
        if not terms.replay or body.length > MAX_REPLAYED_BODY_BYTES:
            return await self._attempt(scope, body, answer, is_deployed, body.receive)
        await body.read()
        attempt = 0
        while not body.is_disconnected and not await self._attempt(
            dict(scope), body, answer, is_deployed, body.replay()
        ):
            attempt += 1
            await asyncio.sleep(pause_s(attempt))
        return True

    async def _attempt(
        self,
        scope: Scope,
        body: _ReplayableBody,
        answer: _AttemptAnswer,
        is_deployed: Callable[[], bool],
        receive: Receive,
    ) -> bool:
        """Return whether a function answered. A replica's death may show as Serve's error page, as
        an exception, or not at all.

        Raises:
            TooLarge, Overloaded: more of the body has arrived than may wait.
        """
        was_deployed = is_deployed()
        serving = asyncio.ensure_future(self._serve(scope, receive, answer))
        serving.add_done_callback(_retrieve_exception)
        ends: set[asyncio.Future[Any]] = {serving, body.refused}
        try:
            while not serving.done():
                await asyncio.wait(ends, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
                is_deleted = was_deployed and not answer.has_begun and not is_deployed()
                if is_deleted or body.refused.done():
                    serving.cancel()
                    # it must not send anything once another attempt does
                    await asyncio.wait({serving}, timeout=CHECK_S)
                    if body.refused.done():
                        raise body.refused.result()
                    return False
        finally:
            serving.cancel()
        if answer.is_final:
            serving.result()  # raises what cut it off
        return answer.is_final


class _PrefixQueue:
    """The calls that wait under one prefix: at most half of all, so that others fit as well.

    Mutable state: ``calls``, and ``bodies`` with their bytes; ``terms``, the last that were read.
    """

    def __init__(self, terms: ReplayTerms) -> None:
        self.terms = terms
        self.calls = 0
        self.bodies = ByteBudget(lambda: min(self.terms.max_bytes, MAX_BYTES // 2))

    @property
    def max_calls(self) -> int:
        """Calls that may wait at once."""
        return min(self.terms.max_calls, MAX_CALLS // 2)


def _retrieve_exception(serving: asyncio.Future[None]) -> None:
    if not serving.cancelled():
        serving.exception()


class _AttemptAnswer:
    """An ASGI ``send`` that passes an answer on, unless it is Serve's own error page.

    Args:
        timeout: of the call; an answer that streams has ``STREAM_GRACE_S`` more.
        takes_all: Serve's error page is passed on, too.
    """

    def __init__(self, send: Send, timeout: asyncio.Timeout, *, takes_all: bool) -> None:
        self._send = send
        self._timeout = timeout
        self._takes_all = takes_all
        self._is_serve_error = False
        self.has_begun = False

    @property
    def is_final(self) -> bool:
        """Whether no other attempt may follow."""
        return self.has_begun or self._takes_all

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_serve_error = not self._takes_all and is_error_page(
                message["status"], message["headers"]
            )
            names = {key.lower() for key, _ in message["headers"]}
            if not self._is_serve_error and b"content-length" not in names:
                extend_for_stream(self._timeout)
        if not self._is_serve_error:
            self.has_begun = True
            await self._send(message)


class _ReplayableBody:
    """A body that is counted as it arrives, and can be received again once it is read; and the
    client's disconnect.

    Args:
        reservation: counts what has arrived.

    Attributes:
        length: of the body, by its head; infinity where that does not say.
        refused: why it is more than may wait, from the moment when it is; from then on ``receive``
            says that the client disconnected.
        is_disconnected: whether the client has disconnected.

    Mutable state: ``is_disconnected``; ``_body``, once it is read; ``_is_due``, whether it is what
    comes next.
    """

    def __init__(
        self, scope: Scope, receive: Receive, max_bytes: int, reservation: BodyReservation
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._reservation = reservation
        self._body = b""
        self._is_due = False
        self.length = _read_length(scope)
        self.refused: asyncio.Future[WakefulError] = asyncio.get_running_loop().create_future()
        self.is_disconnected = False

    def refuse_by_length(self) -> None:
        """Check the length before anything is read.

        Raises:
            TooLarge: by its head the body is longer than it may be.
            Overloaded: a budget has not so much left.
        """
        if math.isfinite(self.length):
            if self.length > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._reservation.require(int(self.length))

    async def read(self) -> None:
        """Read the whole body.

        Raises:
            TooLarge, Overloaded: as soon as more has arrived than may wait.
        """
        chunks = []
        while True:
            message = await self.receive()
            if self.refused.done():
                raise self.refused.result()
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._body = b"".join(chunks)
                return

    def replay(self) -> Receive:
        """Return a ``receive`` for the next attempt."""
        self._is_due = True
        return self._receive_again

    def end(self) -> None:
        """Give the bytes back."""
        self._reservation.end()
        self.refused.cancel()

    async def receive(self) -> Message:
        """Return the client's next message."""
        if self.refused.done():
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            size = self._reservation.size + len(message.get("body", b""))
            try:
                if size > self._max_bytes:
                    raise _too_large(self._max_bytes)
                self._reservation.extend_to(size)
            except WakefulError as error:
                self.refused.set_result(error)
                return {"type": "http.disconnect"}
        self.is_disconnected |= message["type"] == "http.disconnect"
        return message

    async def _receive_again(self) -> Message:
        if not self._is_due:
            return await self.receive()
        self._is_due = False
        return {"type": "http.request", "body": self._body, "more_body": False}


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than the {max_bytes} bytes that are taken here; send it in parts."
    )


def _read_length(scope: Scope) -> float:
    """Return the length of the body; without a Content-Length it may have any."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        return int(length)
    return math.inf if b"transfer-encoding" in headers else 0


async def send_refusal(scope: Scope, send: Send, error: WakefulError) -> None:
    """Answer a request with an error, and with an id where it has none: Serve would give it one."""
    request_id = printable_id(dict(scope["headers"]).get(REQUEST_ID, b"")) or uuid.uuid4().hex
    response = error_response(error, request_id)
    response.headers = [*response.headers, (REQUEST_ID, request_id.encode())]
    await response.send_to(send)
