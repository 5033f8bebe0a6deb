"""Rows to one tensor and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.types.tensors import Link, row_slices, slice_row, stack


def test_rows_of_one_array_are_that_array_again():
    """Consecutive rows of one array come back without a copy, from an array of its own and from a
    body's bytes.
    """
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


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8),
    st.sampled_from([0, 7]),
)
def test_padding_leaves_every_row_as_it_was(shapes, pad):
    """Each row is at the start of its slot; everything else is the padding value."""
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


def test_unlike_shapes_make_no_tensor_unless_there_is_a_number_to_pad_with():
    """Rows of unlike shape are refused, with both shapes, and never padded by themselves."""
    with pytest.raises(ValueError, match=r"unlike shape \[\(2,\), \(3,\)\]"):
        stack([np.ones(2), np.ones(3)])


def test_what_padding_added_is_cut_off():
    """Along the axes that are named as one of a padded input; an axis that is linked to two of them
    is cut by the first.
    """
    row = {"x": np.ones((2, 5)), "mask": np.ones(5), "other": np.ones(9)}
    links = (Link(0, "other", 0), Link(2, "x", 1), Link(2, "mask", 0))
    assert row_slices(links, {"x", "mask"}) == (Link(2, "x", 1),)
    value = np.arange(3 * 4 * 8).reshape(3, 4, 8)
    np.testing.assert_array_equal(
        slice_row(value, row_slices(links, {"x", "mask"}), row), value[:, :, :5]
    )
    assert slice_row(value, row_slices(links, ()), row) is value
