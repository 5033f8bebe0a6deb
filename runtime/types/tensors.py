"""What a tensor must look like (name, datatype, shape with -1 for a free dimension), and how the
tensors of rows become one.

The Open Inference Protocol's datatypes beside numpy's and ONNX's.

Source: Open Inference Protocol v2, section *Tensor Data Types*; ONNX Runtime's type strings
(``tensor(float)``). BF16 is in the protocol and not here: numpy has no such dtype, so a BF16 tensor
is refused by name.

``stack`` and ``slice_row`` copy nothing that they need not: rows that were cut from one array and
come back together in order are that array again. Rows of different lengths are padded at the end of
each axis, if there is a number to pad with; ``batching.policy`` decides which may be padded
together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import WrongShape

Array = NDArray[Any]
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
        any_datatype: every datatype is taken; the protocol has no word for that, and ``datatype``
            is one of them.
        any_rank: tensors of more or fewer dimensions are taken as well.
    """

    name: str
    datatype: str
    shape: Shape
    any_datatype: bool = field(default=False, compare=False)
    any_rank: bool = field(default=False, compare=False)

    def metadata(self) -> dict[str, object]:
        """The tensor's entry in ``GET /v2/models/NAME``."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def element_count(shape: Sequence[int], where: str) -> int:
    """The number of elements, counted with Python integers: in int64 ``[2**32, 2**32]`` counts as
    0.

    Raises:
        WrongShape: a negative dimension, or more than ``MAX_ELEMENTS``.
    """
    if any(dim < 0 for dim in shape):
        raise WrongShape(f"shape {list(shape)} has a negative dimension.", where=where)
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise WrongShape(
            f"shape of {count} elements is above the {MAX_ELEMENTS} that are read.", where=where
        )
    return count


def shape_fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether an actual shape matches a declared one, -1 standing for any size."""
    return len(shape) == len(wanted) and all(
        want in (-1, dim) for dim, want in zip(shape, wanted, strict=True)
    )


_TABLE: Final[tuple[tuple[str, str, str], ...]] = (
    ("BOOL", "bool", "bool"),
    ("UINT8", "uint8", "uint8"),
    ("UINT16", "uint16", "uint16"),
    ("UINT32", "uint32", "uint32"),
    ("UINT64", "uint64", "uint64"),
    ("INT8", "int8", "int8"),
    ("INT16", "int16", "int16"),
    ("INT32", "int32", "int32"),
    ("INT64", "int64", "int64"),
    ("FP16", "float16", "float16"),
    ("FP32", "float32", "float"),
    ("FP64", "float64", "double"),
    ("BYTES", "object", "string"),
)

NUMPY: Final[dict[str, np.dtype]] = {name: np.dtype(numpy) for name, numpy, _ in _TABLE}
"""Datatype name to numpy dtype, native byte order; BYTES is ``object`` (elements ``str`` or
``bytes``).
"""

_FROM_NUMPY: Final[dict[np.dtype, str]] = {dtype: name for name, dtype in NUMPY.items()}
_FROM_ONNX: Final[dict[str, str]] = {f"tensor({onnx})": name for name, _, onnx in _TABLE}

FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
INTEGERS: Final = frozenset(name for name in NUMPY if "INT" in name)


def from_numpy(dtype: np.dtype) -> str:
    """The datatype of a numpy dtype; any string or object dtype is BYTES.

    Raises:
        KeyError: the dtype has no counterpart (complex, datetime).
    """
    if dtype.kind in "OSU":
        return "BYTES"
    return _FROM_NUMPY[dtype.newbyteorder("=")]


def holds(datatype: str, number: float) -> bool:
    """Whether an element of the datatype can be the number: exactly, but for the last digits of a
    float; text is none.
    """
    if datatype == "BYTES":
        return False
    if datatype in FLOATS:
        try:
            number = float(number)
        except OverflowError:  # an integer beyond all floats
            return False
        with np.errstate(over="ignore"):
            return not math.isfinite(number) or bool(np.isfinite(NUMPY[datatype].type(number)))
    if datatype == "BOOL":
        return number in (0, 1)
    if not math.isfinite(number):
        return False
    limits = np.iinfo(NUMPY[datatype])
    return number == int(number) and int(limits.min) <= int(number) <= int(limits.max)


class UncastError(ValueError):
    """Values that are none of a datatype; the text has the first of them, and why."""


