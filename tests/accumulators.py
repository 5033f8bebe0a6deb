"""Stages that keep something between the calls of a sequence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import RequestError, Rows, Shape, State

PATIENCE_S = 30.0

MAY_END = threading.Event()
"""What ``held`` waits for."""

Numbers = Annotated[NDArray[np.float32], Shape(3)]


class Sum(TypedDict):
    """What is answered, and what is kept."""

    total: int
    calls: int
    seen: list[int]


def add(n: int, total: State[int], seen: State[list[int]]) -> Sum:
    """Adds up; refuses 13, and fails at 14."""
    if n == 13:
        raise RequestError("13 is not wanted.", where="n")
    if n == 14:
        raise RuntimeError("secret")
    seen = [*(seen or []), n]
    return {"total": (total or 0) + n, "calls": len(seen), "seen": seen}


class Told(TypedDict):
    """Of ``told``."""

    sum: int
    calls: int


def told(total: int, calls: int) -> Told:
    """The answer of ``add``: what is kept is an ordinary value once it was given again."""
    return {"sum": total, "calls": calls}


def held(n: int, last: State[int]) -> Held:
    """Answers when it may, with what the call before had."""
    assert MAY_END.wait(PATIENCE_S)
    return {"before": -1 if last is None else last, "last": n}


class Held(TypedDict):
    """Of ``held``."""

    before: int
    last: int


class Begun(TypedDict):
    """A model's inputs, a column each."""

    x: Rows[Numbers]
    state: Rows[Numbers]
    rows: Rows[int]


def begin(values: Rows[list[float]], state: Rows[State[Numbers]]) -> Begun:
    """What the model adds up; the answer has how many rows were there at once."""
    zero = np.zeros(3, np.float32)
    return {
        "x": [np.array(row, np.float32) for row in values],
        "state": [zero if one is None else one for one in state],
        "rows": [len(values)] * len(values),
    }


def sums(state: Numbers, rows: int) -> dict[str, list[float] | int]:
    """The answer."""
    return {"sums": state.tolist(), "rows": rows}


class Count(TypedDict):
    """What is kept, and what is answered of it."""

    upto: list[int]
    count: int


def count(n: int, count: State[int]) -> Count:
    """The next so many numbers."""
    first = count or 0
    return {"upto": list(range(first, first + n)), "count": first + n}


def tell(upto: list[int]) -> Iterator[int]:
    """One by one; fails at 100."""
    for number in upto:
        if number == 100:
            raise RequestError("100 is not told.")
        yield number
