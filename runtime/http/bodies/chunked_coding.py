"""The body of a response without a length (RFC 9112, section 7.1)."""

from __future__ import annotations

from typing import Final

MAX_LINE_BYTES: Final = 1 << 16
"""Of a chunk's size and its extension, or a trailer."""


class ChunkedDecoder:
    """Decodes a chunked body.

    Mutable state: ``_rest`` is not read yet; ``_remaining`` bytes of a chunk are to come, its line
    end included; ``_is_trailer`` after the last chunk.

    Attributes:
        is_last: all of the body has been read.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._remaining = 0
        self._is_trailer = False
        self.is_last = False

    @property
    def has_more(self) -> bool:
        """Whether bytes came after the body."""
        return bool(self._rest)

    def decode(self, data: bytes | bytearray) -> bytearray:
        """Return the content in the next bytes.

        Raises:
            ValueError: they are not chunked.
        """
        self._rest += data
        content = bytearray()
        while self._rest and not self.is_last:
            if self._remaining:
                piece = self._rest[: self._remaining]
                content += piece[: max(0, self._remaining - 2)]
                self._remaining -= len(piece)
                del self._rest[: len(piece)]
                continue
            line, end, rest = self._rest.partition(b"\r\n")
            if not end:
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError("a chunk's line is too long")
                break
            self._rest = rest
            if self._is_trailer:
                self.is_last = not line
                continue
            size = int(line.partition(b";")[0], 16)
            if size < 0:
                raise ValueError("a chunk's size is below 0")
            self._is_trailer = not size
            self._remaining = size + 2 if size else 0
        return content
