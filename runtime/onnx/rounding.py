"""Activations to uint8, each row (the last axis) by what stands in that row alone.

Four ways, cheapest first when running:

* **by channel**: a scale for each channel, fixed beforehand from observed ranges. Nothing is reduced, no row scale has to come back, and
  where one channel is ten times larger than usual in some rows (BERT has such) the others keep their resolution there. A value beyond
  its range is cut off, so it is for values with a bound, such as a LayerNormalization's output; ``calibrate`` observes the ranges.
* **from a floor**: for the output of an operator in ``FLOORS``, from that constant to the row's maximum.
* **symmetric**: zero in the middle, the row's largest magnitude at the end.
* **asymmetric**: from the row's minimum to its maximum; the minimum times the weight has to be added to every output.

A row of equal values has the scale 0 and is divided by it: whatever integer 0/0 becomes, it is multiplied by 0 afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.onnx.writer import GraphWriter

FLOORS: Final = {"Gelu": -0.1701, "Relu": 0.0, "Sigmoid": 0.0, "Softmax": 0.0}
"""The least value of operators whose output starts at a constant."""

BLOCKS_OPSET: Final = 21
"""Operator set whose QuantizeLinear takes a scale for each block of an axis; older models divide first, one more pass."""

Way = Literal["floor", "symmetric", "asymmetric"]


@dataclass(frozen=True, slots=True)
class Rounded:
    """Names of what stands for an activation ``x``: ``x = scale * (values - zero) + low``.

    Attributes:
        values: uint8 [..., in].
        zero: uint8 scalar constant.
        scale: float32 [..., 1]; empty where the scales are part of the weight.
        low: float32 [..., 1] (asymmetric); empty otherwise.
        floor: a constant ``low``.
    """

    values: str
    zero: str
    scale: str = ""
    low: str = ""
    floor: float = 0.0


def by_channel(write: GraphWriter, x: str, scales: NDArray[np.float64]) -> Rounded:
    """``x / scales``, rounded around 128."""
    zero = write.constant("zero 128", 128, np.uint8)
    even = write.node("Mul", x, write.constant(f"{x} 1/scale", 1 / scales))
    return Rounded(write.node("QuantizeLinear", even, write.floats(1), zero), zero)


def by_row(write: GraphWriter, x: str, width: int, way: Way, *, opset: int, floor: float = 0.0) -> Rounded:
    """``x`` [..., width] with a scale for each row.

    Args:
        floor: the least value of ``x``, for the way of that name.
        opset: of the model.
    """
    if way == "symmetric":
        shifted, low = x, ""
        span, steps, start = _reduce(write, "ReduceMax", write.node("Abs", x), opset), 127, 128
    elif way == "floor":
        shifted, low = (write.node("Sub", x, write.floats(floor)) if floor else x), ""
        span, steps, start = _reduce(write, "ReduceMax", shifted, opset), 255, 0
    else:
        low = _reduce(write, "ReduceMin", x, opset)
        shifted = write.node("Sub", x, low)
        span, steps, start = _reduce(write, "ReduceMax", shifted, opset), 255, 0
    zero = write.constant(f"zero {start}", start, np.uint8)
    scale = write.node("Mul", span, write.constant(f"float 1/{steps}", 1 / steps))
    if opset < BLOCKS_OPSET:
        values = write.node("QuantizeLinear", write.node("Div", shifted, scale), write.floats(1), zero)
    else:
        zeros = write.node("Expand", zero, write.node("Shape", scale))
        values = write.node("QuantizeLinear", shifted, scale, zeros, axis=-1, block_size=width)
    return Rounded(values, zero, scale, low, floor)


def _reduce(write: GraphWriter, op: str, x: str, opset: int) -> str:
    """Over the last axis, which is an attribute before operator set 18 and an input from there on."""
    return write.node(op, x, axes=[-1], keepdims=1) if opset < 18 else write.node(op, x, write.ints(-1), keepdims=1)
