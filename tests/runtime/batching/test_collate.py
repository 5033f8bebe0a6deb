"""Rows to one tensor and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.collate import stack


def test_rows_of_one_array_are_that_array_again():
    """Consecutive rows of one array come back without a copy, from an array of its own and from a body's bytes."""
    owned = np.arange(24, dtype=np.float32).reshape(4, 6)
    read = np.frombuffer(owned.tobytes(), np.float32).reshape(4, 6)
    for whole in (owned, read):
        again = stack([whole[i] for i in range(1, 4)])
        assert np.shares_memory(again, whole)
        np.testing.assert_array_equal(again, whole[1:4])


@pytest.mark.parametrize("order", [[0, 2], [1, 0], [0, 0], [3, 2, 1]])
def test_rows_out_of_order_are_copied(order):
    """Rows that are not neighbours in order are stacked as they are."""
    whole = np.arange(24, dtype=np.int64).reshape(4, 6)
    np.testing.assert_array_equal(stack([whole[i] for i in order]), whole[order])


def test_columns_of_an_array_are_no_rows():
    """Strided views are not mistaken for a contiguous part."""
    whole = np.arange(24, dtype=np.float32).reshape(4, 6).T
    np.testing.assert_array_equal(stack([whole[0], whole[1]]), whole[:2])


def test_a_single_row_is_not_copied():
    """One row becomes a batch of one as a view."""
    row = np.ones(3)
    assert np.shares_memory(stack([row]), row)


def test_unlike_ranks_make_no_tensor():
    """Rows of unlike rank are refused with both."""
    with pytest.raises(ValueError, match=r"unlike rank \[1, 2\]"):
        stack([np.ones(2), np.ones((2, 2))])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8), st.sampled_from([0, 7]))
def test_padding_leaves_every_row_as_it_was(shapes, pad):
    """Each row stands at the start of its slot; everything else is the padding value."""
    rows = [np.full(shape, i + 100, np.int64) for i, shape in enumerate(shapes)]
    out = stack(rows, pad)
    assert out.shape == (len(rows), max(a for a, _ in shapes), max(b for _, b in shapes))
    for i, (a, b) in enumerate(shapes):
        np.testing.assert_array_equal(out[i, :a, :b], rows[i])
        assert (out[i] == pad).sum() == out[i].size - a * b


def test_text_rows_are_stacked():
    """BYTES rows are object arrays and are stacked as such."""
    out = stack([np.array(["a"], object), np.array(["b"], object)])
    assert out.tolist() == [["a"], ["b"]]
