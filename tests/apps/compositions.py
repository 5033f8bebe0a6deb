"""Stages that combine the shipped functions, as a user would write them."""

from __future__ import annotations

from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from apps.search import Found
from wakeful import Shape

Embedding = Annotated[NDArray[np.float32], Shape(384)]


class Both(TypedDict):
    """Two models' opinion, and how far they are apart."""

    embedding: Embedding
    agreement: float


def both(small: Embedding, large: Embedding) -> Both:
    """Their mean, of length 1, and their cosine."""
    mean = small + large
    return {"embedding": mean / np.linalg.norm(mean), "agreement": float(small @ large)}


class Reply(TypedDict):
    """Passages for polite questions."""

    refused: bool
    passages: list[str]


def reply(is_profane: bool, results: list[Found] | None) -> Reply:
    """Nothing was looked up for the others."""
    return {"refused": is_profane, "passages": [found["passage"] for found in results or []]}
