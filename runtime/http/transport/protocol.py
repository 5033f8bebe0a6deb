"""uvicorn's protocol of a connection, with HTTP/1.1 read as its RFCs say.

What uvicorn, or the parser below it (llhttp), does otherwise, and what stands here instead:

1. Upgrade. The parser ends a request with ``Connection: upgrade`` at its head, whatever is asked,
   and takes its body for what comes after the change of protocols; uvicorn goes on reading there,
   so that a body was answered as the next request. Java's client asks for h2c with every call, and
   so does ``curl --http2``. A server that does not take an upgrade ignores it (RFC 9110, 7.8): the
   head is fed to a new parser without its ``Upgrade``, and then what came behind it. WebSockets are
   taken where uvicorn has a protocol for them, for a handshake alone: a GET without a body.
2. ``CONNECT`` has no body (RFC 9110, 9.3.6), and what follows is for the tunnel, which is refused:
   its answer is the last on the connection.
3. Trailers are no headers (RFC 9110, 6.5.1). uvicorn adds them to the list that the application
   has, if they come before it looks: they would pass a proxy in front that strips headers.
4. What is no HTTP. The requests before it are answered first. Then it gets 400 in the error form,
   and the connection ends; the log has one line for all of ``LOG_EVERY_S``.
5. Bounds. A head has ``MAX_HEAD_BYTES`` and, of a client that is not behind HAProxy,
   ``HEAD_TIMEOUT_S``, in which a new connection must bring its first byte too. The extension of a
   chunk and the trailers have as many bytes as a head: the parser keeps trailers until they end.
   Chunks of few bytes are few: each is a call of Python. Answers must be read (``peer``).
6. The last response of a connection says so (RFC 9112, section 9.6), and what a client asks of it
   has no case; uvicorn does so from 0.53 on (``direct_io.send_in_one_write``).
7. A client that ends its side of the connection behind a whole request is answered.
8. What another program could read as another request is refused (``head_rules``). A client of
   HTTP/1.0 is not told to continue (RFC 9110, section 10.1.1).
"""

from __future__ import annotations

import asyncio
import enum
import http
import logging
import random
import time
from typing import Any, ClassVar, Final

import httptools
from starlette.types import Receive, Send

from runtime.errors import RequestError, WakefulError
from runtime.http.exchange import REQUEST_ID, error_response
from runtime.http.request_headers import Header
from runtime.http.transport.head_rules import find_ambiguity
from runtime.http.transport.peer import ReaderWatch, watch_half_closed
from runtime.http.transport.uvicorn_names import HttpToolsProtocol, RequestResponseCycle

logger = logging.getLogger("wakeful.http")

MAX_HEAD_BYTES: Final = 128 << 10
"""Of a request line and headers, beside what the first read of them brings (256 KiB at most);
HAProxy's buffer has 72 KiB.
"""

HEAD_TIMEOUT_S: Final = 30.0
"""Until a new connection must bring something, and until a head that has begun must be whole; as in
HAProxy.
"""

LINGER_S: Final = 1.0
"""How long what a client still sends is read and dropped behind the last response: a socket that
is closed with unread bytes in it is reset, and the response is lost with it.
"""

LOG_EVERY_S: Final = 10.0

_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(100, 600)
}
"""First lines of responses by status."""

TOO_LONG: Final = RequestError(
    f"the head of the request has more than {MAX_HEAD_BYTES >> 10} KiB; send less in headers.",
    status=431,
)
TOO_SLOW: Final = RequestError(
    f"the head of the request did not arrive within {HEAD_TIMEOUT_S:g} s.", status=408
)
TOO_MUCH_FRAMING: Final = RequestError(
    f"the extension of a chunk, or the trailers, have more than {MAX_HEAD_BYTES >> 10} KiB; send "
    "the body without."
)


MAX_CHUNKS: Final = 1 << 16
LEAST_CHUNK_BYTES: Final = 16
"""A body in more chunks than this has so many bytes in each, on average."""

