"""Nearest passages: the ranking on vectors whose cosines are known, and the committed ones against
`embed`.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from apps.build.passages import PASSAGES, VECTORS, embedded
from apps.search import Nearest


def vector(*first: float) -> np.ndarray:
    """384 numbers that begin so."""
    return np.array([*first, *[0.0] * (384 - len(first))], np.float32)


@pytest.fixture
def nearest(tmp_path):
    (tmp_path / "passages.txt").write_text("east\nnorth\nnorth-east\n", encoding="utf-8")
    np.save(
        tmp_path / "vectors.npy",
        np.stack([vector(1), vector(0, 1), vector(0.6, 0.8)]).astype(np.float16),
    )
    return Nearest(tmp_path / "passages.txt", tmp_path / "vectors.npy")


def test_the_nearest_come_first(nearest):
    """By cosine, as many as are wanted and there are."""
    found = nearest(vector(0, 1), 2)["results"]
    assert [each["passage"] for each in found] == ["north", "north-east"]
    assert [each["cosine"] for each in found] == pytest.approx([1, 0.8], abs=1e-3)
    assert [each["passage"] for each in nearest(vector(1), 50)["results"]] == [
        "east",
        "north-east",
        "north",
    ]


def test_passages_and_vectors_belong_together(tmp_path, nearest):
    """One more passage than vectors does not load."""
    (tmp_path / "passages.txt").write_text("east\nnorth\nnorth-east\nwest\n")
    with pytest.raises(
        ValueError, match=r"\b4 passages.*\b3 vectors.*python -m apps\.build\.passages"
    ):
        Nearest(tmp_path / "passages.txt", tmp_path / "vectors.npy")


@pytest.mark.models
@pytest.mark.slow
def test_the_committed_vectors_are_what_embed_says(models):
    """To a cosine of 0.999: another processor rounds otherwise. Run ``python -m
    apps.build.passages`` when this fails.
    """
    texts = PASSAGES.read_text(encoding="utf-8").splitlines()
    cosines = (
        asyncio.run(embedded(texts)).astype(np.float32) * np.load(VECTORS).astype(np.float32)
    ).sum(1)
    assert len(cosines) == len(texts) == 55
    assert cosines.min() > 0.999
