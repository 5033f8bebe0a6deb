"""Rows that a model is tried on: other values and ranges, other lengths, and which rows meet."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.execution.verification.trial_rows import (
    between,
    draw_row,
    find_masks,
    is_padding,
    plan_companies,
    resize,
    vary,
)
from runtime.types.tensors import TensorSpec


@pytest.mark.parametrize(
    ("mates", "most", "plan"),
    [
        (0, 8, [[0, 0], [0, 0, 0], [0, 0, 0, 0, 0]]),
        (1, 8, [[0, 1], [1, 0, 1], [1, 1, 1, 1, 0]]),
        (7, 8, [[0, 1], [2, 0, 3], [4, 5, 6, 7, 0]]),
        (9, 8, [[0, 1], [2, 0, 3], [4, 5, 6, 7, 0], [8, 9, 1, 2, 0]]),
        (4, 2, [[0, 1], [2, 0], [3, 0], [4, 0]]),
    ],
)
def test_every_other_row_meets_the_row_in_question(mates, most, plan):
    """Which is first, in the middle and last."""
    assert plan_companies(mates, most) == plan


def test_floats_are_of_other_ranges():
    """Larger, smaller, all above 0 and all below, one number."""
    row = {"x": np.array([0.5, -2.0, 3.0], "f4")}
    found = [other["x"] for other in vary(row)]
    assert all(other.dtype == np.float32 for other in found)
    assert max(abs(other).max() for other in found) > 200
    assert min(abs(other).max() for other in found) < 0.1
    assert any((other > 0).all() for other in found)
    assert any((other < 0).all() for other in found)
    assert any((other == other[0]).all() for other in found)


def test_integers_are_no_permutation():
    """The least alone, the most alone, and common ranges as far as the datatype goes."""
    row = {"x": np.array([3, 9, 5], np.int8)}
    found = [other["x"].tolist() for other in vary(row)]
    assert [3, 3, 3] in found
    assert [9, 9, 9] in found
    assert max(map(max, found)) <= 127
    assert any(max(other) > 9 for other in found)


def test_masks_keep_their_numbers():
    """By name, or floats of 0 and 1 beside another input."""
    row = {
        "ids": np.array([4, 5]),
        "attention_mask": np.array([1, 1]),
        "seen": np.array([1.0, 0.0], "f4"),
        "x": np.array([2.0, 1.0], "f4"),
    }
    masks = find_masks(row)
    assert masks == {"attention_mask", "seen"}
    assert find_masks({"seen": row["seen"]}) == frozenset()
    random = np.random.default_rng(0)
    for other in (*vary(row, masks), *(draw_row(row, random, masks) for _ in range(20))):
        assert other["seen"].tolist() == [1.0, 0.0]
        assert other["attention_mask"].tolist() == [1, 1]


def test_drawn_integers_stay_below_the_largest_that_is_valid():
    """Of any range that is drawn from; the row's own is one of them."""
    random = np.random.default_rng(0)
    row = {"x": np.array([0, 1])}
    drawn = np.array([draw_row(row, random, (), {"x": 49})["x"] for _ in range(500)])
    assert drawn.max() == 49


@pytest.mark.parametrize(
    ("values", "is_one"), [([0, 0], True), ([0, 3], False), ([0.0, 0.0], False)]
)
def test_a_row_of_padding_alone_is_none(values, is_one):
    """Of integers; a silent signal is a row."""
    assert is_padding({"x": np.array(values)}, {"x": 0}) is is_one


def test_between_two_rows():
    """Half-way, in their datatype."""
    one = {"x": np.array([0, 10]), "y": np.array([1.0], "f4")}
    other = {"x": np.array([4, 20]), "y": np.array([2.0], "f4")}
    middle = between(one, other)
    assert middle["x"].tolist() == [2, 15]
    assert middle["x"].dtype == one["x"].dtype
    assert middle["y"].tolist() == [1.5]


def test_another_length_repeats_the_values():
    """Along the free axes of the inputs that are named."""
    row = {"x": np.array([[1, 2], [3, 4]]), "z": np.array([1])}
    found = resize(row, [TensorSpec("x", "INT64", (-1, -1, 2))], lambda size: size + 1)
    assert found["x"].tolist() == [[1, 2], [3, 4], [1, 2]]
    assert found["z"].tolist() == [1]
