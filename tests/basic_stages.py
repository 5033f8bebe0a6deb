"""Stages of the functions that the HTTP cases call."""

from __future__ import annotations

from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import RequestError, Rows, Shape


class Tensors(TypedDict):
    """Ragged rows for the masked mean."""

    x: Rows[NDArray[np.float32]]
    mask: Rows[NDArray[np.float32]]


class Answer(TypedDict):
    """What ``mean`` answers."""

    mean: float
    twice: Annotated[NDArray[np.float32], Shape(2)]
    label: str


def tensors(values: Rows[list[float]]) -> Tensors:
    """Numbers to tensors."""
    arrays = [np.array(row, np.float32) for row in values]
    return {"x": arrays, "mask": [np.ones_like(row) for row in arrays]}


def answer(mean: NDArray[np.float32], unit: str = "m") -> Answer:
    """The mean with its unit; 13 is refused, 14 breaks."""
    if mean == 13:
        raise RequestError("13 is not wanted here.", where="values")
    if mean == 14:
        raise RuntimeError("a secret of the function")
    return {
        "mean": float(mean),
        "twice": np.array([mean, mean], np.float32),
        "label": f"{mean:.1f} {unit}",
    }


def greet(name: str, times: Annotated[int, Field(ge=1, le=3)] = 1) -> dict[str, str]:
    """An answer that is an object by itself."""
    return {"greeting": " ".join([f"hello {name}"] * times)}


def total(image: bytes, times: int = 1) -> int:
    """Of its bytes."""
    return sum(image) * times
