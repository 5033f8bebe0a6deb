"""A model's interface: what it takes, what it gives, and whether rows can share a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Inputs and outputs in the model's order.

    Attributes:
        batchable: every input and output has a free first dimension, of one name where it is named.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batchable: bool


def shares_first_axis(shapes: Sequence[Sequence[int | str | None]]) -> bool:
    """Whether tensors of these shapes have a rows axis in common.

    Args:
        shapes: of all inputs and outputs; a dimension is a size, a name, or None where it is free and nameless.
    """
    firsts = [shape[0] if shape else 0 for shape in shapes]
    names = {first for first in firsts if isinstance(first, str)}
    return bool(firsts) and not any(isinstance(first, int) for first in firsts) and len(names) <= 1
