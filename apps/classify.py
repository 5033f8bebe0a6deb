"""What a photograph shows: the five likeliest of ImageNet's thousand classes, by
EfficientNet-Lite0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apps.images import decode
from wakeful import Shape

SIDE: Final = 224
MARGIN: Final = 224 / 256
"""Share of the shorter side that is looked at, as in the network's training."""

Pixels = Annotated[NDArray[np.uint8], Shape(SIDE, SIDE, 3)]
Probabilities = Annotated[NDArray[np.float32], Shape(1000)]


class Guess(TypedDict):
    """One class and how likely it is, 0 to 1."""

    label: str
    score: float


class Answer(TypedDict):
    """What the caller gets: the likeliest first."""

    labels: list[Guess]


def photo(image: bytes) -> Pixels:
    """The middle of the picture, 224 by 224 pixels, RGB."""
    picture = decode(image)
    side = max(1, int(min(picture.size) * MARGIN))
    left, top, right, bottom = (
        edge // 2
        for edge in (
            picture.width - side,
            picture.height - side,
            picture.width + side,
            picture.height + side,
        )
    )
    return np.asarray(
        picture.crop((left, top, right, bottom)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    )


class Name:
    """Probabilities to names.

    Args:
        labels: a file with a name a line, in the order of the classes.
        top: how many classes are named.
    """

    def __init__(self, labels: Path, top: int = 5) -> None:
        self._labels = labels.read_text(encoding="utf-8").splitlines()
        self._top = top

    def __call__(self, probabilities: Probabilities) -> Answer:
        best = np.argsort(probabilities)[: -self._top - 1 : -1]
        return {
            "labels": [
                {"label": self._labels[at], "score": round(float(probabilities[at]), 4)}
                for at in best
            ]
        }
