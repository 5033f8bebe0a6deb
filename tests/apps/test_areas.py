"""Connected areas, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from apps.areas import connected


def oracle(values, threshold):
    """Left, top, right, bottom, size and mean of each area."""
    labels, count = ndimage.label(values > threshold)
    found = []
    for at, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = values[labels == at]
        found.append(
            (
                columns.start,
                rows.start,
                columns.stop,
                rows.stop,
                inside.size,
                inside.mean(dtype=np.float64),
            )
        )
    assert len(found) == count
    return found


def compared(values, threshold=0.3):
    found = connected(values, threshold)
    ours = [
        (*box, size, mean)
        for box, size, mean in zip(
            found.boxes.tolist(), found.sizes.tolist(), found.means.tolist(), strict=True
        )
    ]
    for one, other in zip(sorted(ours), sorted(oracle(values, threshold)), strict=True):
        assert one[:5] == other[:5]
        assert one[5] == pytest.approx(other[5])
    return len(ours)


@settings(max_examples=300)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.sampled_from([0.0, 0.3, 0.4, 1.0]),
    )
)
def test_areas_are_those_of_scipy(values):
    """Whatever the map, to its edges."""
    compared(values)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.6, 0.95])
def test_noise(share):
    """From specks to one area with holes; near 0.6, areas that wind through the whole map."""
    random = np.random.default_rng(0)
    assert compared((random.random((120, 150)) < share).astype(np.float32)) > 0


def test_a_spiral_is_one_area():
    """Joined only at its very ends: the longest way for a number to travel."""
    values = np.ones((41, 41), np.float32)
    for at in range(1, 20, 2):
        values[at, at - 1 : 41 - at] = 0
        values[at : 41 - at, 40 - at] = 0
        values[40 - at, at : 41 - at] = 0
        values[at + 2 : 41 - at, at] = 0
    assert compared(values) == 1


def test_an_empty_map_has_none():
    """And neither has one at the threshold."""
    for value in (0.0, 0.3):
        found = connected(np.full((4, 5), value, np.float32), np.float32(0.3))
        assert (found.boxes.shape, found.sizes.shape, found.means.shape) == ((0, 4), (0,), (0,))