def cast(values: Any, datatype: str) -> Array:
    """Numbers, texts, or lists of them, as an array of a datatype: integers exactly, floats but for
    their last digits. A bool is a number.

    Raises:
        UncastError: an element of another kind (None, text among numbers, a float where integers
            are wanted, a number where text is), an integer out of range, or a float that would
            become infinite.
        ValueError: lists of unlike length.
    """
    dtype = NUMPY[datatype]
    found = np.asarray(values, dtype if dtype.hasobject else None)
    if found.dtype == dtype and not dtype.hasobject:
        return found
    if found.dtype.kind not in _CAST_FROM[dtype.kind]:
        return _cast_each(np.asarray(values, object), datatype)
    with np.errstate(over="ignore", invalid="ignore"):
        made = found.astype(dtype, copy=False)
    if not made.size or dtype.kind == "b":
        return made
    if dtype.kind == "f":
        fits = not (np.isinf(made) & np.isfinite(found)).any()
    else:
        limits = np.iinfo(dtype)
        fits = int(found.min()) >= limits.min and int(found.max()) <= limits.max
    return made if fits else _cast_each(np.asarray(values, object), datatype)


_CAST_FROM: Final = {"b": "b", "i": "biu", "u": "biu", "f": "biuf", "O": ""}
"""By kind of numpy's dtypes, the kinds that become it; others are looked at one by one."""

_CAST_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "b": (bool, np.bool_),
    "i": (int, np.integer, np.bool_),
    "u": (int, np.integer, np.bool_),
    "f": (int, float, np.integer, np.floating, np.bool_),
    "O": (str,),
}


def _cast_each(elements: NDArray[np.object_], datatype: str) -> Array:
    """As ``cast``, an element at a time: integers of 64 bits of which numpy makes floats, and the
    first that is none.
    """
    dtype = NUMPY[datatype]
    made: list[Any] = elements.reshape(-1).tolist()
    for element in made:
        is_of_kind = isinstance(element, _CAST_TYPES[dtype.kind])
        if not is_of_kind:
            raise UncastError(f"{_shown(element)} is no {datatype}")
        if not dtype.hasobject and not holds(datatype, element):
            raise UncastError(f"{_shown(element)} is out of the range of {datatype}")
    array = np.empty(len(made), dtype)
    array[:] = made
    return array.reshape(elements.shape)


def _shown(element: Any) -> str:
    if element is None or isinstance(element, bool):
        return str(element)
    if isinstance(element, np.generic):
        element = element.item()
    text = repr(element) if isinstance(element, int | float | str | bytes) else ""
    kind = type(element).__name__
    return f"{kind} {text}" if 0 < len(text) <= _SHOWN else kind


_SHOWN: Final = 40
"""Characters of an element that are told."""


def from_onnx(type_string: str) -> str:
    """The datatype of an ONNX Runtime type string such as ``tensor(float)``.

    Raises:
        KeyError: not a tensor, or an element type that has no counterpart (bfloat16, float8, int4).
    """
    return _FROM_ONNX[type_string]


class Link(NamedTuple):
    """An axis of a row's output that is as long as an axis of an input, since the model names both
    alike.

    Attributes:
        axis: of the output, without the rows axis.
        input: the input's name.
        of: the input's axis, without the rows axis.
    """

    axis: int
    input: str
    of: int


def stack(rows: Sequence[Array], pad: float | None = None) -> Array:
    """``[rows, ...]`` of the rows' tensors, padded with ``pad`` where their shapes differ.

    Raises:
        ValueError: rows of unlike shape and nothing to pad with, or of unlike rank.
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
    if pad is None:
        raise ValueError(f"rows of unlike shape {sorted(shapes)} make no tensor")
    widest = tuple(max(row.shape[axis] for row in rows) for axis in range(first.ndim))
    out = np.full((len(rows), *widest), pad, first.dtype)
    for index, row in enumerate(rows):
        out[index][tuple(slice(size) for size in row.shape)] = row
    return out


def row_slices(links: Sequence[Link], padded: Collection[str]) -> tuple[Link, ...]:
    """The links of an output by which it is cut: one an axis, to an input that is padded."""
    return tuple({link.axis: link for link in reversed(links) if link.input in padded}.values())


def slice_row(value: Array, links: Sequence[Link], row: Mapping[str, Array]) -> Array:
    """A row's output without what padding added; a view.

    Args:
        row: its inputs by name, as long as they were before they were padded.
    """
    if not links:
        return value
    size = {link.axis: row[link.input].shape[link.of] for link in links}
    return value[tuple(slice(size.get(axis)) for axis in range(value.ndim))]


def _rejoined(rows: Sequence[Array]) -> Array | None:
    """The part of one buffer that the rows are, when each begins where the one before ends."""
    first, base = rows[0], rows[0].base
    if (
        rows[1].base is not base
        or not isinstance(base, np.ndarray)
        or not base.flags.c_contiguous
        or first.dtype.hasobject
    ):
        return None
    start, size = _address(first), first.nbytes
    for index, row in enumerate(rows):
        alike = (
            row.base is base
            and row.shape == first.shape
            and row.dtype == first.dtype
            and row.flags.c_contiguous
        )
        if not alike or _address(row) != start + index * size:
            return None
    return np.ndarray(
        (len(rows), *first.shape), first.dtype, buffer=base, offset=start - _address(base)
    )


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