TOO_MANY_CHUNKS: Final = RequestError(
    f"the body comes in more than {MAX_CHUNKS} chunks of less than {LEAST_CHUNK_BYTES} bytes; send "
    "longer ones."
)


class AmbiguousHead(Exception):
    """A head that is refused, from within the parser; the text says why."""


class Reading(enum.Enum):
    """What the parser reads."""

    NOTHING = enum.auto()
    """It waits for the first byte of a request."""
    HEAD = enum.auto()
    BODY = enum.auto()
    """Or trailers."""


_NOTHING, _HEAD, _BODY = Reading  # an attribute of an enumeration takes longer than all it is for


class RequestProtocol(HttpToolsProtocol):
    """See the module's docstring.

    Attributes:
        reader: cuts the connection of a client that does not read.
        bounds_reader: whether it does; an application of ours says so (``bound_reading``).
        is_over: whether nothing more is read from the connection.
        head_timeout_s: ``HEAD_TIMEOUT_S``; None where HAProxy has its own.
        is_fast: whether its requests may go past uvicorn.
        used: when it was made, or a request of it was last answered; seconds of the loop's clock.

    Mutable state: these; ``_reading``; ``_framing_bytes`` of a head that comes in parts, or of what
    comes between the bytes of a body; ``_parts`` and ``_body_bytes``, of a body so far;
    ``_head_timer`` of a head; ``_last_words``, written behind the last response before the
    connection closes (None: it stays open).
    """

    head_timeout_s: ClassVar[float | None] = HEAD_TIMEOUT_S
    is_fast: ClassVar[bool] = True

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.reader: ReaderWatch
        self.bounds_reader = False
        self.is_over = False
        self._reading: Reading
        self.begin_anew()  # releases differ in what their parser is lenient about
        self.used = self.loop.time()
        self._framing_bytes: int | None = None
        self._parts = self._body_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._last_words: bytes | None = None

    # The protocol of the connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has connected."""
        super().connection_made(transport)
        self.reader = ReaderWatch(transport, self.loop)
        if self.head_timeout_s is not None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.head_timeout_s, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.reader.stop()
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read requests, and begin those whose head is whole."""
        # the rest of a body that was answered is thrown away, as long as a connection may be idle
        if self._reading is not _BODY or not self.cycle.response_complete:
            self._unset_keepalive_if_required()
        if self.is_over:
            return
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as at_head:
                    rest = rest[at_head.args[0] :]
                if self.parser.get_method() == b"CONNECT":
                    self.is_over, self.cycle.keep_alive = True, False
                    return
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                self._read_head_anew()
        except httptools.HttpParserError as error:
            self._refuse(RequestError(f"this is not HTTP/1.1 as it is read here: {_reason(error)}"))
            return
        if self._reading is not _NOTHING:
            self._bound_framing(len(data))

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio has it
        """The client sends no more. What it has asked is answered, unless it turns out to have
        left.
        """
        if self._last_words is not None:
            return True  # it closes once they are said
        is_cut = self._reading is _BODY
        if not self.is_at_work or (is_cut and not self._forget_request()):
            return None
        self.is_over, self._last_words = True, b""
        cycle = self.cycle
        if (
            not (is_cut or self.pipeline or cycle.response_started)
            and cycle.scope["http_version"] == "1.1"
        ):
            watch_half_closed(self.transport, self.loop, lambda: not cycle.response_started)
        return True

    def pause_writing(self) -> None:
        """The client does not read as fast as is written."""
        super().pause_writing()
        if self.bounds_reader:
            self.reader.start()

    def bound_reading(self, is_bound: bool) -> None:
        """Say whether the client must read what is written from now on; a stream has a bound of its
        own.
        """
        self.bounds_reader = is_bound
        if is_bound:
            self.reader.start()
        else:
            self.reader.stop()

    async def wait_until_read(self) -> None:
        """Wait until next to nothing of what was sent is left in this process, or the connection
        has ended.
        """
        await self.flow.drain()

    def timeout_keep_alive_handler(self) -> None:
        """No request has come for a while."""
        super().timeout_keep_alive_handler()
        if self.bounds_reader:
            self.reader.start()  # a transport closes once all is written

    # The parser's callbacks.

    def begin_anew(self) -> None:
        """Read the next request with a new parser."""
        self._reading = _NOTHING
        self.parser = httptools.HttpRequestParser(self)
        # bytes behind a request that asks for the end are not read, and no fault of that request
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_begin(self) -> None:
        """Forget the head of the request before."""
        self._reading = _HEAD
        self._framing_bytes = None
        self._parts = self._body_bytes = 0
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped: the parser has read one that closes."""
        if self._reading is not _HEAD:
            if name.lower() == b"connection" and b"close" in value.lower():
                self.cycle.keep_alive = False
            return
        name = name.lower()  # as uvicorn does; a call of that costs a microsecond a request
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: the request begins, unless its head is to be read anew."""
        self._stop_head_timer()
        version = self.parser.get_http_version()
        if ambiguity := find_ambiguity(version, self.url, self.headers):
            raise AmbiguousHead(ambiguity)
        if version == "1.0":
            self.expect_100_continue = False
        if not (self.parser.should_upgrade() and self._is_to_be_read_anew()):
            super().on_headers_complete()  # raises if the target is no URL: there is no request
            self._reading = _BODY
            if not self.parser.should_keep_alive() and self.cycle is not None:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body, whole or of a chunk."""
        self._framing_bytes = None
        self._parts += 1
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not (self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"):
            super().on_message_complete()
        self._reading = _NOTHING

    def _is_to_be_read_anew(self) -> bool:
        """Whether a request that asks for another protocol, or for a tunnel, asks for one that is
        not taken.
        """
        return bool(self.parser.get_method() != b"CONNECT") and not self._should_upgrade()

    def _should_upgrade(self) -> bool:
        """Whether it is the handshake of a WebSocket, and those are taken."""
        is_handshake = self.parser.get_method() == b"GET" and not any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
            for name, value in self.headers
        )
        return is_handshake and super()._should_upgrade() and self.takes_websocket()

    def takes_websocket(self) -> bool:
        """Whether the application takes a WebSocket, where uvicorn has a protocol for them."""
        return True

    def _read_head_anew(self) -> None:
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b\r\n" % one for one in self.headers if one[0] != b"upgrade"]
        self.begin_anew()
        self.parser.feed_data(b"".join([*head, b"\r\n"]))

    # The end of a connection.

    @property
    def is_unread(self) -> bool:
        """Whether something of an answer is left here, which its client has to read."""
        return self.reader.is_unread

    @property
    def is_at_work(self) -> bool:
        """Whether a request has begun and is not answered."""
        return self.cycle is not None and not (self.cycle.response_complete and not self.pipeline)

    def on_response_complete(self) -> None:
        """A request is answered."""
        self.used = self.loop.time()
        is_last = self._last_words is not None and not self.pipeline
        super().on_response_complete()
        if is_last:
            # the response may be written after this: ``send_in_one_write``
            self.loop.call_soon(self._say_last_words)

    def _forget_request(self) -> bool:
        """Take back the request whose body will not be whole; False: it has begun."""
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
            return True
        return False

    def _refuse(self, error: RequestError) -> None:
        """Read nothing more, answer what is whole, then this."""
        self.is_over = True
        self._stop_head_timer()
        if self._reading is _BODY and not self._forget_request():
            if self.cycle.response_started:
                self.transport.close()
                return
            # for its application the client has left: this is the answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self.is_at_work:
            self._last_words = self._write_error(error)
            return
        self._last_words = self._write_error(error)
        self._say_last_words()

    def _say_last_words(self) -> None:
        if not self.transport.is_closing():
            last_words, self._last_words = self._last_words, None
            if last_words:
                self.transport.write(last_words)
                self.transport.write_eof()
                self.loop.call_later(LINGER_S, self.transport.close)
            else:  # the client sends no more
                self.transport.close()
            self.reader.start()

    def _write_error(self, error: RequestError) -> bytes:
        request_id = f"{random.getrandbits(128):032x}"
        _log_refused(self.client, request_id, error.message)
        return write_last_response(error, request_id, self.server_state.default_headers)

    # A head in parts, and what is no body of a body.

    def _bound_framing(self, count: int) -> None:
        # of the first read others may have a part
        self._framing_bytes = 0 if self._framing_bytes is None else self._framing_bytes + count
        is_head = self._reading is _HEAD
        if self._framing_bytes > MAX_HEAD_BYTES:
            self._refuse(TOO_LONG if is_head else TOO_MUCH_FRAMING)
        elif self._parts > MAX_CHUNKS and self._body_bytes < LEAST_CHUNK_BYTES * self._parts:
            self._refuse(TOO_MANY_CHUNKS)
        elif is_head and self._head_timer is None and self.head_timeout_s is not None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._refuse, TOO_SLOW)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def write_last_response(error: WakefulError, request_id: str, headers: list[Header]) -> bytes:
    """Return an error as the last response of a connection.

    Args:
        headers: that the server adds to each response.
    """
    response = error_response(error, request_id)
    lines = [
        b"%b: %b\r\n" % header
        for header in (
            *headers,
            *response.headers,
            response.content_type,
            (b"content-length", b"%d" % response.length),
            (REQUEST_ID, request_id.encode()),
            (b"connection", b"close"),
        )
    ]
    return b"".join([STATUS_LINES[error.status], *lines, b"\r\n", *response.buffers])


