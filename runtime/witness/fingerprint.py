"""What a call is known by after the process that read it has died: a number that any other process makes of it as well."""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np

LARGE_BYTES: Final = 256 << 10
"""From here on a body is folded before it is summed up: zlib takes 1.1 ms for 4 MB, which is a third of a call with such a tensor."""

FOLD: Final = 4096
"""Words of eight bytes in a fold."""


def fingerprint(body: bytes | bytearray | memoryview, function: str = "") -> int:
    """48 bits, never 0: a checksum of the function's name and the body, and the body's length; 0.3 µs, and 0.3 ms for 4 MB.

    It is no proof: of two bodies of one length that differ, one pair in four billion has the same; and so have two large ones that
    differ only in the order of their parts of 32 KiB.

    Args:
        function: its name, since a body that one function dies of is another's daily work.
    """
    folded, rest = _folded(body) if len(body) >= LARGE_BYTES else (b"", body)
    return (zlib.crc32(rest, zlib.crc32(folded, zlib.crc32(function.encode()))) << 16 | len(body) & 0xFFFF) or 1


def _folded(body: bytes | bytearray | memoryview) -> tuple[bytes, memoryview]:
    """The sum of a body's parts, and what is left behind the last whole one."""
    parts = len(body) // (8 * FOLD)
    words = np.frombuffer(body, "<u8", parts * FOLD).reshape(parts, FOLD)
    return words.sum(axis=0, dtype="<u8").tobytes(), memoryview(body)[parts * 8 * FOLD :]
