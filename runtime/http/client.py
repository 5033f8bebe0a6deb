"""An HTTP/1.1 client for servers of the same cluster: one request at a time on a kept-alive
connection, a large body in and out with one copy.

Functions call functions of other processes with it, and hosts forward calls to other hosts. A split
stage that takes 600 KB adds 1.0 to 1.3 ms with it and 1.5 to 2.1 with aiohttp, one that also
returns them 1.4 to 1.6 and 2.0 to 2.1 (two busy cores): aiohttp copies a body more often, and on
Python 3.11 joins it with its head. Here the body of a response is received into the memory that its
arrays stay in (``asyncio.BufferedProtocol``), and the arrays of a request are sent from where they
lie. A response without a length is read as it arrives.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from runtime.http.bodies.chunked_coding import ChunkedDecoder
from runtime.http.request_headers import Header

MAX_HEAD_BYTES: Final = 1 << 16

MAX_RESPONSE_BYTES: Final = 1 << 30
"""A response that is longer by its head is not received."""

CONNECT_TIMEOUT_S: Final = 1.0
"""Longest wait for a connection on the machine or the rack."""

ONE_WRITE_BYTES: Final = 16 << 10
"""A smaller body is sent with its head: a server that is woken by the head alone waits for a core
twice.
"""

AHEAD_BYTES: Final = 256 << 10
"""Of a response without a length, received before it is read."""


Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class ConnectionLost(OSError):
    """The server closed the connection, or never opened it, or its response cannot be read here."""


class RequestNotSent(ConnectionLost):
    """Nothing of the request was sent."""


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A response.

    Attributes:
        fields: its headers in their order, names in lower case.
        body: owned by the receiver; empty where it arrives in pieces.
        in_pieces: it has no length, and ``pieces`` yields its body.
    """

    status: int
    fields: Sequence[Header]
    body: bytearray
    in_pieces: bool
    connection: Connection

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers by name; of several of one name the last."""
        return dict(self.fields)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; nothing if ``body`` is all of it.

        Raises:
            ConnectionLost: it breaks off.
        """
        while self.in_pieces and (piece := await self.connection.read_more()):
            yield piece


