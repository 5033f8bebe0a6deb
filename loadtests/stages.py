"""Stages that load tests serve: they take time without computing, or fail on wish."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from wakeful import Call, File, MediaType

FILE_BYTES = 10 << 20
"""Of an answer that is a file."""

Fault = Literal["", "raises", "raises on Ray", "dies on Ray"]
"""What is wrong with a version."""


def answer(x: float) -> float:
    """Twice ``x``: what is measured is the way there and back."""
    return 2 * x


def elements(count: int) -> list[int]:
    """Return the numbers from 0, as many as are wanted."""
    return list(range(count))


def texts(count: int) -> list[str]:
    """As many, of some words."""
    return [f"the day on which the money of month {number} comes in" for number in range(count)]


def element(elements: int, ms: int = 20) -> int:
    """One of them, after a while."""
    time.sleep(ms / 1000)
    return elements


async def element_soon(elements: int, ms: int = 20) -> int:
    """The same on the event loop."""
    await asyncio.sleep(ms / 1000)
    return elements


def given(answer: float) -> float:
    """What another stage, or function, answered."""
    return answer


async def asked(x: float, function: Annotated[Call, "answer"]) -> float:
    """What a function answers that is called from here."""
    return float((await function(x=x))["answer"])


def asked_and_waited(x: float, function: Annotated[Call, "answer"]) -> float:
    """The same, in a thread."""
    return float(function(x=x)["answer"])


@cache
def large_file() -> bytes:
    """What such an answer holds."""
    return hashlib.shake_128(b"file").digest(FILE_BYTES)


def from_memory(x: float) -> Annotated[bytes, MediaType("application/octet-stream")]:
    """The file as bytes."""
    return large_file()


class FromDisk:
    """The file by its path.

    Args:
        folder: where it is written.
    """

    def __init__(self, folder: str) -> None:
        self._path = Path(folder, f"file-{os.getpid()}")
        self._path.write_bytes(large_file())

    def __call__(self, x: float) -> Annotated[Path, MediaType("application/octet-stream")]:
        return self._path


class Temporary:
    """The file by its path, written anew for each call and removed behind it.

    Args:
        folder: where it is written.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, x: float) -> File:
        handle, path = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(large_file())
        return File(path=path, media_type="application/octet-stream", delete=True)


def compute(ms: float) -> float:
    """So many milliseconds of processor time, all of it with Python's lock held."""
    until = time.thread_time() + ms / 1000
    turns = 0.0
    while time.thread_time() < until:
        turns += 1
    return turns


class Worked(TypedDict):
    """A proof that the work was done, and where."""

    digest: str
    pid: int
    version: int
    machine: str


class Work:
    """Sleeps as long as it is asked to, so that many replicas work on few cores.

    Args:
        version: part of the answers.
        fault: this version does not load, or only on Ray, or it kills its process there.
    """

    def __init__(self, version: int = 1, fault: Fault = "") -> None:
        self._version = version
        is_on_ray = "ray" in sys.modules
        if fault == "raises" or (fault == "raises on Ray" and is_on_ray):
            raise ValueError(f"version {version} was made to fail")
        if fault == "dies on Ray" and is_on_ray:
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, key: str, ms: float, padding: str) -> Worked:
        if ms < 0:
            raise ValueError("a poisoned row")
        time.sleep(ms / 1000)
        return {
            "digest": digest(key, ms, padding),
            "pid": os.getpid(),
            "version": self._version,
            "machine": socket.gethostname(),
        }


def digest(key: str, ms: float, padding: str) -> str:
    """An answer that takes the whole request to compute."""
    return hashlib.blake2b(f"{key}|{ms}|{padding}".encode(), digest_size=16).hexdigest()


class Signed(TypedDict):
    """Which function answered, in which version, and what it was asked."""

    name: str
    version: int
    x: int


class Sign:
    """Says its name and version.

    Args:
        load_s: how long it takes to load.
        fault: as of ``Work``.
    """

    def __init__(self, name: str, version: int, load_s: float = 0.0, fault: Fault = "") -> None:
        if fault == "raises on Ray" and "ray" in sys.modules:
            raise ValueError(f"version {version} was made to fail")
        time.sleep(load_s)
        self._name, self._version = name, version

    def __call__(self, x: int) -> Signed:
        time.sleep(0.02)
        return {"name": self._name, "version": self._version, "x": x}


def hand_on(name: str, version: int, x: int) -> Signed:
    """What the stage before it signed."""
    return {"name": name, "version": version, "x": x}
