"""How operators that move, cut and join tensors move the rows axis of a run, and which of them take
one row for another.

Source: *ONNX Operators* (axes, defaults by version).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runtime.onnx.model_graph import ModelNode
from runtime.onnx.rows.known_tensor import FAR, LOST, Result, Tensor, axes_of, meet, without


def transpose_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, order = given[0], node.lists.get("perm")
    if order is None and data.rank is not None:
        order = tuple(reversed(range(data.rank)))
    if order is None or data.axis not in order:
        return (LOST,), False
    return (Tensor(order.index(data.axis), len(order)),), False


def squeeze_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, axes = given[0], axes_of(node, given, 1)
    if not axes:
        return (LOST,), axes == ()  # the rows axis too, where there is one row
    (out,), mixes = without(data, axes, keep=False)
    return (out,), mixes


def unsqueeze_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, axes = given[0], axes_of(node, given, 1)
    if not axes or data.axis is None or data.axis < 0:
        return (LOST,), False
    rank = None if data.rank is None else data.rank + len(axes)
    if any(axis < 0 for axis in axes) and rank is None:
        return (Tensor(data.axis) if data.axis == 0 and 0 not in axes else LOST,), False
    new = {axis if axis >= 0 else axis + (rank or 0) for axis in axes}
    at, left = 0, data.axis
    while True:
        if at not in new:
            if not left:
                return (Tensor(at, rank),), False
            left -= 1
        at += 1


def flatten_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, axis = given[0], given[0].normal(node.numbers.get("axis", 1))
    if axis is None or data.axis is None or data.axis < 0:
        return (LOST,), False
    return (Tensor(0 if data.axis < axis else 1, 2),), False


def reshape_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, shape = given[0], given[1]
    sizes = shape.values
    rank = len(sizes) if sizes is not None else shape.size
    if data.axis != 0:
        return (LOST,), False
    if sizes is None or sizes[:1] in ((0,), (-1,)):
        return (Tensor(0, rank),), False
    if len(sizes) > 1 and sizes[0] == 1 and sizes[1] == -1:
        return (Tensor(1, rank),), False
    return (LOST,), False


def expand_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    if given[1].has_rows:
        return (LOST,), False
    return meet([given[0], Tensor(rank=given[1].size)])


def gather_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, at = given[0], given[1]
    axis = data.normal(node.numbers.get("axis", 0))
    if data.has_rows and axis is not None and data.axis == axis:
        return (LOST,), True
    if data.has_rows and at.has_rows:
        return (LOST,), False
    if at.has_rows:
        if axis is None or at.axis is None or at.axis < 0:
            return (LOST,), False
        known = data.rank is not None and at.rank is not None
        return (
            Tensor(at.axis + axis, (data.rank or 0) + (at.rank or 0) - 1 if known else None),
        ), False
    if axis is None or data.axis is None or data.axis < 0:
        return (LOST,), False
    if data.axis < axis:
        known = data.rank is not None and at.rank is not None
        return (Tensor(data.axis, (data.rank or 0) + (at.rank or 0) - 1 if known else None),), False
    return (Tensor(data.axis + at.rank - 1) if at.rank is not None else LOST,), False


def gather_elements_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    out, mixes = meet(given[:2])
    data = given[0] if given[0].has_rows else given[1]
    return out, mixes or data.is_along([node.numbers.get("axis", 0)])


def gather_places_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    batch = node.numbers.get("batch_dims", 0)
    return (LOST,), given[0].axis is not None and given[0].axis >= 0 and given[0].axis >= batch


def scatter_places_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    return (given[0] if given[0].has_rows else LOST,), True


def slice_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data = given[0]
    starts = _listed(node, given, "starts", 1)
    ends = _listed(node, given, "ends", 2)
    axes = _listed(node, given, "axes", 3)
    if axes == ():
        axes = tuple(range(len(starts or ())))
    for place, axis in enumerate(axes or ()):
        if data.is_along([axis]):
            if starts is None or ends is None:
                return (replace(data, values=None),), False
            is_whole = starts[place] == 0 and ends[place] >= FAR - 1
            return (replace(data, values=None),), not is_whole
    return (replace(data, values=None),), False


def _listed(
    node: ModelNode, given: Sequence[Tensor], name: str, place: int
) -> tuple[int, ...] | None:
    """Integers by attribute or input, as ``axes_of``."""
    if name in node.lists:
        return node.lists[name]
    if len(node.inputs) <= place or not node.inputs[place]:
        return ()
    return given[place].values


def concat_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    rowed = [tensor for tensor in given if tensor.has_rows]
    if any(tensor.is_along([node.numbers.get("axis", 0)]) for tensor in rowed):
        return (LOST,), True
    places = {(tensor.axis, tensor.rank) for tensor in rowed}
    return (Tensor(*places.pop()) if len(places) == 1 else LOST,), False


def one_hot_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data = given[0]
    if node.numbers.get("axis", -1) != -1 or data.axis is None or data.axis < 0:
        return (LOST,), False
    return (Tensor(data.axis, None if data.rank is None else data.rank + 1),), False


def reverse_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    return (given[0],), given[0].is_along([node.numbers.get("time_axis", 0)])
