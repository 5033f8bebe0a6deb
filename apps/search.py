"""The passages of a small handbook that are nearest to a question in meaning: ranked by the cosine
of their embeddings, nothing more.

What a text means to `embed` is all that counts here: no words are looked up, and nothing is ranked
again by a model that reads both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import Shape

Top = Annotated[int, Field(ge=1, le=50, description="How many passages are wanted.")]
Embedding = Annotated[NDArray[np.float32], Shape(384)]


class Found(TypedDict):
    """A passage, and the cosine of its embedding with the question's: 1 for the same, about 0 for
    what has nothing to do with it.
    """

    passage: str
    cosine: float


class Results(TypedDict):
    """What the caller gets, nearest first."""

    results: list[Found]


class Nearest:
    """The passages and what `embed` made of them, both committed (``apps/build/passages.py`` writes
    the latter).

    Args:
        passages: a text file, one a line.
        vectors: float16 [passages, 384], each of length 1, as ``.npy``.
    """

    def __init__(self, passages: Path, vectors: Path) -> None:
        self._passages = passages.read_text(encoding="utf-8").splitlines()
        self._vectors = np.load(vectors).astype(np.float32)
        if len(self._passages) != len(self._vectors):
            raise ValueError(
                f"{len(self._passages)} passages and {len(self._vectors)} vectors; run "
                "python -m apps.build.passages."
            )

    def __call__(self, embedding: Embedding, top: Top = 3) -> Results:
        cosines = self._vectors @ embedding
        order = np.argsort(-cosines, kind="stable")[:top]
        return {
            "results": [
                {"passage": self._passages[index], "cosine": round(float(cosines[index]), 4)}
                for index in order.tolist()
            ]
        }
