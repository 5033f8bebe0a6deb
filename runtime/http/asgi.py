"""The transport for everything: a handler as an ASGI application, which reads bodies as they come,
watches for a client's disconnect, sends long and streamed responses, and gives every request an id.

Reading and watching. Both end by cancelling the task that serves the request, from a timer or from
a watch task. Most bodies arrive with their head and most calls are answered within milliseconds, so
neither costs more than a timer: ``asyncio.timeout`` was 3 % of a short call, and the watch task
begins only for calls that take longer.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.batching.reservation import BodyReservation
from runtime.errors import Draining, SlowUpload
from runtime.http.bodies.chunks import CHUNK_BYTES, join, too_large_error
from runtime.http.bodies.content_encoding import ContentDecoder
from runtime.http.cors import CorsPolicy, ForeignPages, foreign_error, is_of_console
from runtime.http.exchange import (
    SCOPE_KEY,
    AnyResponse,
    ClientDisconnected,
    Handler,
    Request,
    Response,
    StreamedResponse,
    normalized_path,
    response_headers,
)
from runtime.http.request_headers import RequestDeadline
from runtime.http.transport import direct_io, file_sender, hot_connection
from runtime.http.transport.peer import NOT_READ
from runtime.http.transport.protocol import RequestProtocol, protocol_of
from runtime.system.telemetry.counters import DISCONNECTED, ProcessCounters

UPLOAD_TIMEOUT_S = 30.0
"""A body that has not arrived after this time is a slow upload: it must not hold a connection and
memory for ever.
"""

WATCH_AFTER_S = 0.25
"""A client that disconnects costs at most this much computing. At 0.05 every second call of a busy
MiniLM (64 clients) paid for a watch.
"""


class AsgiApp:
    """The ASGI application of a handler.

    Args:
        handler: answers; not closed here.
        fallback: answers what the handler has no path for; None: the handler answers everything.
        cors: lets pages of other origins call, and answers their preflights; None: none may.
        foreign: knows the pages of other sites that may not call; None: what stands in front does.
        counters: of the process, which counts requests that are no calls of functions; None: none
            are counted.
        gives_ids: whether a request without an id gets one, and each response has it. False where
            the server does that: Ray Serve, for requests that take its own way.

    Mutable state: ``handler``.
    """

    def __init__(
        self,
        handler: Handler,
        fallback: ASGIApp | None = None,
        *,
        cors: CorsPolicy | None = None,
        foreign: ForeignPages | None = None,
        counters: ProcessCounters | None = None,
        gives_ids: bool = True,
    ) -> None:
        self.handler = handler
        self.cors = cors
        self.foreign = foreign
        self.counters = counters
        self._fallback = fallback
        self._gives_ids = gives_ids

    def change_handler(self, handler: Handler, send: Send) -> None:
        """From now on this handler answers, on connections that were taken over as well. A request
        that has begun stays with the one before.

        Args:
            send: of any request of the same server.
        """
        self.handler = handler
        hot_connection.change_handler(send, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or the lifespan that servers ask every application for."""
        if scope["type"] != "http":
            await answer_other_scope(scope, receive, send)
            return
        request = AsgiRequest(scope, receive, gives_id=self._gives_ids)
        if self.cors is not None and not is_of_console(request.path):
            request.cors = self.cors
        protocol = protocol_of(send)
        response_send = _ResponseSend(request, send, is_http_1_0=scope.get("http_version") == "1.0")
        try:
            is_long = await self._answer(request, scope, receive, response_send, protocol)
            hot_connection.take_over(send, self.handler, self.cors, self.foreign)
            if is_long and protocol is not None:
                # what is left here counts as the call's until then
                await protocol.wait_until_read()
        except ClientDisconnected:
            # what a stream said at its end has no reader
            request.record.code = request.record.reason = ""
            return
        except asyncio.CancelledError:
            if not self._gives_ids:
                raise
            # by the server, which ends; nothing awaits this task
            if not response_send.has_begun:
                error = Draining(
                    "the process ended before this call was answered; call again.", retry_after_s=1
                )
                await request.error_response(error).send_to(response_send)
        finally:
            if protocol is not None:
                protocol.bound_reading(True)
                if protocol.reader.has_cut:
                    request.record.status, request.record.code = DISCONNECTED, NOT_READ
            request.end()
            if request.record.counters is None and self.counters is not None:
                self.counters.record_other(request.record)

    async def _answer(
        self,
        request: AsgiRequest,
        scope: Scope,
        receive: Receive,
        send: Send,
        protocol: RequestProtocol | None,
    ) -> bool:
        """Send the response; return whether it is a long one, of which much may be unread."""
        try:
            with request:
                response: AnyResponse | None = self._own_response(request)
                if response is None:
                    response = await self.handler.handle(request)
                if isinstance(response, StreamedResponse):
                    if protocol is not None:
                        protocol.bound_reading(False)
                    await response.send_to(send)
                    return False
        except ClientDisconnected:
            raise
        except Exception as error:  # every fault becomes a response here
            response = request.error_response(error)
        if protocol is not None:
            protocol.bounds_reader = True
        if response is not None:
            request.record.code = response.code
            await response.send_to(send)
            return response.length > CHUNK_BYTES
        if self._fallback is not None:
            inner = {**scope, "headers": request.headers, SCOPE_KEY: request}
            await self._fallback(inner, receive, send)
        return False

    def _own_response(self, request: Request) -> Response | None:
        """Return the response to a page of another origin that no handler sees: to a preflight, or
        a refusal. None: it is neither.
        """
        if (
            request.cors is not None
            and request.method == "OPTIONS"
            and request.get(b"access-control-request-method")
        ):
            asked = request.get(b"access-control-request-headers")
            return Response((b"",), request.cors.preflight_headers(request.get(b"origin"), asked))
        foreign = self.foreign
        if foreign is not None and foreign.refuses(request.method, request.path, request.fields):
            return request.error_response(foreign_error())
        return None


