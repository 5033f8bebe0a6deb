"""The type of one named value that flows between stages, and whether one fits where another is wanted.

A value is what one row carries under one name. Its container says what Python object it is (a scalar, a list, an array, or any
other object); datatype and shape say what tensor it makes on the wire and in a model.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np

from runtime import datatypes
from runtime.annotations import Shape
from runtime.tensors import TensorSpec

Container = Literal["scalar", "list", "array", "object"]

_SCALARS: dict[Any, str] = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES", bytes: "BYTES"}


@dataclass(frozen=True, slots=True)
class ValueType:
    """One row's value.

    Attributes:
        annotation: the Python annotation it came from, ``Any`` when unknown.
        container: what object it is in Python.
        datatype: datatype of its elements; None for an array of unknown element type and for objects (JSON on the wire).
        shape: dimensions without the rows axis, -1 free; None when the rank is unknown.
    """

    annotation: Any
    container: Container
    datatype: str | None = None
    shape: tuple[int, ...] | None = None

    @property
    def is_any(self) -> bool:
        """Whether nothing is known of it, so that everything fits."""
        return self.annotation is Any

    def tensor(self, name: str, *, rows: bool = True) -> TensorSpec:
        """Its tensor on the wire: objects travel as JSON text in BYTES, an array of unknown rank as one free dimension."""
        shape = self.shape if self.shape is not None else ((-1,) if self.container == "array" else ())
        return TensorSpec(name, self.datatype or "BYTES", (-1, *shape) if rows else shape)

    def __str__(self) -> str:
        if self.container == "object":
            return getattr(self.annotation, "__name__", None) or str(self.annotation)
        dims = "[?]" if self.shape is None else str(list(self.shape))
        return f"{self.container} {self.datatype or 'of any datatype'} {dims}"


ANY = ValueType(Any, "object")


def of_tensor(spec: TensorSpec, *, rows: bool) -> ValueType:
    """The row value behind a model's input or output; with ``rows`` its first dimension is the rows axis."""
    return ValueType(np.ndarray, "array", spec.datatype, spec.shape[1:] if rows else spec.shape)


def of_annotation(annotation: Any) -> ValueType:
    """The value type of a Python annotation; unknown kinds become objects.

    Raises:
        TypeError: an array whose dtype is not in the protocol.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        value = of_annotation(args[0])
        for note in args[1:]:
            if isinstance(note, Shape):
                value = ValueType(args[0], value.container, value.datatype, note.dims)
        return value
    if origin in (Union, types.UnionType):
        known = [arg for arg in args if arg is not type(None)]
        return of_annotation(known[0]) if len(known) == 1 else ValueType(annotation, "object")
    if annotation in _SCALARS:
        return ValueType(annotation, "scalar", _SCALARS[annotation], ())
    if annotation is np.ndarray or origin is np.ndarray:
        return _of_array(annotation, args)
    if origin is Literal and len({type(arg) for arg in args}) == 1 and type(args[0]) in _SCALARS:
        return ValueType(annotation, "scalar", _SCALARS[type(args[0])], ())
    if origin in (list, Sequence) and args:
        item = of_annotation(args[0])
        if item.container in ("scalar", "list") and item.shape is not None:
            return ValueType(annotation, "list", item.datatype, (-1, *item.shape))
    return ValueType(annotation, "object")


def _of_array(annotation: Any, args: tuple[Any, ...]) -> ValueType:
    scalar = get_args(args[1])[0] if len(args) == 2 and get_args(args[1]) else Any
    if not isinstance(scalar, type) or not issubclass(scalar, np.generic) or scalar is np.generic:
        return ValueType(annotation, "array")
    try:
        return ValueType(annotation, "array", datatypes.from_numpy(np.dtype(scalar)))
    except KeyError:
        raise TypeError(f"{scalar.__name__} is not a datatype of the Open Inference Protocol") from None


def misfit(given: ValueType, wanted: ValueType) -> str:
    """Why a value of one type cannot be used where another is wanted; empty when it can.

    Between Python stages the object itself is passed on, so containers must agree.
    """
    if given.is_any or wanted.is_any or given == wanted:
        return ""
    if given.container != wanted.container:
        return f"it is {given}, {wanted} is wanted"
    if given.container == "object":
        fits = (
            isinstance(given.annotation, type) and isinstance(wanted.annotation, type) and issubclass(given.annotation, wanted.annotation)
        )
        return "" if fits else f"it is {given}, {wanted} is wanted"
    widens = given.container == "scalar" and (given.datatype, wanted.datatype) == ("INT64", "FP64")
    if None not in (given.datatype, wanted.datatype) and given.datatype != wanted.datatype and not widens:
        return f"it is {given}, {wanted} is wanted"
    if given.datatype == "BYTES" and {given.annotation, wanted.annotation} == {str, bytes}:
        return f"it is {given.annotation.__name__}, {wanted.annotation.__name__} is wanted"
    return _shape_misfit(given, wanted)


def model_misfit(given: ValueType, wanted: ValueType) -> str:
    """Why a value cannot feed a model's input; empty when it can.

    Python numbers have no width, so scalars and lists are converted to the model's datatype of the same kind; arrays must have it.
    """
    if given.is_any:
        return ""
    if given.container == "object":
        return f"it is {given}, a tensor {wanted.datatype} is wanted"
    same_kind = given.container != "array" and _kind(given.datatype) == _kind(wanted.datatype)
    if given.datatype is not None and given.datatype != wanted.datatype and not same_kind:
        return f"it is {given}, {wanted} is wanted"
    return _shape_misfit(given, wanted)


def _kind(datatype: str | None) -> str:
    if datatype in datatypes.FLOATS:
        return "float"
    return "integer" if datatype in datatypes.INTEGERS else str(datatype)


def _shape_misfit(given: ValueType, wanted: ValueType) -> str:
    if given.shape is None or wanted.shape is None:
        return ""
    fits = len(given.shape) == len(wanted.shape) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(given.shape, wanted.shape, strict=True)
    )
    return "" if fits else f"its shape is {list(given.shape)}, {list(wanted.shape)} is wanted"
