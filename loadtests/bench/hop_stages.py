"""Stages that pass a tensor of 600 KB on, as an image of 224 x 224 is one; what they compute is little, so that the way shows."""

from __future__ import annotations

from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from runtime import Shape

Pixels = Annotated[NDArray[np.float32], Shape(3, 224, 224)]


class Image(TypedDict):
    """602,112 bytes."""

    pixels: Pixels


def image(seed: int) -> Image:
    """One value everywhere, so that the answer is known."""
    return {"pixels": np.full((3, 224, 224), seed, np.float32)}


def middle(pixels: Pixels) -> float:
    """One number of it: the other side has it, and computes nothing."""
    return float(pixels[1, 112, 112])


def same(pixels: Pixels) -> Image:
    """All of it: a tensor there and one back."""
    return {"pixels": pixels}


def answer(middle: float) -> dict[str, float]:
    """The answer of a call."""
    return {"middle": middle}


def answer_same(pixels: Pixels) -> dict[str, float]:
    """Likewise, of what came back."""
    return {"middle": float(pixels[1, 112, 112])}
