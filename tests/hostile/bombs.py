"""Files of few bytes that claim to be large, or that take long to read, for the functions that ship
with Wakeful.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backports import zstd
from PIL import Image

from tests.hostile.rows import zeros

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Bomb:
    """One file, to one function.

    Attributes:
        to: the function.
        made: makes the body.
        media: its content type.
        statuses: that are right.
        headers: further ones.
    """

    name: str
    to: str
    made: Callable[[], bytes]
    media: str
    statuses: tuple[int, ...] = (400,)
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.to}: {self.name}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8, kind: int = 2) -> bytes:
    """A PNG that says how large it is."""
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return PNG + _chunk(b"IHDR", head) + b"".join(chunks) + _chunk(b"IEND", b"")


def squeezed(count: int) -> bytes:
    """So many zeros, as zlib packs them."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join([*parts, packer.flush()])


def drawn(kind: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    """A small picture of a kind."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG of 8 x 8 pixels whose frame says it is larger."""
    data = bytearray(drawn("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes so often again: each is decoded whole."""
    data = drawn("JPEG", (3400, 3400), progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:last] + scan * count + b"\xff\xd9"


def tiff_of(width: int, height: int) -> bytes:
    """A TIFF without data that says it is large."""
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 0xFFFFFFF0),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def gif_of(width: int, height: int) -> bytes:
    """A GIF whose canvas says it is large."""
    data = bytearray(drawn("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp_of(width: int, height: int) -> bytes:
    """A bitmap whose header says it is large."""
    data = bytearray(drawn("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def animation() -> bytes:
    """A GIF of many frames, of which the first is read."""
    frames = [Image.new("P", (500, 500), n % 256) for n in range(400)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def archive() -> bytes:
    """A zip of 64 MiB of zeros, in a zip."""
    data = bytes(64 << 20)
    for _ in range(2):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("data", data)
        data = buffer.getvalue()
    return data


def wav(*chunks: bytes, said: int = 0xFFFFFFFF) -> bytes:
    """A WAV file of these parts."""
    return b"RIFF" + struct.pack("<I", said) + b"WAVE" + b"".join(chunks)


def fmt(rate: int = 16_000, channels: int = 1, bits: int = 16, form: int = 1) -> bytes:
    """The part that says how samples are written."""
    data = struct.pack("<HHIIHH", form, channels, rate, rate * 2, 2, bits)
    return b"fmt " + struct.pack("<I", len(data)) + data


PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 65,535 squared": (lambda: png(65_535, 65_535), "png"),
    "PNG of 2**31 squared": (lambda: png(2**31 - 1, 2**31 - 1), "png"),
    "PNG of nothing": (lambda: png(0, 0), "png"),
    "PNG of a bit a pixel": (
        lambda: png(100_000, 100_000, _chunk(b"IDAT", squeezed(64 << 20)), bits=1, kind=0),
        "png",
    ),
    "PNG with a text of 256 MiB": (
        lambda: png(8, 8, _chunk(b"zTXt", b"a\0\0" + squeezed(256 << 20))),
        "png",
    ),
    "PNG with a profile of 256 MiB": (
        lambda: png(8, 8, _chunk(b"iCCP", b"a\0\0" + squeezed(256 << 20))),
        "png",
    ),
    "PNG with a part of 2**31": (lambda: png(8, 8, b"\x7f\xff\xff\xffIDAT"), "png"),
    "PNG without pixels": (lambda: png(8, 8), "png"),
    "JPEG of 65,500 squared": (lambda: jpeg_of(65_500, 65_500), "jpeg"),
    "JPEG of 2,000 scans": (lambda: jpeg_of_scans(2_000), "jpeg"),
    "JPEG of nothing": (lambda: jpeg_of(0, 0), "jpeg"),
    "GIF of 65,535 squared": (lambda: gif_of(65_535, 65_535), "gif"),
    "TIFF of 2**31 squared": (lambda: tiff_of(2**31 - 1, 2**31 - 1), "tiff"),
    "TIFF without its data": (lambda: tiff_of(6000, 6000), "tiff"),
    "BMP of 2**31 squared": (lambda: bmp_of(2**31 - 1, 2**31 - 1), "bmp"),
    "a zip of zips": (archive, "png"),
    "a gzip": (lambda: zeros(), "png"),
}
"""Each is refused by each function that takes pictures."""

SOUNDS: dict[str, Callable[[], bytes]] = {
    "WAV of 192 kHz": lambda: wav(fmt(192_000), b"data\xff\xff\xff\xff", bytes(100)),
    "WAV of 65,535 channels": lambda: wav(fmt(channels=65_535), b"data\xff\xff\xff\xff"),
    "WAV of no bits": lambda: wav(fmt(bits=0), b"data\xff\xff\xff\xff"),
    "WAV in a code": lambda: wav(fmt(form=85), b"data\xff\xff\xff\xff"),
    "WAV without a format": lambda: wav(b"data\xff\xff\xff\xff", bytes(100)),
    "WAV without samples": lambda: wav(fmt()),
    "WAV of a part of 4 GiB": lambda: wav(fmt(), b"LIST\xff\xff\xff\xff", bytes(100)),
    "WAV of a million parts": lambda: wav(b"LIST\0\0\0\0" * 1_000_000),
    "WAV cut off": lambda: b"RIFF\0\0",
    "WAV of half a sample": lambda: wav(fmt(), b"data\xff\xff\xff\xff", bytes(101)),
}

SEQUENCE = {"x-sequence-id": "a", "x-sequence-start": "1", "x-sequence-end": "1"}


def _in_json(name: str, data: bytes) -> bytes:
    return json.dumps({name: base64.b64encode(data).decode()}).encode()


def bombs() -> list[Bomb]:
    """All of them."""
    found = []
    for to in ("classify", "ocr", "highlight"):
        for name, (made, kind) in PICTURES.items():
            found.append(Bomb(name, to, made, f"image/{kind}"))
        found.append(
            Bomb(
                "a PNG in JSON",
                to,
                lambda: _in_json("image", png(65_535, 65_535)),
                "application/json",
            )
        )
        read = {
            "an animation, of which one frame is read": (animation, "gif"),
            "PNG with 256 MiB behind its pixels": (
                lambda: png(100, 100, _chunk(b"IDAT", squeezed(256 << 20))),
                "png",
            ),
        }
        for name, (made, kind) in read.items():
            found.append(Bomb(name, to, made, f"image/{kind}", (200,)))
    for name, sound in SOUNDS.items():
        found.append(Bomb(name, "listen", sound, "audio/wav", headers=SEQUENCE))
    for to, media in {
        "classify": "image/png",
        "listen": "audio/wav",
        "filetype": "application/zip",
        "embed": "application/json",
    }.items():
        for coding, packed in {
            "gzip": lambda: zeros(1 << 30),
            "zstd": lambda: zstd.compress(bytes(256 << 20)),
        }.items():
            headers = {"content-encoding": coding, **(SEQUENCE if to == "listen" else {})}
            found.append(Bomb(f"{coding} of zeros", to, packed, media, (413,), headers))
    found.append(
        Bomb("a zip of zips, which is looked at", "filetype", archive, "application/zip", (200,))
    )
    words = b'{"text": "%b"}'
    found.append(
        Bomb(
            "a text of 20 MB",
            "embed",
            lambda: words % (b"a " * 10_000_000),
            "application/json",
            (400, 413),
        )
    )
    found.append(
        Bomb(
            "a word of 20 MB",
            "embed",
            lambda: words % (b"a" * 20_000_000),
            "application/json",
            (400, 413),
        )
    )
    return found
