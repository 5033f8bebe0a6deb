"""Task ``text-classification``: a text in, the score of each label out.

tokenize (wakeful.tasks.text) ─▶ model ─▶ classify
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import Shape

Logits = Annotated[NDArray[np.float32], Shape(-1)]


class Classified(TypedDict):
    """What the caller gets: a score from 0 to 1 by label, the highest first; and how many tokens
    the model read, special ones included.
    """

    scores: dict[str, float]
    tokens: int


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the last axis: one label is right, the scores add up to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each label for itself."""
    return np.asarray((1 + np.tanh(logits.astype(np.float64) / 2)) / 2)  # 1 / (1 + exp(-x))


class Classify:
    """The model's numbers, FP32 ``[labels]``, to scores.

    Args:
        labels: in the order of the model's numbers (``id2label`` of ``config.json``).
        scores: ``softmax``: one label is right. ``sigmoid``: several labels may be right
            (``problem_type: multi_label_classification``), or there is only one.
    """

    def __init__(
        self, labels: list[str], scores: Literal["softmax", "sigmoid"] = "softmax"
    ) -> None:
        self._labels = labels
        self._scores = softmax if scores == "softmax" else sigmoid

    def __call__(self, logits: Logits, tokens: int) -> Classified:
        scores = self._scores(logits)
        best = np.argsort(-scores, kind="stable")
        return {
            "scores": {self._labels[at]: float(scores[at]) for at in best},
            "tokens": tokens,
        }
