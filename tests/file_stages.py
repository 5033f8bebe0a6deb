"""Stages whose answers are files, and the file that declares them."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import tempfile
import time
import wave
from pathlib import Path
from typing import Annotated, Any, TypedDict

from wakeful import File, MediaType, RequestError, Rows

Png = Annotated[bytes, MediaType("image/png")]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="
)
"""A picture."""


def content(size: int) -> bytes:
    """So many bytes, no part of which is like another."""
    return hashlib.shake_128(b"%d" % size).digest(size)


def picture(size: int = 0) -> Png:
    """The picture, or so many bytes that say they are one."""
    if size < 0:
        raise RequestError("no picture is so small.", where="size")
    return content(size) if size else PNG


def pictures(size: Rows[int]) -> Rows[Png]:
    """All rows at once."""
    return [content(one) for one in size]


def report(path: str) -> Annotated[Path, MediaType("text/csv; charset=utf-8")]:
    """A file that is there."""
    return Path(path)


def temporary(folder: str, size: int, wait_s: float = 0.0) -> Annotated[File, MediaType("audio/*")]:
    """A new file, which nothing wants any more once it is sent."""
    handle, path = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.write(content(size))
    time.sleep(wait_s)
    return File(path=path, media_type="audio/wav", filename='my "tune" é.wav', delete=True)


def failing(folder: str) -> Annotated[File, MediaType("audio/*")]:
    """What it gives is of no type that it declares."""
    handle, path = tempfile.mkstemp(dir=folder)
    os.close(handle)
    return File(path=path, media_type="image/png", delete=True)


class Named(TypedDict):
    """A file among others stays JSON."""

    picture: Png
    report: Annotated[Path, MediaType("text/csv")]
    count: int


def several(path: str) -> Named:
    """Several values."""
    return {"picture": PNG, "report": Path(path), "count": 1}


def anything(kind: str) -> File:
    """Of any type."""
    return File(b"text", kind)


def size_of(given: bytes) -> int:
    """What a stage behind it takes."""
    return len(given)


def beep(hertz: float = 440.0) -> Annotated[bytes, MediaType("audio/wav")]:
    """A tenth of a second of sound."""
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        samples = (round(9000 * math.sin(at * hertz / 1273)) for at in range(800))
        sound.writeframes(b"".join(one.to_bytes(2, "little", signed=True) for one in samples))
    return written.getvalue()


GRAPHS: dict[str, list[dict[str, Any]]] = {
    "picture": [{"stage": "png", "python": "tests.file_stages:picture"}],
    "pictures": [{"stage": "png", "python": "tests.file_stages:pictures"}],
    "beep": [{"stage": "sound", "python": "tests.file_stages:beep"}],
    "report": [{"stage": "csv", "python": "tests.file_stages:report"}],
    "temporary": [{"stage": "wav", "python": "tests.file_stages:temporary"}],
    "failing": [{"stage": "wav", "python": "tests.file_stages:failing"}],
    "several": [{"stage": "all", "python": "tests.file_stages:several"}],
    "anything": [{"stage": "it", "python": "tests.file_stages:anything"}],
    "passed_on": [{"stage": "png", "function": "picture"}],
    "measured": [
        {"stage": "given", "function": "report"},
        {
            "stage": "size",
            "python": "tests.file_stages:size_of",
            "inputs": {"given": "csv"},
        },
    ],
}


def declared(only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The functions as entries of ``applications``."""
    return [
        {
            "name": name,
            "route_prefix": f"/v2/models/{name}",
            "import_path": "deployments:function",
            "args": {"graph": graph},
        }
        for name, graph in GRAPHS.items()
        if not only or name in only
    ]