class AsgiRequest(Request):
    """A request of an ASGI server: ``with request:`` around all that is done for it ends that work
    at its deadline, or when the client disconnects.

    Raises, out of the block:
        SlowUpload, DeadlineExceeded, ClientDisconnected: as ``read_body``; what was awaited in the
            block has been cancelled.

    Mutable state: ``_timer`` (the wait that runs), ``_watch`` (the task that waits for the
    disconnect), ``_error`` (why the block was cancelled, if it was from here).
    """

    __slots__ = ("_error", "_loop", "_receive", "_task", "_timer", "_watch")

    def __init__(self, scope: Scope, receive: Receive, *, gives_id: bool = True) -> None:
        super().__init__(
            scope["method"],
            normalized_path(scope["path"], raw_path := scope.get("raw_path") or b""),
            list(scope["headers"]),
            raw_path=raw_path,
            query=scope.get("query_string", b""),
            gives_id=gives_id,
        )
        self.prefix = scope.get("root_path", "")
        self._receive = receive
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = task.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._error: Exception | None = None

    def __enter__(self) -> AsgiRequest:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._error is not None and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise self._error

    async def _receive_body(
        self,
        length: int,
        max_body_bytes: int,
        reservation: BodyReservation,
        deadline: RequestDeadline,
        tensors_at: int | None,
        decoder: ContentDecoder | None = None,
    ) -> bytes | memoryview:
        remaining_s = deadline.remaining_s(time.monotonic())
        self._timer = self._loop.call_later(
            min(UPLOAD_TIMEOUT_S, remaining_s),
            self._on_upload_timeout,
            None if remaining_s > UPLOAD_TIMEOUT_S else deadline,
        )
        is_direct = (
            tensors_at is not None
            and length >= direct_io.MIN_DIRECT_BYTES
            and direct_io.can_read_directly(self._receive)
        )
        body = await (
            self._read_directly(length, tensors_at or 0, reservation)
            if is_direct
            else self._read_messages(max_body_bytes, reservation, decoder)
        )
        self._timer.cancel()
        self._timer = self._loop.call_later(WATCH_AFTER_S, self._start_watch)
        return body

    async def _read_directly(
        self, length: int, tensors_at: int, reservation: BodyReservation
    ) -> memoryview:
        """Read a body of known length past the server; its first part is in a message of the
        server's already.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        memory = direct_io.aligned_memory(length, tensors_at)
        chunk = message.get("body", b"")
        memory[: len(chunk)] = chunk
        reservation.extend_to(len(chunk))
        if message.get("more_body", False):
            before = len(chunk)
            if not await direct_io.read_into(
                self._receive,
                memory[before:],
                lambda received: reservation.extend_to(before + received),
            ):
                raise ClientDisconnected
        return memory.toreadonly()

    async def _read_messages(
        self, max_body_bytes: int, reservation: BodyReservation, decoder: ContentDecoder | None
    ) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > max_body_bytes:
                raise too_large_error(max_body_bytes)
            if decoder is not None:
                await decoder.feed(chunk)  # counts what it keeps
            else:
                reservation.extend_to(size)
                if chunk:
                    chunks.append(chunk)
            if not message.get("more_body", False):
                return await join(chunks, size)

    def watch(self) -> None:
        """As of ``Request``; else the watch begins after ``WATCH_AFTER_S``."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is None:
            self._start_watch()

    def _start_watch(self) -> None:
        self._watch = self._loop.create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        if (await self._receive())["type"] == "http.disconnect":
            self._cancel(ClientDisconnected())

    def _on_upload_timeout(self, deadline: RequestDeadline | None) -> None:
        self._cancel(
            SlowUpload(f"the body did not arrive within {UPLOAD_TIMEOUT_S:g} s.")
            if deadline is None
            else deadline.expired_error()
        )

    def _cancel(self, error: Exception) -> None:
        self._error = error
        self._task.cancel()


