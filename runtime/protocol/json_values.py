"""A value that came in JSON becomes what a stage takes of it: nested arrays one row's tensor, a
number or a text a numpy scalar, base64 text bytes. pydantic calls these readers, as validators.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydantic import ValidationInfo

from runtime.errors import RequestError, WrongDatatype, WrongShape
from runtime.protocol.json_text import json_kind
from runtime.protocol.tensor_codec import decode_nested
from runtime.types import tensors
from runtime.types.tensors import from_numpy, shape_fits
from runtime.types.value_types import ABSTRACT, ValueType, array_scalar, has_kind

AS_VALUES: Final = "values"
"""The context of a validation of Python's own values, as a stage of another function gives them."""


class RefusedValueError(ValueError):
    """A value refused by a check of a field; pydantic passes it on in its error.

    Attributes:
        kind: the error that the request gets.
        place: path of the element at fault, within the value.
    """

    def __init__(self, message: str, kind: type[RequestError], place: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.place = place


def read_base64(value: Any) -> Any:
    """The bytes; what is neither text nor bytes nor None is refused."""
    if value is None or isinstance(value, bytes):  # pydantic decides whether None is accepted
        return value
    if not isinstance(value, str):
        raise RefusedValueError("bytes travel in JSON as base64 text.", WrongDatatype)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedValueError(
            f"this is no base64 text.{_base64_fix(value)}", WrongDatatype
        ) from None


def _base64_fix(value: str) -> str:
    """The end of a message about a text that was meant to be bytes."""
    if value.startswith("data:"):
        return " Leave out what stands before the comma of the data URL."
    return " `base64 -w0 FILE` prints that of a file; a form takes a file as it is."


class TensorReader:
    """Turns nested JSON arrays into one row's tensor; an array passes when it fits."""

    def __init__(self, wanted: ValueType) -> None:
        self._wanted = wanted
        self._dtype = tensors.NUMPY[wanted.datatype] if wanted.datatype else None
        self._kind = getattr(array_scalar(wanted.annotation), "__name__", "another")

    def __call__(self, value: Any, info: ValidationInfo) -> Any:
        array = (
            value
            if isinstance(value, np.ndarray)
            else self._read(_to_lists(value) if info.context == AS_VALUES else value)
        )
        if (
            self._dtype is not None
            and array.dtype != self._dtype
            and not (self._dtype.hasobject and array.dtype.kind in "SU")
        ):
            raise RefusedValueError(
                f"it is an array of {array.dtype}, {self._wanted.datatype} is wanted.",
                WrongDatatype,
            )
        if self._dtype is None and not has_kind(array.dtype, self._wanted.annotation):
            raise RefusedValueError(
                f"it is an array of {from_numpy(array.dtype)}, {self._kind} is wanted.",
                WrongDatatype,
            )
        shape = self._wanted.shape
        if shape is not None and not shape_fits(array.shape, shape):
            raise RefusedValueError(
                f"its shape is {list(array.shape)}, {list(shape)} is wanted.", WrongShape
            )
        return array

    def _read(self, value: Any) -> Any:
        if type(value) in (dict, type(None)):
            raise RefusedValueError(f"it is {json_kind(value)}, an array is wanted.", WrongDatatype)
        try:
            array = decode_nested(value, self._wanted.datatype)
        except RequestError as error:
            raise _to_refused_value(error) from None
        if array.dtype.hasobject and self._wanted.is_bytes:
            array.reshape(-1)[:] = [read_base64(text) for text in array.reshape(-1).tolist()]
        if self._dtype is None and not has_kind(array.dtype, self._wanted.annotation):
            array = self._of_kind(array)
        return _unfold(array, self._wanted.shape or ())

    def _of_kind(self, array: Any) -> Any:
        """An array whose datatype JSON's elements did not say: whole numbers where floats are
        wanted, and one without elements.
        """
        for dtype in (np.dtype(np.float64), np.dtype(np.int64), np.dtype(object)):
            if has_kind(dtype, self._wanted.annotation) and (
                not array.size or (array.dtype.kind in "iu" and dtype.kind == "f")
            ):
                return array.astype(dtype)
        return array


def _unfold(array: Any, wanted: Sequence[int]) -> Any:
    """An array without elements with the axes that its lists could not show: ``[]`` is ``[0, 2]``
    where ``[-1, 2]`` is wanted.
    """
    if array.size or array.ndim >= len(wanted):
        return array
    return array.reshape(*array.shape, *(max(size, 0) for size in wanted[array.ndim :]))


class ScalarReader:
    """Turns a JSON number or text into a numpy scalar; a scalar passes when it is of that type."""

    def __init__(self, wanted: ValueType) -> None:
        self._wanted = wanted

    def __call__(self, value: Any, info: ValidationInfo) -> Any:
        made = self._wanted.annotation
        if isinstance(value, made):
            return value
        if issubclass(made, bytes):
            return made(read_base64(value))
        # as binary data may have it
        if isinstance(value, float) and not math.isfinite(value) and made not in ABSTRACT:
            return made(value)
        if info.context == AS_VALUES and isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, list | dict | None):
            raise RefusedValueError(
                f"it is {json_kind(value)}, {self._wanted.datatype or made.__name__} is wanted.",
                WrongDatatype,
            )
        try:
            scalar = decode_nested(value, self._wanted.datatype)[()]
        except RequestError as error:
            raise _to_refused_value(error) from None
        if made in ABSTRACT and not isinstance(scalar, made):
            raise RefusedValueError(
                f"it is {json_kind(value)}, a {made.__name__} is wanted.", WrongDatatype
            )
        return scalar if made in ABSTRACT else made(scalar)


def _to_refused_value(error: RequestError) -> RefusedValueError:
    message = error.message.removeprefix(error.where).strip()
    return RefusedValueError(
        message if error.where or not message.startswith("is ") else f"it {message}",
        type(error),
        error.where,
    )


def _to_lists(value: Any) -> Any:
    """Python's own values as JSON decodes them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_to_lists(inner) for inner in value] if isinstance(value, list | tuple) else value
