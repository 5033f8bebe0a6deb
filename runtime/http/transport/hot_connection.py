"""The transport for short calls: a connection on which whole small requests of loaded functions are
answered without the server.

uvicorn costs more than the rest of a short call: a parser with six callbacks, a scope, a task, an
event, and a message for each part. So uvicorn (as Ray Serve starts it, or ``wakeful run``) serves
the first request of a connection, and then ``take_over`` puts a ``HotConnection`` between the
socket and uvicorn's protocol. HAProxy keeps its connections to replicas, so nearly all calls come
by one.

Theory of operation: what arrives in one read is answered here if it is one whole POST whose target
``Handler.is_hot`` knows, with a plain head; anything else goes to uvicorn's protocol as it came. A
connection has one request at a time: what arrives meanwhile waits, and reading is paused. The
handler's coroutine runs without a task: it is stepped here, and again when what it awaits is done,
which is always the answer of the batcher or a piece of work in a thread. A response that is sent as
it is computed (lines of a call with many rows) has a task.

No meaning is decided here: the same handler answers, with the same bytes but for the id and the
times (``tests/runtime/http/test_transports.py``).

What it takes for granted of uvicorn's protocol: ``assumptions.shortcuts``, and of its keep-alive
timer, which would close a connection that it believes to be idle, ``assumptions.reading``.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Send

from runtime.errors import Draining
from runtime.http.bodies.chunks import CHUNK_BYTES, chunked
from runtime.http.cors import SAID_BY_BROWSERS, CorsPolicy, ForeignPages
from runtime.http.exchange import (
    AnyResponse,
    ClientDisconnected,
    Handler,
    Request,
    Response,
    StreamedResponse,
    response_headers,
)
from runtime.http.request_headers import Header
from runtime.http.transport.peer import NOT_READ, watch_half_closed
from runtime.http.transport.protocol import (
    STATUS_LINES,
    RequestProtocol,
    fast_cycle_of,
    protocol_of,
)
from runtime.system.telemetry.counters import DISCONNECTED

logger = logging.getLogger("wakeful.http")

_LINE: Final = re.compile(rb"POST (/[!-$&-~]*) HTTP/1\.1\r\n")
"""Without an encoded character, and so with one spelling."""

_FIELD: Final = re.compile(
    rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?"
    rb"((?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?)\r\n",
    re.MULTILINE,
)
"""A header as every parser reads it (RFC 9112, section 5), a whole line."""

_LEFT_TO_UVICORN: Final = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te"})
"""Headers that change how a request is read."""

_LOOKED_AT: Final = _LEFT_TO_UVICORN | SAID_BY_BROWSERS
"""Those, and what may make a request one that is refused."""

MAX_BODY_BYTES: Final = 64 << 10
"""Of a request that is answered here: larger ones are read into memory of their own, or in a thread
(``runtime.http.bodies.offloading.LARGE_BYTES``).
"""


def take_over(
    send: Send,
    handler: Handler,
    cors: CorsPolicy | None = None,
    foreign: ForeignPages | None = None,
) -> None:
    """Answer further requests of the connection, whose first response was sent with ``send``, here
    where that can be done.
    """
    cycle = fast_cycle_of(send)
    if cycle is None or not (cycle.keep_alive and cycle.response_complete):
        return
    transport = cycle.transport
    protocol = transport.get_protocol()
    if isinstance(protocol, RequestProtocol) and transport.get_extra_info("sslcontext") is None:
        transport.set_protocol(HotConnection(handler, protocol, cors, foreign))


def change_handler(send: Send, handler: Handler) -> None:
    """Have another handler answer the next requests of all connections that were taken over.

    Args:
        send: of any request of the same server.
    """
    protocol = protocol_of(send)
    for connection in () if protocol is None else protocol.server_state.connections:
        if isinstance(connection, HotConnection):
            connection.change_handler(handler)


class HotConnection(asyncio.Protocol):
    """One connection; see the module's docstring.

    Args:
        handler: answers.
        inner: uvicorn's protocol of the connection, which has answered a request.
        cors, foreign: as of ``AsgiApp``.

    Attributes:
        inner: the same.
        answered: requests that were answered here.

    Mutable state: ``_handler`` (None: uvicorn has all further requests), ``_request`` and
    ``_coroutine`` of the request under way, ``_waiting`` (what arrived meanwhile), ``_is_paused``
    (reading is, from here), ``_can_write`` (cleared while the client does not read), ``_writing``
    (the task of a long response, or of one that is sent as it is computed, which is ``_streaming``
    too), ``_is_last`` (the connection closes after the next response), ``_is_ended`` (the client
    sends no more) and ``_timer`` of the keep-alive.
    """

    def __init__(
        self,
        handler: Handler,
        inner: RequestProtocol,
        cors: CorsPolicy | None = None,
        foreign: ForeignPages | None = None,
    ) -> None:
        self.inner = inner
        self.answered = 0
        self._handler: Handler | None = handler
        self._cors = cors
        self._foreign = foreign
        self._transport = inner.transport
        self._loop = inner.loop
        self._request: Request | None = None
        self._coroutine: Coroutine[Any, Any, AnyResponse | None] | None = None
        self._waiting = b""
        self._is_paused = False
        self._is_last = False
        self._is_ended = False
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._writing: asyncio.Task[None] | None = None
        self._streaming: asyncio.Task[None] | None = None
        self._default_headers: list[Header] = []
        self._default_head = b""
        self._timer: asyncio.TimerHandle | None = None
        connections = inner.server_state.connections
        connections.discard(inner)
        connections.add(self)  # type: ignore[arg-type]  # as much of it as the server uses
        inner.bounds_reader = True

    # The protocol of the connection.

    def data_received(self, data: bytes) -> None:
        """Answer a short call; pass everything else on."""
        if self._request is not None:
            self._waiting += data
            self._pause_reading()
            return
        inner, handler = self.inner, self._handler
        if handler is not None and self._is_between_requests():
            request = read_request(data, handler, self._foreign)
            if request is not None:
                if inner.timeout_keep_alive_task is not None:
                    inner.timeout_keep_alive_task.cancel()
                    inner.timeout_keep_alive_task = None
                self._request = request
                request.cors = self._cors
                self._coroutine = handler.handle(request)
                self._step()
                return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more; what it has asked is answered, as of ``RequestProtocol``."""
        self._is_ended = True
        if self._request is None:
            return self.inner.eof_received()
        self._is_last = True
        if self._writing is None:
            request = self._request
            watch_half_closed(
                self._transport,
                self._loop,
                lambda: self._request is request and self._writing is None,
            )
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended: the call is not computed further."""
        self.inner.server_state.connections.discard(self)
        self.inner.connection_lost(exc)
        self._can_write.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            self._writing.cancel()
        if self._coroutine is not None:
            self._coroutine.close()  # here, and not where the last reference to it goes
            self._coroutine = None
        if self._request is not None and self.inner.reader.has_cut:
            record = self._request.record
            record.status, record.code = DISCONNECTED, NOT_READ
        self._end()

    def pause_writing(self) -> None:
        """The client does not read: no request of it is read either."""
        self._can_write.clear()
        self.inner.pause_writing()
        if self.inner.cycle.response_complete:
            self._pause_reading()

    def resume_writing(self) -> None:
        """The client has read."""
        self._can_write.set()
        self.inner.resume_writing()
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and not self._waiting and self._can_write.is_set():
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # What the server asks of a connection.

    def change_handler(self, handler: Handler) -> None:
        """Answer further requests with this one, unless they are uvicorn's by now."""
        if self._handler is not None:
            self._handler = handler

    def give_back(self, app: ASGIApp) -> None:
        """Pass every further request to uvicorn, and to this application."""
        self._handler = None
        self.inner.app = app

    def _is_between_requests(self) -> bool:
        """Whether uvicorn waits for the first byte of a request. What follows a request that was
        answered before all of it had arrived belongs to its body, whatever it looks like; so does
        what follows a part of a head.
        """
        inner = self.inner
        cycle = inner.cycle
        return (
            cycle.response_complete
            and not cycle.more_body
            and cycle.scope is inner.scope
            and not inner.pipeline
            and not inner.is_over
        )

    @property
    def used(self) -> float:
        """As of ``RequestProtocol``."""
        return self.inner.used

    @property
    def is_unread(self) -> bool:
        """As of ``RequestProtocol``."""
        return self.inner.is_unread

    @property
    def is_at_work(self) -> bool:
        """Whether a request has begun and is not answered."""
        return self._request is not None or not self.inner.cycle.response_complete

    def shutdown(self) -> None:
        """Close the connection, after the response of a request that has begun."""
        self._is_last = True
        if self._request is None:
            self.inner.shutdown()

    def refuse(self) -> None:
        """Answer the request that has begun with 503, and close: the process ends."""
        self._is_last = True
        if self._coroutine is not None and self._request is not None:
            self._coroutine.close()
            self._coroutine = None
            error = Draining(
                "the process ended before this call was answered; call again.", retry_after_s=1
            )
            self._respond(self._request.error_response(error))
        elif self._streaming is not None:
            self._streaming.cancel()

    # A request.

    def _step(self, _: object = None) -> None:
        """Run the handler until it waits again, or returns."""
        coroutine = self._coroutine
        if coroutine is None:  # the connection was lost
            return
        try:
            awaited = coroutine.send(None)
        except StopIteration as returned:
            self._coroutine = None
            self._respond(returned.value)
        except ClientDisconnected:
            self._coroutine = None
            self._transport.abort()
        except Exception as error:  # every fault becomes a response, as in ``AsgiApp``
            self._coroutine = None
            assert self._request is not None
            self._respond(self._request.error_response(error))
        else:
            if awaited is None:  # ``asyncio.sleep(0)``
                self._loop.call_soon(self._step)
            else:
                awaited.add_done_callback(self._step)

    def _respond(self, response: AnyResponse) -> None:
        request = self._request
        assert request is not None
        if isinstance(response, StreamedResponse):
            self._streaming = self._loop.create_task(self._write_streamed(request, response))
            self._writing = self._streaming
            return
        record = request.record
        record.status, record.code = response.status, response.code
        record.sent_bytes = response.length
        headers = response_headers(request, response.headers)
        if self._is_last and not self._waiting:
            headers.append((b"connection", b"close"))
        parts = [STATUS_LINES[response.status], self._server_headers()]
        name, value = response.content_type
        parts += (name, b": ", value, b"\r\ncontent-length: %d\r\n" % response.length)
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        if response.length > CHUNK_BYTES:
            self._writing = self._loop.create_task(self._write_long(parts, response))
            return
        self._transport.write(b"".join([*parts, *response.buffers]))
        self._on_written()

    async def _write_streamed(self, request: Request, response: StreamedResponse) -> None:
        """Write a response in chunks (RFC 9112, section 7.1), as it comes. One that ends without
        its last message cuts the connection.
        """
        is_whole, record = False, request.record

        async def send(message: Message) -> None:
            nonlocal is_whole
            await self._can_write.wait()
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = response_headers(request, message["headers"])
                if self._is_last and not self._waiting:
                    headers.append((b"connection", b"close"))
                headers.append((b"transfer-encoding", b"chunked"))
                lines = [b"%b: %b\r\n" % header for header in headers]
                head = [STATUS_LINES[record.status], self._server_headers(), *lines, b"\r\n"]
                self._transport.write(b"".join(head))
                return
            body = message.get("body", b"")
            record.sent_bytes += len(body)
            parts = [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            if not message.get("more_body", False):
                is_whole = True
                parts.append(b"0\r\n\r\n")
            self._transport.write(b"".join(parts))

        try:
            await response.send_to(send)
        except asyncio.CancelledError:
            if is_whole and not self._transport.is_closing():  # the process ends, and has said so
                self._writing = self._streaming = None
                self._on_written()
            raise
        except Exception as error:  # every fault becomes a response, as in ``AsgiApp``
            self._writing = self._streaming = None
            if not record.status:
                self._respond(request.error_response(error))
                return
            logger.exception("request %s failed while it was answered", request.id)
            self._transport.abort()
            return
        if is_whole:
            await self._can_write.wait()  # as of a long one
        self._writing = self._streaming = None
        if is_whole:
            self._on_written()
        else:
            self._transport.abort()

    async def _write_long(self, head: list[bytes], response: Response) -> None:
        """As ``Response.send_to``: other work has its turn after each chunk."""
        self._transport.write(b"".join(head))
        for chunk in chunked(response.buffers):
            await self._can_write.wait()
            self._transport.write(chunk)
            await asyncio.sleep(0)
        await self._can_write.wait()  # what is left here counts as the call's until then
        self._writing = None
        self._on_written()

    def _on_written(self) -> None:
        self.answered += 1
        self._end()
        self.inner.used = self._loop.time()
        if self._is_last and not self._waiting:
            self._close()
            return
        if self._timer is None:
            self._timer = self._loop.call_later(self.inner.timeout_keep_alive, self._close_if_idle)
        if self._waiting:
            data, self._waiting = self._waiting, b""
            self._resume_reading()
            self.data_received(data)
            if self._is_ended and self._request is None and not self.inner.eof_received():
                self._close()

    def _end(self) -> None:
        if self._request is not None:
            request, self._request = self._request, None
            request.end()

    def _server_headers(self) -> bytes:
        """Return the headers that the server adds to each response; uvicorn makes the list anew
        each second.
        """
        headers = self.inner.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_head = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._default_head

    def _close_if_idle(self) -> None:
        self._timer = None
        idle_s = self._loop.time() - self.used
        remaining_s = self.inner.timeout_keep_alive - idle_s
        if remaining_s > 0 or self.is_at_work:
            self._timer = self._loop.call_later(max(remaining_s, 1.0), self._close_if_idle)
        elif not self._transport.is_closing():
            self._close()

    def _close(self) -> None:
        self._transport.close()
        self.inner.reader.start()  # a transport closes once all is written


def read_request(
    data: bytes, handler: Handler, foreign: ForeignPages | None = None
) -> Request | None:
    """Return the request if these bytes are one whole short call of a function, and not one that is
    refused as a page's of another site; else None.
    """
    line = _LINE.match(data)
    end = data.find(b"\r\n\r\n")
    if line is None or end < 0 or not handler.is_hot(line[1]):
        return None
    found = _FIELD.findall(data, line.end(), end + 2)
    fields = {name.lower(): value for name, value in found}
    length = fields.get(b"content-length", b"")
    if (
        len(found) != data.count(b"\n", line.end(), end + 2)
        or len(fields) != len(found)
        or not length.isdigit()
        or len(length) > 5
        or not int(length) == len(data) - end - 4 <= MAX_BODY_BYTES
        or (not _LOOKED_AT.isdisjoint(fields) and _is_left(fields, foreign))
        or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive"
    ):
        return None
    target = line[1].decode("ascii")
    request = Request("POST", target, list(fields.items()), raw_path=line[1], fields=fields)
    request.prefix = handler.prefix or ""
    request.body = data[end + 4 :]
    return request


def _is_left(fields: Mapping[bytes, bytes], foreign: ForeignPages | None) -> bool:
    """Whether a call is uvicorn's to read, or to be refused there."""
    if not _LEFT_TO_UVICORN.isdisjoint(fields):
        return True
    return foreign is not None and foreign.refuses("POST", "", fields)