# Responses.


class _ResponseSend:
    """``send`` with the request's id in the response, whose head travels with the first part of its
    body.

    Args:
        is_http_1_0: of the request: a response without a length then ends with the connection.

    Attributes:
        has_begun: whether the head was sent.

    Mutable state: this; ``_start``, the head until then; ``_ends_by_close``.
    """

    def __init__(self, request: Request, send: Send, *, is_http_1_0: bool) -> None:
        self._request = request
        self._send = send
        self._is_http_1_0 = is_http_1_0
        self._ends_by_close = False
        self._start: Message | None = None
        self.has_begun = False

    @property
    def has_left(self) -> bool:
        """Whether the client is gone, so that nothing more is sent."""
        return direct_io.has_left(self._send)

    async def send_file(self, message: Message) -> bool | None:
        """Send a part of a file on disk as the body. None: this server has no way to; False: the
        client has left, or the file is shorter.

        Args:
            message: ``file`` (a descriptor), ``offset``, ``count``, and ``read_ahead`` as of
                ``file_sender.send_file``.
        """
        if self._start is not None:
            await self({"type": "http.response.body", "body": b"", "more_body": True})
            await asyncio.sleep(0)  # uvloop writes at the end of a turn
        if self.has_left:
            return False
        if self._ends_by_close or not file_sender.can_send_files(self._send):
            return None
        start, count = message["offset"], message["count"]
        is_sent = await file_sender.send_file(
            self._send, message["file"], start, start + count, message["read_ahead"]
        )
        self._request.record.sent_bytes += count if is_sent else 0
        return is_sent

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = response_headers(self._request, message["headers"])
            self._start = message
            self._ends_by_close = self._is_http_1_0 and not any(
                name == b"content-length" for name, _ in message["headers"]
            )
        elif self._start is not None:
            head, self._start, self.has_begun = self._start, None, True
            record = self._request.record
            record.status = head["status"]
            record.sent_bytes += len(message.get("body", b""))
            await direct_io.send_in_one_write(
                self._send, head, message, ends_by_close=self._ends_by_close
            )
        else:
            self._request.record.sent_bytes += len(message.get("body", b""))
            if self._ends_by_close:
                await direct_io.send_until_close(self._send, message)
            else:
                await self._send(message)


async def answer_other_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Acknowledge the lifespan; refuse a WebSocket by closing it."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
