"""What stages of random graphs are made of: values that depend on all that a stage takes, naps, and
failures by chance of the value.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from wakeful import RequestError, Shape

Letter = Literal["a", "b", "c"]
Numbers = Annotated[NDArray[np.int64], Shape(-1)]
Cell = Annotated[NDArray[np.int64], Shape()]

MAKERS: Final = {
    "int": "x % 97",
    "str": 'f"s{x % 97}"',
    "bool": "x % 2 == 0",
    "float": "x % 64 / 4",
    "Letter": '"abc"[x % 3]',
    "list[int]": "[(x + i) % 13 for i in range(some(x))]",
    "list[str]": '[f"{(x + i) % 13}" for i in range(some(x))]',
    "list[list[int]]": "[[(x + i + j) % 13 for j in range(some(x + i))] for i in range(some(x))]",
    "Numbers": "np.arange(some(x)) + x % 7",
}
"""A value of each kind, made of an integer ``x``; a kind is an annotation."""

NUMPY: Final = {
    "int": "np.int64(x % 97)",
    "str": 'np.str_(f"s{x % 97}")',
    "bool": "np.bool_(x % 2 == 0)",
}
"""The same as numpy's scalars, as many a stage gives them."""


def some(x: int) -> int:
    """How many elements: few, seldom many."""
    return 12 if x % 29 == 0 else x % 4


def plain(value: Any) -> Any:
    """A value so that it can be compared and printed: numpy's as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


def mix(*what: Any) -> int:
    """An integer of everything given."""
    return zlib.crc32(repr(plain(list(what))).encode())


def trouble(x: int, rate: float) -> None:
    """Raises for some values, whatever a stage may raise."""
    chance = x // 7 % 10_000
    if chance < rate * 10_000:
        kinds = [
            RequestError,
            RequestError,
            ValueError,
            KeyError,
            SystemExit,
            asyncio.CancelledError,
            AssertionError,
        ]
        raise kinds[chance % len(kinds)]("by chance")


def nap(x: int) -> None:
    """Some take longer, in a thread."""
    if x % 13 == 0:
        time.sleep(0.0005)


async def rest(x: int) -> None:
    """Some take longer, on the event loop."""
    await asyncio.sleep((0, 0, 0.0005, 0.002)[x % 4])
