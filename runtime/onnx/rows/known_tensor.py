"""What is known of a tensor without running the model: where its rows are, how many axes it has,
and of constants and shapes, their integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.onnx.model_graph import Constant, ModelNode

FAR: Final = 1 << 31
"""An end of a slice from which on it means the end of the axis."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is known of a tensor.

    Attributes:
        axis: where the rows are; -1: it depends on rows, and where they are is not known; None: it
            depends on no row's values.
        rank: number of axes; None: not known.
        values: its integers, where they are constant.
        size: how many elements it has, of one axis; None: not known.
        is_count: it was computed from the number of rows in the run.
    """

    axis: int | None = None
    rank: int | None = None
    values: tuple[int, ...] | None = None
    size: int | None = None
    is_count: bool = False

    @property
    def has_rows(self) -> bool:
        """Whether it depends on rows."""
        return self.axis is not None

    def is_along(self, axes: Iterable[int]) -> bool:
        """Whether the rows axis is known and one of these, which may count from the end."""
        return self.axis in {self.normal(axis) for axis in axes} - {None, -1}

    def normal(self, axis: int) -> int | None:
        """An axis counted from the start; None where that is not known."""
        if axis >= 0:
            return axis
        return None if self.rank is None else axis + self.rank


PLAIN: Final = Tensor()


LOST: Final = Tensor(-1)
"""It depends on rows, and nothing more is known."""


Result = tuple[tuple[Tensor, ...], bool]
"""What an operator gives, and whether it computes across rows. With fewer tensors than outputs, the
others are like the last.
"""


Rule = Callable[[ModelNode, Sequence[Tensor], int], Result]


def describe_constant(constant: Constant) -> Tensor:
    """What is known of a constant."""
    size = constant.dims[0] if len(constant.dims) == 1 else None
    return Tensor(rank=len(constant.dims), values=constant.values, size=size)


def describe_shape(node: ModelNode, data: Tensor) -> Tensor:
    is_count = data.has_rows or data.is_count
    if node.operator == "Size":
        return Tensor(rank=0, is_count=is_count)
    if node.operator != "Shape":
        return Tensor(rank=data.rank)
    start, end = node.numbers.get("start", 0), node.numbers.get("end", FAR)
    size = None if data.rank is None else len(range(data.rank)[start:end])
    return Tensor(rank=1, size=size, is_count=is_count and start == 0)


def describe_plain(node: ModelNode, given: Sequence[Tensor]) -> Tensor:
    """What is known of a tensor that depends on no rows: sizes of vectors, which become shapes."""
    found = _plain_sizes(node, given)
    is_count = any(tensor.is_count for tensor in given)
    if node.operator in ("ConstantOfShape", "Expand", "Range", "Tile"):
        is_count = False  # how many there are, and not what they are
    elif node.operator == "Slice":
        is_count = given[0].is_count and (given[1].values or (0,))[0] == 0
    elif node.operator == "Gather" and given[0].rank == 1:
        # places of a shape, whose first is the number of rows
        is_count = is_count and 0 in (given[1].values or (0,))
    return replace(found, is_count=True) if is_count else found


def _plain_sizes(node: ModelNode, given: Sequence[Tensor]) -> Tensor:
    match node.operator:
        case "Constant":
            if "value" in node.constants:
                return describe_constant(node.constants["value"])
            if values := node.lists.get("value_ints"):
                return Tensor(rank=1, values=values, size=len(values))
            number = node.numbers.get("value_int")
            return Tensor(rank=0, values=None if number is None else (number,))
        case "Identity" | "Cast":
            return given[0]
        case "Unsqueeze" if given[0].rank == 0:
            return Tensor(rank=1, values=given[0].values, size=1)
        case "Concat":
            sizes = [tensor.size for tensor in given]
            known = [size for size in sizes if size is not None]
            parts = [tensor.values for tensor in given if tensor.values is not None]
            return Tensor(
                rank=given[0].rank,
                values=sum(parts, ()) if len(parts) == len(given) else None,
                size=sum(known) if len(known) == len(sizes) else None,
            )
        case "Gather":
            return Tensor(rank=given[1].rank if given[0].rank == 1 else None, size=given[1].size)
    return PLAIN


def axes_of(node: ModelNode, given: Sequence[Tensor], place: int) -> tuple[int, ...] | None:
    """Axes by attribute, or by an input; empty: none are given; None: they are not known."""
    if "axes" in node.lists:
        return node.lists["axes"]
    if len(node.inputs) <= place or not node.inputs[place]:
        return ()
    return given[place].values


def meet(given: Sequence[Tensor]) -> Result:
    """Element by element, shapes aligned at their ends. Rows that meet another axis are mixed."""
    rowed = [tensor for tensor in given if tensor.has_rows]
    first = rowed[0]
    if any(tensor.axis == -1 for tensor in rowed):
        return (LOST,), False
    if any(tensor.rank is None for tensor in rowed):
        alike = all(tensor.axis == first.axis for tensor in rowed)
        return (Tensor(first.axis) if alike else LOST,), False
    from_end = {(tensor.rank or 0) - (tensor.axis or 0) for tensor in rowed}
    if len(from_end) > 1:
        return (LOST,), True
    rank = max(tensor.rank or 0 for tensor in given)
    return (Tensor(rank - from_end.pop(), rank),), False


def without(data: Tensor, axes: Sequence[int], *, keep: bool) -> Result:
    """A tensor without these axes, or with size 1 there."""
    if data.is_along(axes):
        return (LOST,), True
    if keep:
        return (Tensor(data.axis, data.rank),), False
    gone = [data.normal(axis) for axis in axes]
    if data.axis is None or data.axis < 0:
        return (LOST,), False
    if None in gone and data.axis > 0:
        return (LOST,), False
    before = sum(axis is not None and axis < data.axis for axis in gone)
    return (
        Tensor(data.axis - before, None if data.rank is None else data.rank - len(axes)),
    ), False