class SlowProtocol(RequestProtocol):
    """The same, whose requests all go through uvicorn."""

    is_fast = False


UVICORN: Final[dict[str, Any]] = {"http": RequestProtocol, "ws": "none"}
"""Of ``uvicorn.Config``, for a server of ours alone."""


# From what an application is given to the connection.


def protocol_of(method: Receive | Send) -> RequestProtocol | None:
    """Return the protocol of the connection that this is of; None: the server has another."""
    cycle = getattr(method, "__self__", None)
    if type(cycle) is not RequestResponseCycle:
        return None
    protocol = getattr(getattr(cycle, "on_response", None), "__self__", None)
    return protocol if isinstance(protocol, RequestProtocol) else None


def fast_cycle_of(method: Receive | Send) -> RequestResponseCycle | None:
    """Return what uvicorn serves the request with, if the request may go past it; else None."""
    protocol = protocol_of(method)
    if protocol is None or not protocol.is_fast:
        return None
    cycle: RequestResponseCycle = method.__self__  # type: ignore[union-attr]  # ``protocol_of``
    return cycle


def _reason(error: httptools.HttpParserError) -> str:
    """Return why, in words of the parser's own or ours, none of the client's."""
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return "no method of HTTP."
    if isinstance(error.__context__, AmbiguousHead):
        return str(error.__context__)
    if isinstance(error, httptools.HttpParserInvalidURLError | httptools.HttpParserCallbackError):
        return "the target is no URL."
    if "PRI" in str(error):
        return "HTTP/2 begins only by agreement, and there is none; use HTTP/1.1."
    return f"{str(error).rstrip('.').lower()}."


class _RefusalLog:
    """One line for all that was refused in a while: a stranger must not fill the log.

    Mutable state: ``_next``, before which nothing is written; ``_unwritten`` lines since.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._unwritten = 0

    def __call__(self, client: tuple[str, int] | None, request_id: str, why: str) -> None:
        now = time.monotonic()
        if now < self._next:
            self._unwritten += 1
            return
        more = f" ({self._unwritten} more since the last such line)" if self._unwritten else ""
        self._next, self._unwritten = now + LOG_EVERY_S, 0
        address = "a client" if client is None else "{}:{}".format(*client)
        logger.warning("request %s of %s was refused: %s%s", request_id, address, why, more)


_log_refused = _RefusalLog()
