"""What a tensor must look like: name, datatype, shape with -1 for a free dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.errors import WrongShape

Shape = tuple[int, ...]

MAX_ELEMENTS = 1 << 31
"""Element count above which a shape is refused unread (2 GiB of the smallest datatype)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output, as in a v2 metadata response.

    Attributes:
        name: the tensor's name.
        datatype: Open Inference Protocol datatype, such as ``FP32``.
        shape: dimensions, -1 where any size fits; the first is the rows of a batchable function.
    """

    name: str
    datatype: str
    shape: Shape

    def metadata(self) -> dict[str, object]:
        """The tensor's entry in ``GET /v2/models/NAME``."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def element_count(shape: Sequence[int], where: str) -> int:
    """The number of elements, counted with Python integers: in int64 ``[2**32, 2**32]`` counts as 0.

    Raises:
        WrongShape: a negative dimension, or more than ``MAX_ELEMENTS``.
    """
    if any(dim < 0 for dim in shape):
        raise WrongShape(f"shape {list(shape)} has a negative dimension.", where=where)
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise WrongShape(f"shape of {count} elements is above the {MAX_ELEMENTS} that are read.", where=where)
    return count


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether an actual shape matches a declared one, -1 standing for any size."""
    return len(shape) == len(wanted) and all(want in (-1, dim) for dim, want in zip(shape, wanted, strict=True))
