"""Sound as callers send it: samples of 16 bits, or a WAV file of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wakeful import RequestError

RATE: Final = 16000

MAX_PARTS: Final = 1000
"""Of a WAV file, before its samples: one has a handful."""

_PLAIN: Final = (1, 0xFFFE)
"""Formats of a WAV file whose samples are numbers, not codes: PCM, and the one that says so
elsewhere.
"""


def samples_of(sound: bytes) -> NDArray[np.float32]:
    """Float32 from -1 to 1.

    Raises:
        RequestError: a WAV file of another kind, or half a sample.
    """
    if sound[:4] == b"RIFF":
        sound = _data(sound)
    if len(sound) % 2:
        raise RequestError(
            "an odd number of bytes holds no 16 bit samples; cut the stream between samples.",
            where="sound",
        )
    return np.frombuffer(sound, "<i2").astype(np.float32) / np.float32(32768)


def _data(wav: bytes) -> bytes:
    """The samples of a WAV file, or of its start: a stream's header does not know how long it will
    be.
    """
    at, kind = 12, b""
    for _ in range(MAX_PARTS):
        if at + 8 > len(wav):
            break
        name, size = wav[at : at + 4], int.from_bytes(wav[at + 4 : at + 8], "little")
        if name == b"fmt ":
            kind = wav[at + 8 : at + 24]
        if name == b"data" and len(kind) == 16:
            form, channels = int.from_bytes(kind[:2], "little"), int.from_bytes(kind[2:4], "little")
            rate, bits = int.from_bytes(kind[4:8], "little"), int.from_bytes(kind[14:16], "little")
            if (channels, rate, bits) == (1, RATE, 16) and form in _PLAIN:
                return wav[at + 8 : at + 8 + size]
            raise RequestError(
                f"the WAV file is {rate} Hz, {channels} channels, {bits} bits; send {RATE} "
                "Hz, one, 16.",
                where="sound",
            )
        at += 8 + size + size % 2
    raise RequestError(
        "this begins like a WAV file and has no samples; send its start whole.", where="sound"
    )
