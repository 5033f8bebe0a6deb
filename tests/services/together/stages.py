"""Stages of the functions of ``declared``."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import Call, CallError, File, MediaType, RequestError, Rows, Shape


def size(count: int) -> int:
    """Of the file to come."""
    return count


def draw(size: int) -> Annotated[bytes, MediaType("image/svg+xml")]:
    """A file in memory."""
    return b"<" * size


def write(size: int, folder: str) -> Annotated[File, MediaType("text/csv")]:
    """A file on disk, which goes with the answer."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write("<" * size)
    return File(path=file.name, filename="a.csv", delete=True)


def pages(count: int) -> list[int]:
    """Elements."""
    return list(range(count))


def read(pages: int, folder: str) -> int:
    """One of them; all but the first wait until they may go on."""
    while pages and not Path(folder, "go").exists():
        time.sleep(0.01)
    return 10 * pages


async def line(n: int, folder: str) -> int:
    """A row; all but the first wait until they may go on."""
    while n and not Path(folder, "go").exists():  # noqa: ASYNC240 - a millisecond
        await asyncio.sleep(0.01)
    return 10 * n


class Breaks:
    """Answers nothing any more once it was told so, as a session whose device is gone."""

    def __init__(self) -> None:
        self.is_broken = False

    def __call__(self, name: str) -> dict[str, str]:
        self.is_broken = self.is_broken or name == "break"
        if self.is_broken or name == "poison":
            raise RuntimeError(name)
        return {"said": name, "pid": str(os.getpid())}


class Said(TypedDict):
    """A text, and the process that says it."""

    said: str
    pid: int


def say(text: str, image: str = "") -> Said:
    """What is recorded."""
    return {"said": text, "pid": os.getpid()}


class Embedded(TypedDict):
    """A vector of each text."""

    embedding: Rows[Annotated[NDArray[np.float32], Shape(2)]]


def embed(text: Rows[str]) -> Embedded:
    """What is recorded of a task."""
    return {"embedding": [np.zeros(2, np.float32) for _ in text]}


class Counted(TypedDict):
    """A number, and the processes that it came through."""

    n: int
    pids: list[int]


def leaf(n: int) -> Counted:
    """The end of the chain."""
    if n < 0:
        raise RequestError("it is negative.", where="n", status=422)
    return {"n": n + 1, "pids": [os.getpid()]}


def middle(n: int, called: Call["call_leaf"]) -> Counted:  # noqa: F821
    """Waits for the end."""
    found = called(n=n)
    return {"n": found["n"] + 1, "pids": [os.getpid(), *found["pids"]]}


async def top(n: int, called: Call["call_middle"]) -> Counted:  # noqa: F821
    """Waits for the middle."""
    found = await called(n=n)
    return {"n": found["n"] + 1, "pids": [os.getpid(), *found["pids"]]}


class Built:
    """An index that is built with all of them."""

    def __init__(self, called: Call["call_top"]) -> None:  # noqa: F821
        self.base = [one["n"] for one in called.rows([{"n": n} for n in range(3)])]
        self.called = called

    def __call__(self, n: int) -> list[int]:
        try:
            return [*self.base, self.called(n=n)["n"]]
        except CallError as error:
            return [error.status]