class ConnectionPool:
    """Connections to one address, opened as they are needed, the last used first.

    Args:
        address: of the server.
        max_connections: requests at once; more wait.
        connect_timeout_s: longest wait for a connection.
        options: of each socket, as ``setsockopt`` takes them.

    Mutable state: ``_idle``, connections with no request under way; ``_free`` counts the requests
    that may still begin; ``_is_closed``.
    """

    def __init__(
        self,
        address: Address,
        *,
        max_connections: int,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        options: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        self._address = address
        self._shown = _show(address)
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(max_connections)
        self._is_closed = False
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._options = options

    def __repr__(self) -> str:
        return (
            f"<ConnectionPool {self._shown}: {len(self._idle)} idle of at most "
            f"{self._max_connections}>"
        )

    async def post(
        self,
        path: str,
        headers: Sequence[Header],
        body: Sequence[bytes | memoryview],
        *,
        may_resend: bool = True,
    ) -> ClientResponse:
        """Return the whole response, whatever its status. Args and errors as of ``request``."""
        async with self.request(
            b"POST", path.encode(), headers, body, may_resend=may_resend
        ) as response:
            async for piece in response.pieces():
                response.body.extend(piece)
                if len(response.body) > MAX_RESPONSE_BYTES:
                    raise ConnectionLost("the answer is too long.")
            return response

    @asynccontextmanager
    async def request(
        self,
        method: bytes,
        target: bytes,
        headers: Sequence[Header],
        body: Sequence[bytes | memoryview],
        *,
        may_resend: bool = True,
    ) -> AsyncIterator[ClientResponse]:
        """Yield a response, whatever its status. Its connection is used again if the response is
        read to its end within the block.

        Args:
            target: path and query, encoded.
            headers: without ``host`` and ``content-length``.
            may_resend: the request may be sent again. That the server has closed a kept connection
                is not noticed before it is used; the request is then sent again on a new one. A
                request that may not be sent again goes out on a new connection at once.

        Raises:
            ConnectionLost: there is no response; ``RequestNotSent`` if the server cannot have read
                the request.
        """
        async with self._free:
            connection, response = await self._send(
                method, self._head(method, target, headers, body), body, may_resend
            )
            try:
                yield response
            except BaseException:
                connection.close()
                raise
            if connection.is_free and not self._is_closed:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close the idle connections; the others close with their request. Idempotent."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    async def _send(
        self, method: bytes, head: bytes, body: Sequence[bytes | memoryview], may_resend: bool
    ) -> tuple[Connection, ClientResponse]:
        while True:
            idle = self._idle.pop() if self._idle and may_resend else None
            connection = idle or await self._connect()
            try:
                return connection, await connection.send_request(
                    head, body, has_body=method != b"HEAD"
                )
            except ConnectionLost:
                if idle is None:
                    raise

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connecting = functools.partial(Connection, loop)
                transport, connection = (
                    await loop.create_unix_connection(connecting, self._address)
                    if isinstance(self._address, str)
                    else await loop.create_connection(connecting, *self._address)
                )
            for option in self._options:
                transport.get_extra_info("socket").setsockopt(*option)
        except (OSError, TimeoutError) as error:
            raise RequestNotSent(
                f"no connection to {self._shown}: {error or type(error).__name__}"
            ) from error
        return connection

    def _head(
        self,
        method: bytes,
        target: bytes,
        headers: Sequence[Header],
        body: Sequence[bytes | memoryview],
    ) -> bytes:
        size = sum(map(len, body))
        host = b"localhost" if isinstance(self._address, str) else self._shown.encode()
        lines = [b"%b %b HTTP/1.1" % (method, target), b"host: %b" % host]
        lines += [b"%b: %b" % header for header in headers]
        return b"\r\n".join([*lines, b"content-length: %d" % size, b"", b""])


