"""Connected areas of a map: which pixels above a threshold touch each other, by the runs of them in
each row.

A page has a million pixels and a few hundred runs. What is done for each pixel is numpy's; nothing
is done for each area in a loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Areas:
    """An element each for every area, in the order of their first pixels, row by row.

    Attributes:
        boxes: int64 [areas, 4]: left, top, right, bottom, the last two exclusive.
        sizes: int64 [areas]: pixels.
        means: float64 [areas]: of the map, over those pixels.
    """

    boxes: Ints
    sizes: Ints
    means: NDArray[np.float64]


def connected(values: NDArray[np.float32], threshold: float) -> Areas:
    """The areas of float32 [height, width] above the threshold. Pixels touch by their sides, not by
    their corners.
    """
    height, width = values.shape
    # a column before and after, so that every run begins and ends within its row
    framed = np.zeros((height, width + 2), np.float32)
    framed[:, 1:-1] = values
    above = (framed > threshold).ravel()
    changes = np.flatnonzero(above[1:] != above[:-1]) + 1
    if not len(changes):
        return Areas(np.zeros((0, 4), np.int64), np.zeros(0, np.int64), np.zeros(0))
    starts, ends = changes[::2], changes[1::2]
    area = _joined(starts, ends, width + 2)
    count, lengths = int(area.max()) + 1, ends - starts
    sizes = np.bincount(area, lengths, count).astype(np.int64)
    sums = np.bincount(area, np.add.reduceat(framed.ravel(), changes, dtype=np.float64)[::2], count)
    rows, columns = np.divmod(starts, width + 2)
    boxes = np.tile(np.array([width, height, 0, 0], np.int64), (count, 1))
    np.minimum.at(boxes[:, 0], area, columns - 1)
    np.minimum.at(boxes[:, 1], area, rows)
    np.maximum.at(boxes[:, 2], area, columns - 1 + lengths)
    np.maximum.at(boxes[:, 3], area, rows + 1)
    return Areas(boxes, sizes, sums / sizes)


def _joined(starts: Ints, ends: Ints, stride: int) -> Ints:
    """The number of each run's area; runs of neighbouring rows are joined where they share a
    column.

    Every round hangs each area onto the one of lowest number that it touches; a few rounds do,
    since areas grow from all sides at once.
    """
    first, beyond = (
        np.searchsorted(ends, starts + stride, "right"),
        np.searchsorted(starts, ends + stride, "left"),
    )
    touching = np.maximum(beyond - first, 0)
    upper = np.repeat(np.arange(len(starts)), touching)
    lower = (
        np.arange(len(upper))
        - np.repeat(np.cumsum(touching) - touching, touching)
        + np.repeat(first, touching)
    )
    area = np.arange(len(starts))
    while ((one := area[upper]) != (other := area[lower])).any():
        np.minimum.at(area, np.maximum(one, other), np.minimum(one, other))
        while ((further := area[area]) != area).any():
            area = further
    return np.unique(area, return_inverse=True)[1]
