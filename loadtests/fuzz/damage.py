"""Bytes that are nearly right."""

from __future__ import annotations

from random import Random
from typing import Final

TOKENS: Final = (
    *(
        b"\0",
        b"\r\n",
        b"\n",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\xff",
        b"\x80",
        b"-",
    ),
    *(
        b"--b",
        b"--b--",
        b"\r\n\r\n",
        b"%00",
        b"%",
        b"&",
        b"=",
        b"true",
        b"NaN",
        b"1e999",
        b"9" * 30,
    ),
    *(b"\xff\xff\xff\xff", b"\0\0\0\x80", b"binary_data_size", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(b"[" * 70, b"{" * 1200, b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"\t", b"? "),
)
"""What readers take as a mark of something."""


def damaged(random: Random, data: bytes) -> bytes:
    """Some bytes flipped, cut out, doubled, put in, or all behind a place cut off."""
    body = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        at, to = sorted(random.randint(0, len(body)) for _ in range(2))
        to = min(to, at + random.choice((1, 4, 64, 100_000)))
        match random.randrange(7):
            case 0 if at < len(body):
                body[at] ^= 1 << random.randrange(8)
            case 1:
                del body[at:to]
            case 2:
                body[at:at] = body[at:to] * random.choice((1, 1, 50))
            case 3:
                body[at:at] = random.randbytes(random.choice((1, 4, 300)))
            case 4 if random.random() < 0.3:
                del body[at:]
            case _:
                body[at:to] = random.choice(TOKENS)
    return bytes(body)