def _show(address: Address) -> str:
    """As a URL has it."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"{f'[{host}]' if ':' in host else host}:{port}"


class Connection(asyncio.BufferedProtocol):
    """One connection, with one request at a time.

    Mutable state: ``_buffer`` holds ``_size`` bytes of a head, or the last bytes of a body without
    a length; ``_head`` is the status and headers once they are there; ``_body`` with ``_received``
    bytes while one of known length arrives; ``_ahead`` what has arrived of one without;
    ``_decoder`` reads that if it is chunked; ``_response`` of the request under way, ``_is_whole``
    once all of it has arrived, ``_lost`` why it will not; ``_waiting`` wakes the request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._buffer = bytearray(8 << 10)
        self._lost: ConnectionLost | None = None
        self._clear(is_whole=True)

    @property
    def is_free(self) -> bool:
        """Whether it can take another request."""
        if (
            self._transport is None
            or self._transport.is_closing()
            or not self._is_whole
            or self._is_last
        ):
            return False
        return (
            not self._transport.get_write_buffer_size()
        )  # else the server answered before it had all of the request

    async def send_request(
        self, head: bytes, body: Sequence[bytes | memoryview], *, has_body: bool = True
    ) -> ClientResponse:
        """Send a request and return its response, whose body follows if it has no length; close the
        connection if cancelled.

        Args:
            has_body: the response may have one; that to HEAD has none, whatever its length.

        Raises:
            ConnectionLost: there is no response.
        """
        if self._transport is None or self._transport.is_closing():
            raise RequestNotSent("the connection was closed.")
        self._clear()
        self._may_have_body = has_body
        try:
            if sum(map(len, body)) < ONE_WRITE_BYTES:
                self._transport.write(b"".join([head, *body]))
            else:
                self._transport.writelines([head, *body])
            while self._response is None:
                await self._wait()
        except BaseException:
            self.close()
            raise
        return self._response

    async def read_more(self) -> bytes:
        """Return the next bytes of a body without a length; empty at its end.

        Raises:
            ConnectionLost: it breaks off.
        """
        while not self._ahead and not self._is_whole:
            await self._wait()
        piece = bytes(self._ahead)
        self._ahead.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return piece

    def close(self) -> None:
        """Close it, with the request under way. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        if self._body is not None and not self._is_whole:
            return memoryview(self._body)[self._received :]
        if self._size == len(self._buffer):
            self._buffer += bytes(len(self._buffer))
        return memoryview(self._buffer)[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have arrived."""
        if self._is_whole:  # no request waits for them: this is not HTTP
            self.close()
            return
        try:
            self._take(nbytes)
        except (ValueError, IndexError) as error:
            self._fail(ConnectionLost(f"the answer is not HTTP/1.1 as it is read here: {error}"))

    def eof_received(self) -> None:
        """The server closed it: the end of a body without a length, or of the connection."""
        if self._head is not None and self._body is None and self._decoder is None:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        self._transport = None
        if not self._is_whole:
            self._fail(
                ConnectionLost(
                    "the connection was lost before there was a whole answer"
                    f"{f': {error}' if error else '.'}"
                )
            )

    # The response under way.

    def _clear(self, *, is_whole: bool = False) -> None:
        self._size = self._received = 0
        self._head: tuple[int, list[Header]] | None = None
        self._body: bytearray | None = None
        self._decoder: ChunkedDecoder | None = None
        self._ahead = bytearray()
        self._response: ClientResponse | None = None
        self._is_whole = is_whole
        self._is_last = False

    async def _wait(self) -> None:
        """Wait until bytes have arrived."""
        if self._lost is not None:
            raise self._lost
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _take(self, count: int) -> None:
        if self._body is not None:
            self._received += count
        else:
            self._size += count
            if self._head is None and not self._read_head():
                if self._size >= MAX_HEAD_BYTES:
                    raise ValueError(f"its head is longer than {MAX_HEAD_BYTES} bytes")
                return
        if self._body is None:
            self._take_piece()
        elif self._received == len(self._body):
            self._finish()

    def _take_piece(self) -> None:
        """Keep what has arrived of a body without a length for ``read_more``."""
        piece = self._buffer[: self._size]
        self._size = 0
        self._ahead += self._decoder.decode(piece) if self._decoder is not None else piece
        if self._decoder is not None and self._decoder.is_last:
            self._finish()
        elif len(self._ahead) > AHEAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def _read_head(self) -> bool:
        """Return whether the head is whole; move what came after it to where it belongs."""
        end = self._buffer.find(b"\r\n\r\n", 0, self._size)
        if end < 0:
            return False
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        status = int(first.split(b" ", 2)[1])
        fields = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        ]
        named = dict(fields)
        rest = self._buffer[end + 4 : self._size]
        self._head, self._size = (status, fields), len(rest)
        self._buffer[: len(rest)] = rest
        self._is_last = named.get(b"connection", b"").lower() == b"close"
        if not self._may_have_body or status in (204, 304):
            self._receive(0, rest)
        elif named.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._decoder = ChunkedDecoder()
        elif b"content-length" in named:
            self._receive(int(named[b"content-length"]), rest)
        if self._body is None:
            self._response = ClientResponse(status, fields, bytearray(), True, self)
        return True

    def _receive(self, length: int, rest: bytearray) -> None:
        if not len(rest) <= length <= MAX_RESPONSE_BYTES:
            raise ValueError(f"its length is {length}")
        self._body = bytearray(length)
        self._body[: len(rest)] = rest
        self._received = len(rest)

    def _finish(self) -> None:
        assert self._head is not None
        self._is_whole = True
        self._is_last |= self._body is None and (self._decoder is None or self._decoder.has_more)
        if self._body is not None:
            self._response = ClientResponse(*self._head, self._body, False, self)
        self._wake()

    def _fail(self, error: ConnectionLost) -> None:
        self._lost = error
        self._wake()
        self.close()


def encode_header_value(value: Any) -> bytes:
    """Return a header's value: text as Latin-1, without what would begin another header."""
    return str(value).encode("latin-1", "replace").translate(None, b"\r\n\0")
