"""Rows to one tensor and back, without needless copies.

Rows that were cut from one array and come back together in order are that array again: no copy. Rows of unlike length are padded
at the end of each axis; whoever batches decides who may be padded with whom (``policy``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def stack(rows: Sequence[Array], pad: float = 0) -> Array:
    """``[rows, ...]`` of the rows' tensors, padded with ``pad`` where their shapes differ.

    Raises:
        ValueError: rows of unlike rank.
    """
    first = rows[0]
    if len(rows) == 1:
        return first[None]
    whole = _rejoined(rows)
    if whole is not None:
        return whole
    shapes = {row.shape for row in rows}
    if len(shapes) == 1:
        return np.stack(rows)
    if len({row.ndim for row in rows}) > 1:
        raise ValueError(f"rows of unlike rank {sorted({row.ndim for row in rows})} make no tensor")
    widest = tuple(max(row.shape[axis] for row in rows) for axis in range(first.ndim))
    out = np.full((len(rows), *widest), pad, first.dtype)
    for index, row in enumerate(rows):
        out[index][tuple(slice(size) for size in row.shape)] = row
    return out


def _rejoined(rows: Sequence[Array]) -> Array | None:
    """The part of one buffer that the rows are, when each begins where the one before ends."""
    first, base = rows[0], rows[0].base
    if rows[1].base is not base or not isinstance(base, np.ndarray) or not base.flags.c_contiguous or first.dtype.hasobject:
        return None
    start, size = _address(first), first.nbytes
    for index, row in enumerate(rows):
        alike = row.base is base and row.shape == first.shape and row.dtype == first.dtype and row.flags.c_contiguous
        if not alike or _address(row) != start + index * size:
            return None
    return np.ndarray((len(rows), *first.shape), first.dtype, buffer=base, offset=start - _address(base))


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
