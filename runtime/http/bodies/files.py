"""An answer that is a file: its head, the part of it that a client asks for, and how it is sent.

Bytes go to the transport as they are. A file on disk goes a piece at a time from the page cache to
the socket (``transport.file_sender``). Where that cannot be it is read a chunk at a time in a
thread, into memory that is used again, while the chunk before is on its way: its answer takes
``AHEAD_BYTES`` of memory, however large it is.

A call is a POST, for which HTTP says nothing of ``Range``. It is answered all the same, for clients
that get a large answer in parts or go on where a download broke off: what a function gives for the
same call again must be the same then. There is no validator, so ``If-Range`` gets all of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final
from urllib.parse import quote

from starlette.types import Send

from runtime.batching.reservation import BodyReservation
from runtime.errors import RangeNotSatisfiable
from runtime.http.exchange import Request, Response
from runtime.http.request_headers import Header
from runtime.http.transport.direct_io import aligned_memory
from runtime.types.files import MAX_FILENAME, OpenFile

logger = logging.getLogger("wakeful.http")

FILE_CHUNK_BYTES: Final = 512 << 10
"""Of a file on disk, read and sent at once."""

AHEAD_BYTES: Final = 2 * FILE_CHUNK_BYTES
"""Memory of an answer from disk: a chunk that is being sent, and the next one."""

READ_TIMEOUT_S: Final = 30.0
"""Longest wait for a chunk."""

VARY_ACCEPT: Final[Header] = (b"vary", b"accept")

_FILE_HEADERS: Final[Sequence[Header]] = (
    VARY_ACCEPT,
    (b"accept-ranges", b"bytes"),
    (b"x-content-type-options", b"nosniff"),
)

_RANGE: Final = re.compile(rb"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)

_NOT_IN_QUOTES: Final = re.compile(r"[^ !#-\[\]-~]|[/%]")
"""What a quoted name must not have, and what some clients would read otherwise."""


def file_response(
    file: OpenFile, request: Request, timing: Header, reservation: BodyReservation
) -> Response:
    """Return the response of a file, or of the range of it that the request asks for.

    Args:
        reservation: of the call; an answer from disk counts there while it is sent.

    Raises:
        Overloaded: there is no room for it.
    """
    headers = [*_FILE_HEADERS, timing]
    if file.filename:
        headers.append((b"content-disposition", disposition(file.filename)))
    start, stop, status = 0, file.size, 200
    if (asked := request.get(b"range")) and not request.get(b"if-range"):
        try:
            found = choose_range(asked, file.size)
        except RangeNotSatisfiable as error:
            file.close()
            response = request.error_response(error)
            response.headers = [*response.headers, (b"content-range", b"bytes */%d" % file.size)]
            return response
        if found is not None:
            (start, stop), status = found, 206
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, file.size)))
    content_type = (b"content-type", file.media_type.encode("ascii"))
    if file.content is None:
        reservation.add(min(stop - start, AHEAD_BYTES), 0)
        return DiskResponse(file, start, stop, headers, status, content_type)
    part: bytes | memoryview = file.content
    if status == 206:
        part = memoryview(file.content)[start:stop]
    return Response((part,), headers, status, content_type)


def choose_range(value: bytes, size: int) -> tuple[int, int] | None:
    """Return begin and end of the bytes that ``Range`` asks for (RFC 9110, section 14.1.2); None:
    of another unit, of several parts, or no range at all, and the whole is answered.

    Raises:
        RangeNotSatisfiable: there are none.
    """
    found = _RANGE.fullmatch(value)
    if found is None or found.groups() == (b"", b""):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"the answer has {size} bytes, and none of them is in the range.", where="range"
        )
    return start, stop


def disposition(filename: str) -> bytes:
    """Return ``Content-Disposition`` of a file to be called so (RFC 6266): without folders, and
    without what ends a header. ``inline``: a page may show it.
    """
    name = PureWindowsPath(PurePosixPath(filename).name).name[:MAX_FILENAME]
    name = "".join(letter for letter in name if letter.isprintable()).strip(". ") or "file"
    plain = _NOT_IN_QUOTES.sub("_", name)
    if plain == name:
        return f'inline; filename="{plain}"'.encode("ascii")
    encoded = quote(name.encode(errors="replace"), safe="")
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{encoded}".encode("ascii")


class DiskResponse(Response):
    """A file on disk, or a range of it. Its ``buffers`` are empty.

    Args:
        file: closed here once it is sent; else with its last reference.
        start, stop: of the bytes that are sent.

    Mutable state: ``_fault``, why it cannot be sent to its end.
    """

    __slots__ = ("_fault", "_file", "_start", "_stop")

    def __init__(
        self,
        file: OpenFile,
        start: int,
        stop: int,
        headers: Sequence[Header],
        status: int,
        content_type: Header,
    ) -> None:
        super().__init__((), headers, status, content_type)
        self.length = stop - start
        self._fault = f"its disk did not answer within {READ_TIMEOUT_S:g} s."
        self._file = file
        self._start = start
        self._stop = stop

    async def send_to(self, send: Send) -> None:
        """As of ``Response``. Where the file turns out to be shorter the response ends without its
        last message, which cuts the connection: its length is said.
        """
        headers = [self.content_type, (b"content-length", b"%d" % self.length), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if (send_file := getattr(send, "send_file", None)) is not None and self.length:
            is_sent = await send_file(
                {
                    "file": self._file.descriptor,
                    "offset": self._start,
                    "count": self.length,
                    "read_ahead": self._read_ahead,
                }
            )
            if is_sent is False and not getattr(send, "has_left", True):
                logger.warning("a file was not sent to its end: it became shorter meanwhile.")
            if is_sent is not None:
                self._file.close()
                return
        await self._send_chunks(send)

    async def _read_ahead(self, start: int, stop: int) -> None:
        """Have the system read bytes of the file before they are sent."""
        for at in range(start, stop, FILE_CHUNK_BYTES):
            await asyncio.wait((self._read(at),), timeout=READ_TIMEOUT_S)

    async def _send_chunks(self, send: Send) -> None:
        """Send the file read in threads: to a server that is not ours, or a connection that still
        has something to write.
        """
        at, reading = self._start, self._read(self._start)
        try:
            while True:
                await asyncio.wait((reading,), timeout=READ_TIMEOUT_S)
                chunk = reading.result() if reading.done() else None
                if chunk is None:
                    logger.warning("a file was not sent to its end: %s", self._fault)
                    return
                at += len(chunk)
                has_more = at < self._stop
                if has_more:
                    reading = self._read(at)
                message = {"type": "http.response.body", "body": chunk, "more_body": has_more}
                await send(message)
                # a server drops what is sent to a client that has left, and nothing says so
                if not has_more or getattr(send, "has_left", False):
                    return
                del chunk, message  # their memory is used again once it is sent
                await asyncio.sleep(0)
        finally:
            if reading.done():  # else a thread is at it still, and closes it as it lets go of it
                self._file.close()

    def _read(self, at: int) -> asyncio.Future[memoryview | None]:
        """Begin to read the next chunk in a thread; it is None where the file has become
        shorter.
        """
        memory = aligned_memory(min(FILE_CHUNK_BYTES, self._stop - at), 0)
        file = self._file

        def read() -> memoryview | None:
            try:
                if file.read_into(memory, at) == len(memory):
                    return memory
                self._fault = "it became shorter meanwhile."
            except OSError as error:
                self._fault = f"it cannot be read: {error.strerror}."
            return None

        return asyncio.get_running_loop().run_in_executor(None, read)
