"""Stages of the functions that the protocol is tried on."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import Shape

Vector = Annotated[NDArray[np.float32], Shape(-1)]
Texts = Annotated[NDArray[np.str_], Shape(-1)]


def add(x: Vector, y: Vector | None = None) -> Vector:
    """Their sum, or the one."""
    return x if y is None else x + y


def count(x: Vector | None = None, y: Vector | None = None) -> int:
    """How many there are."""
    return (x is not None) + (y is not None)


class Said(TypedDict):
    """What came, as it came."""

    flag: bool
    number: int
    ratio: float
    text: str
    many: list[int]
    mean: float
    size: int
    keys: str


def say(
    flag: bool,
    number: int,
    ratio: float,
    text: str,
    raw: bytes,
    many: list[int],
    words: Texts,
    some: dict[str, Any],
) -> Said:
    """Every kind of field that is no tensor."""
    return {"flag": flag, "number": number, "ratio": ratio, "text": text + "".join(words.tolist()), "many": many, "mean": sum(many) / 2,
            "size": len(raw), "keys": ",".join(some)}  # fmt: skip


def spoil(x: Vector) -> Vector:
    """Writes into what it is given."""
    x[0] = 7
    return x
