"""Made-up inputs for a model of which only the interface is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import datatypes
from runtime.tensors import TensorSpec

Array = NDArray[Any]


def ones(inputs: Sequence[TensorSpec], rows: int, free: int) -> dict[str, Array]:
    """A valid token id, an attended position, a plain number.

    Args:
        rows: size of a free first dimension.
        free: size of the other free ones.
    """
    return {spec.name: _ones(spec, _dims(spec, rows, free)) for spec in inputs}


def varied(inputs: Sequence[TensorSpec], rows: int, free: int) -> dict[str, Array]:
    """As ``ones``, but every number differs: floats around 0, integers 0 or 1. The same each time."""
    random = np.random.default_rng(0)
    feeds = ones(inputs, rows, free)
    for name, array in feeds.items():
        if array.dtype.kind == "f":
            feeds[name] = random.standard_normal(array.shape).astype(array.dtype)
        elif array.dtype.kind in "iub":
            feeds[name] = random.integers(0, 2, array.shape).astype(array.dtype)
    return feeds


def _dims(spec: TensorSpec, rows: int, free: int) -> list[int]:
    return [rows if axis == 0 and dim == -1 else free if dim == -1 else dim for axis, dim in enumerate(spec.shape)]


def _ones(spec: TensorSpec, dims: list[int]) -> Array:
    return np.full(dims, "warm-up", object) if spec.datatype == "BYTES" else np.ones(dims, datatypes.NUMPY[spec.datatype])
