"""Decodes compressed bodies as they arrive: ``Content-Encoding: gzip`` and ``zstd``.

A kilobyte can become a gigabyte, so a body is decoded ``STEP_BYTES`` at a time: each step is
counted in the call's reservation, a body that grows beyond its limit ends there, and other work has
its turn in between. Several members (frames, of zstd) are one body; each costs a decompressor, and
an empty one is eight bytes, so their number has a bound. One coding at a time; a list of them is
refused.

Source: RFC 9110, section 8.4; RFC 1952, section 2.2 (members); RFC 8878, section 3.1 (frames) and
RFC 9659 (the window of zstd in HTTP is 8 MiB at most).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

from runtime.batching.reservation import BodyReservation
from runtime.errors import MalformedBody, TooLarge, UnsupportedMediaType
from runtime.http.bodies.chunks import join, too_large_error

STEP_BYTES: Final = 256 << 10
"""Decoded at once: half a millisecond with gzip."""

SLICE_BYTES: Final = 16 << 10
"""Of a compressed body that are fed at once: at the end of each member the rest is copied."""

MAX_MEMBERS: Final = 1024
"""Of one body. bgzip begins a member every 64 KiB. A frame of zstd takes 20 us to begin: 256 KiB of
empty ones held the event loop for 0.6 s.
"""

IDENTITY: Final = b"identity"

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZSTD_OPTIONS: Final[dict[int, int]] = {DecompressionParameter.window_log_max: 23}


class ContentDecoder:
    """One compressed body.

    Args:
        encoding: value of the ``Content-Encoding`` header.
        max_body_bytes: of the decoded body.
        reservation: grows with it.

    Raises:
        UnsupportedMediaType: another coding.

    Mutable state: ``_pieces`` of the decoded body, and their ``_size``.
    """

    def __init__(self, encoding: bytes, max_body_bytes: int, reservation: BodyReservation) -> None:
        self._decompressor = _decompressor(encoding)
        self._max_body_bytes = max_body_bytes
        self._reservation = reservation
        self._pieces: list[bytes] = []
        self._size = 0

    async def feed(self, data: bytes) -> None:
        """Decode the next part of the body.

        Raises:
            TooLarge: the decoded body is larger than it may be, or has too many members.
            Overloaded: it does not fit in the reservation's budgets.
            MalformedBody: it is not what the header says.
        """
        try:
            for start in range(0, len(data), SLICE_BYTES):
                await self._decode(data[start : start + SLICE_BYTES])
        except (zlib.error, ZstdError) as error:
            raise MalformedBody(
                f"the body is not what its content-encoding says: {error}.",
                where="content-encoding",
            ) from None

    async def _decode(self, data: bytes) -> None:
        for piece in self._decompressor.pieces(data):
            if self._decompressor.members > MAX_MEMBERS:
                raise TooLarge(
                    f"the compressed body has more than {MAX_MEMBERS} members; compress it whole.",
                    where="content-encoding",
                )
            self._size += len(piece)
            if self._size > self._max_body_bytes:
                raise too_large_error(self._max_body_bytes)
            self._reservation.extend_to(self._size)
            if piece:
                self._pieces.append(piece)
            if len(piece) == STEP_BYTES:
                await asyncio.sleep(0)

    async def finish(self) -> bytes:
        """Return the decoded body.

        Raises:
            MalformedBody: its end is missing.
        """
        if not self._decompressor.is_whole:
            raise MalformedBody("the compressed body ends early.", where="content-encoding")
        return await join(self._pieces, self._size)


class _Decompressor(Protocol):
    """Decodes one coding.

    Attributes:
        members: that have begun.
        is_whole: no part of the body is missing so far.
    """

    members: int

    @property
    def is_whole(self) -> bool: ...
    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _GzipDecompressor:
    """Mutable state: ``_member``, the last one that has begun, and ``members``."""

    def __init__(self) -> None:
        self.members = 1
        self._member = zlib.decompressobj(_GZIP)

    @property
    def is_whole(self) -> bool:
        return self._member.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data decodes to, at most ``STEP_BYTES`` at a time."""
        while True:
            if self._member.eof and data:
                self._member = zlib.decompressobj(_GZIP)
                self.members += 1
            piece = self._member.decompress(data, STEP_BYTES)
            yield piece
            data = self._member.unconsumed_tail or self._member.unused_data
            if not data and len(piece) < STEP_BYTES:
                return


class _ZstdDecompressor:
    """Mutable state: ``_frame``, the last one that has begun, and ``members``."""

    def __init__(self) -> None:
        self.members = 1
        self._frame = ZstdDecompressor(options=_ZSTD_OPTIONS)

    @property
    def is_whole(self) -> bool:
        return self._frame.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data decodes to, at most ``STEP_BYTES`` at a time."""
        while True:
            if self._frame.eof:
                if not data:
                    return
                self._frame = ZstdDecompressor(options=_ZSTD_OPTIONS)
                self.members += 1
            yield self._frame.decompress(data, STEP_BYTES)
            data = self._frame.unused_data if self._frame.eof else b""
            if not self._frame.eof and self._frame.needs_input:
                return


_CODINGS: Final[dict[bytes, Callable[[], _Decompressor]]] = {
    b"gzip": _GzipDecompressor,
    b"x-gzip": _GzipDecompressor,
    b"zstd": _ZstdDecompressor,
}


def check_encoding(encoding: bytes) -> None:
    """Check that a body of this coding can be read.

    Raises:
        UnsupportedMediaType: it cannot.
    """
    if encoding.lower() != IDENTITY and encoding.lower() not in _CODINGS:
        raise UnsupportedMediaType(
            "a body is plain, gzip or zstd; send it so, under one content-encoding.",
            where="content-encoding",
        )


def _decompressor(encoding: bytes) -> _Decompressor:
    check_encoding(encoding)
    return _CODINGS[encoding.lower()]()
