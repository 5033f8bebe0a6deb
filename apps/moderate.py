"""How likely a text is to be profane.

The model knows English words, one by one: it neither reads between the lines nor knows other
languages.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import Shape

Text = Annotated[str, Field(max_length=100_000, description="A text.")]
Score = Annotated[NDArray[np.float32], Shape()]
Threshold = Annotated[
    float, Field(ge=0, le=1, description="Score from which a text is said to be profane.")
]


class Judgement(TypedDict):
    """What the caller gets: a score from 0 to 1, whether it reaches the threshold, and the score
    once more by its label, as all functions that classify texts have it.
    """

    score: float
    is_profane: bool
    scores: dict[str, float]


_PIECES = re.compile(r"\s+|\S{1,256}")
"""Words, long ones cut: to normalize takes time with the square of the accents that follow each
other, and holds the interpreter's lock. 100,000 of them took 10 s."""


def words(text: Text) -> str:
    """One way of writing what can be written in several (full-width letters, ligatures), in small
    letters, as the model was trained.
    """
    if text.isascii():
        return text.lower()
    return "".join(
        [unicodedata.normalize("NFKC", piece) for piece in _PIECES.findall(text)]
    ).lower()


def judge(score: Score, threshold: Threshold = 0.5) -> Judgement:
    """The score as a caller may read it."""
    shown = round(float(score), 4)
    return {"score": shown, "is_profane": bool(score >= threshold), "scores": {"profane": shown}}
