"""What stages of random graphs are made of: values that depend on all that a stage takes, naps,
failures by chance of the value, and changes of what was taken.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import time
import zlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from wakeful import RequestError, Shape

Letter = Literal["a", "b", "c"]
Numbers = Annotated[NDArray[np.int64], Shape(-1)]
Cell = Annotated[NDArray[np.int64], Shape()]


class Hue(enum.Enum):
    """Of which a function sends the number."""

    RED = 0
    GREEN = 1
    BLUE = 2


@dataclasses.dataclass
class Box:
    """Of which a function sends its fields."""

    size: int
    hue: Hue


Table = dict[str, list[int]]

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
    "Hue": "Hue(x % 3)",
    "list[Hue]": "[Hue((x + i) % 3) for i in range(some(x))]",
    "Box": "Box(x % 11, Hue(x % 3))",
    "Table": "{str(i): [(x + i) % 13] * some(x + i) for i in range(some(x))}",
    "set[int]": "{(x + i) % 13 for i in range(some(x))}",
}
"""A value of each kind, made of an integer ``x``; a kind is an annotation."""

NUMPY: Final = {
    "int": "np.int64(x % 97)",
    "str": 'np.str_(f"s{x % 97}")',
    "bool": "np.bool_(x % 2 == 0)",
}
"""The same as numpy's scalars, as many a stage gives them."""


READ: Final[dict[str, Callable[[Any], Any]]] = {
    "Hue": Hue,
    "list[Hue]": lambda given: [Hue(one) for one in given],
    "Box": lambda given: given if isinstance(given, Box) else Box(given["size"], Hue(given["hue"])),
    "set[int]": set,
}
"""By kind, what a request's JSON is in Python; a value that is it already stays."""

KEPT: Final = {index: [index] * (index % 3) for index in range(13)}
"""Lists that stages give, and keep."""


def kept(x: int) -> list[int]:
    """One of them; what is made of it then is not to be seen here."""
    return KEPT[x % 13]


def spoil(*what: Any) -> None:
    """Changes every list and dict in place, as a stage may that takes it, and what is in them."""
    for value in what:
        if isinstance(value, dict):
            spoil(*value.values())
            value["spoilt"] = [1]
        elif isinstance(value, list):
            spoil(*value)
            value.append(value[0] if value else 1)
        elif isinstance(value, set):
            value.add(99)


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
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, Box):
        return {"size": value.size, "hue": value.hue.value}
    return value


def mix(*what: Any) -> int:
    """An integer of everything given; of a ``Hue`` another than of its number."""
    return zlib.crc32(repr([_told(value) for value in what]).encode())


def _told(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    kind = type(value).__name__ if isinstance(value, enum.Enum | set | Box) else ""
    return f"{kind} {plain(value)}" if kind else plain(value)


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
