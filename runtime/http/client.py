"""HTTP/1.1 to a server of ours: one exchange at a time on a kept-alive connection, a large body in and out with one copy.

Why not a client from elsewhere: 600 KB there and back took 1.4 ms by this one, 2.1 by aiohttp and 3.3 by httpx, and 2 KB took 0.16, 0.28
and 0.85 ms (one uvicorn, p50; ``loadtests/bench/hop_clients.py``). The answer's body is received into the memory that its arrays stay in
(``asyncio.BufferedProtocol``), and a request's arrays are sent from where they lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

MAX_HEAD_BYTES: Final = 1 << 16

MAX_ANSWER_BYTES: Final = 1 << 30
"""An answer that says it is longer is not received."""

CONNECT_S: Final = 1.0
"""Longest wait for a connection on the machine or the rack."""

ONE_WRITE_BYTES: Final = 16 << 10
"""A body below is sent with its head: a server that is woken by the head alone waits for a core twice."""

Header = tuple[bytes, bytes]


class Lost(OSError):
    """The other side closed the connection, or never opened it, or answered in no way that is read here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        headers: by name in lower case; of several of one name the last.
        body: the receiver's own.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytearray


class Pool:
    """Connections to one address, opened as they are needed, the last used first.

    Mutable state: ``_idle``, connections with nothing under way; ``_free`` counts those that may still be begun.
    """

    def __init__(self, host: str, port: int, *, most: int) -> None:
        self._address = (host, port)
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(most)
        self._most = most

    def __repr__(self) -> str:
        return f"<Pool {':'.join(map(str, self._address))}: {len(self._idle)} idle of at most {self._most}>"

    async def post(self, path: str, headers: Sequence[Header], body: Sequence[bytes | memoryview]) -> Answer:
        """The answer, whatever its status. A connection that its server had closed meanwhile is not noticed before it is used: then
        the request goes out once more on a new one, so it must be one that may be sent twice.

        Raises:
            Lost: there is none.
        """
        async with self._free:
            while True:
                kept = self._idle.pop() if self._idle else None
                connection = kept or await self._opened()
                try:
                    answer = await connection.exchange(self._head(path, headers, body), body)
                except Lost:
                    if kept is None:
                        raise
                    continue
                if connection.is_open:
                    self._idle.append(connection)
                return answer

    def close(self) -> None:
        """Ends the connections that are idle; those at work end with their exchange. Idempotent."""
        while self._idle:
            self._idle.pop().close()

    async def _opened(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                return (await loop.create_connection(lambda: Connection(loop), *self._address))[1]
        except (OSError, TimeoutError) as error:
            raise Lost(f"no connection to {':'.join(map(str, self._address))}: {error or type(error).__name__}") from error

    def _head(self, path: str, headers: Sequence[Header], body: Sequence[bytes | memoryview]) -> bytes:
        size = sum(map(len, body))
        lines = [b"POST %b HTTP/1.1" % path.encode(), b"host: %b:%d" % (self._address[0].encode(), self._address[1])]
        lines += [b"%b: %b" % header for header in headers]
        return b"\r\n".join([*lines, b"content-length: %d" % size, b"", b""])


class Connection(asyncio.BufferedProtocol):
    """One connection.

    Mutable state: ``_start`` holds ``_size`` bytes of a head, or of a body without a length; ``_status`` and ``_headers`` once the head is
    there; ``_body`` with ``_got`` bytes while one of known length comes; ``_waiting`` the exchange under way, if one is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._start = bytearray(MAX_HEAD_BYTES)
        self._clear()

    @property
    def is_open(self) -> bool:
        """Whether it takes another exchange."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, head: bytes, body: Sequence[bytes | memoryview]) -> Answer:
        """Sends a request and receives its answer; ends the connection if it is cancelled.

        Raises:
            Lost: there is no whole answer.
        """
        if self._transport is None or self._transport.is_closing():
            raise Lost("the connection was closed.")
        self._waiting = self._loop.create_future()
        try:
            if sum(map(len, body)) < ONE_WRITE_BYTES:
                self._transport.write(b"".join([head, *body]))
            else:
                self._transport.writelines([head, *body])
            answer = await self._waiting
        except BaseException:
            self.close()
            raise
        finally:
            self._waiting = None
        said = answer.headers.get(b"connection", b"").lower()
        if said == b"close" or self._transport.get_write_buffer_size():  # it answered before it had heard all
            self.close()
        return answer

    def close(self) -> None:
        """Ends it, with what is under way. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._body is not None:
            return memoryview(self._body)[self._got :]
        if self._size == len(self._start):
            self._start += bytes(len(self._start))
        return memoryview(self._start)[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        if self._waiting is None:  # nobody asked: it is not HTTP as we speak it
            self.close()
            return
        try:
            self._take(nbytes)
        except (ValueError, IndexError) as error:
            self._fail(Lost(f"the answer is not HTTP/1.1 as it is read here: {error}"))

    def eof_received(self) -> None:
        """The other side closed it: the end of a body without a length, or the end of us."""
        if self._waiting is not None and self._status and b"content-length" not in self._headers and not self._is_chunked:
            self._finish(bytearray(self._start[: self._size]))

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._transport = None
        self._fail(Lost(f"the connection was lost before there was a whole answer{f': {error}' if error else '.'}"))

    # How far the answer is.

    @property
    def _is_chunked(self) -> bool:
        return self._headers.get(b"transfer-encoding", b"").lower() == b"chunked"

    def _clear(self) -> None:
        self._size = self._got = self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: bytearray | None = None

    def _take(self, count: int) -> None:
        if self._body is not None:
            self._got += count
        else:
            self._size += count
            if not self._status and not self._read_head():
                if self._size >= MAX_HEAD_BYTES:
                    raise ValueError(f"its head is longer than {MAX_HEAD_BYTES} bytes")
                return
            if self._size > MAX_ANSWER_BYTES:
                raise ValueError("it is too long")
        if self._body is not None and self._got == len(self._body):
            self._finish(self._body)
        elif self._is_chunked and (body := dechunked(self._start[: self._size])) is not None:
            self._finish(body)

    def _read_head(self) -> bool:
        """Whether the head is whole; what came behind it is moved to where it belongs."""
        end = self._start.find(b"\r\n\r\n", 0, self._size)
        if end < 0:
            return False
        first, *lines = bytes(self._start[:end]).split(b"\r\n")
        status = int(first.split(b" ", 2)[1])
        self._headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        rest = self._start[end + 4 : self._size]
        self._status, self._size = status, len(rest)
        self._start[: len(rest)] = rest
        if b"content-length" in self._headers and not self._is_chunked:
            length = int(self._headers[b"content-length"])
            if not len(rest) <= length <= MAX_ANSWER_BYTES:
                raise ValueError(f"its length is {length}")
            self._body = bytearray(length)
            self._body[: len(rest)] = rest
            self._got = len(rest)
        return True

    def _finish(self, body: bytearray) -> None:
        answer = Answer(self._status, self._headers, body)
        self._clear()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def _fail(self, error: Lost) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        self.close()


def dechunked(data: bytes | bytearray) -> bytearray | None:
    """A chunked body's content; None while it is not whole. Answers that a proxy makes itself come so, and are short.

    Raises:
        ValueError: it is not chunked.
    """
    body = bytearray()
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(bytes(data[at:end]).partition(b";")[0], 16)
        at = end + 2 + size + 2
        if at > len(data):
            return None
        if not size:
            return body
        body += data[end + 2 : at - 2]
    return None


def plain(value: Any) -> bytes:
    """A header's value: text as Latin-1, without what would begin another header."""
    return str(value).encode("latin-1", "replace").translate(None, b"\r\n\0")
