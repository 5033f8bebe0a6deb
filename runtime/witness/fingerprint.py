"""What a call is known by after the process that read it has died: a number that any other process makes of it as well."""

from __future__ import annotations

import zlib


def fingerprint(body: bytes | bytearray | memoryview, function: str = "") -> int:
    """48 bits, never 0: a checksum of the function's name and the body, and the body's length; 0.3 µs, and 1.5 ms for 6 MB.

    It is no proof: of two bodies of one length that differ, one pair in four billion has the same.

    Args:
        function: its name, since a body that one function dies of is another's daily work.
    """
    return (zlib.crc32(body, zlib.crc32(function.encode())) << 16 | len(body) & 0xFFFF) or 1
