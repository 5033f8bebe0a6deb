"""A request's row checked against the fields of a function: the right names, types and constraints, or an error that names the field.

pydantic does the checking, strictly (``"3"`` is no number, ``true`` is no integer). Beyond it: bytes travel as base64 text, and
tensors as nested arrays.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import ErrorDetails

from runtime import datatypes
from runtime.errors import LoadError, MissingInput, RequestError, UnknownInput, WakefulError, WrongDatatype, WrongShape
from runtime.graph import Port
from runtime.tensors import fits
from runtime.values import ValueType
from runtime.wording import did_you_mean


class RowValidator:
    """Checks rows of one function.

    Args:
        name: the function's.
        fields: what a row may carry, by name.
    """

    def __init__(self, name: str, fields: Mapping[str, Port]) -> None:
        self._names = tuple(fields)
        definitions: dict[str, Any] = {
            f"field_{i}": (_annotation(port), _default(field, port)) for i, (field, port) in enumerate(fields.items())
        }
        config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, validate_by_alias=True)
        try:
            self._model: type[BaseModel] = create_model(f"{name}_row", __config__=config, **definitions)
        except PydanticSchemaGenerationError as error:
            raise LoadError(f"the fields of {name!r} have no schema: {error.message}") from error

    def row(self, data: Any, where: str = "") -> dict[str, Any]:
        """The row's values by field, defaults filled in.

        Args:
            data: decoded JSON, or Python values and arrays from a v2 request.
            where: path of the row, such as ``[3]``; empty for a single one.

        Raises:
            RequestError: or one of its kinds, ``where`` naming the field.
        """
        if not isinstance(data, dict):
            raise WrongDatatype(f"a row is a JSON object with the fields {', '.join(self._names)}.", where=where)
        try:
            checked = self._model.model_validate(data)
        except ValidationError as error:
            raise self._refusal(error.errors(include_url=False, include_input=False)[0], where) from None
        return dict(zip(self._names, checked.__dict__.values(), strict=True))

    def rows(self, data: Sequence[Any]) -> list[dict[str, Any] | WakefulError]:
        """Each row's values, or its error with a path such as ``[3].text``."""
        return [self._row_or_error(row, f"[{index}]") for index, row in enumerate(data)]

    def values(self, data: Sequence[Any]) -> list[dict[str, Any] | WakefulError]:
        """As ``rows``, of what a stage of another function gave: numpy's scalars are checked as Python's, and stay what they are."""
        return [
            self._kept(row, index) if isinstance(row, dict) else self._row_or_error(row, f"[{index}]") for index, row in enumerate(data)
        ]

    def _kept(self, data: dict[str, Any], index: int) -> dict[str, Any] | WakefulError:
        scalars = {name: value for name, value in data.items() if isinstance(value, np.generic)}
        checked = self._row_or_error({**data, **{name: value.item() for name, value in scalars.items()}} if scalars else data, f"[{index}]")
        return checked if isinstance(checked, WakefulError) or not scalars else checked | scalars

    def _row_or_error(self, data: Any, where: str) -> dict[str, Any] | WakefulError:
        try:
            return self.row(data, where)
        except RequestError as error:
            return error

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of a row, for OpenAPI."""
        return self._model.model_json_schema()

    def _refusal(self, error: ErrorDetails, where: str) -> RequestError:
        kind, path = error["type"], _path(where, error["loc"])
        field = str(error["loc"][0])
        if kind == "missing":
            return MissingInput(f"field {field!r} is missing; the fields are {', '.join(self._names)}.", where=path)
        if kind == "extra_forbidden":
            hint = did_you_mean(field[:64], self._names) or f"; the fields are {', '.join(self._names)}."
            return UnknownInput(f"the function has no such field{hint}", where=path)
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, _Misfit):
            return cause.kind(str(cause), where=path)
        message = f"{error['msg'].rstrip('.')}."
        return (WrongDatatype if kind.endswith(("_type", "_parsing")) else RequestError)(message, where=path)


class _Misfit(ValueError):
    """A value refused by a check of ours; pydantic carries it to ``_refusal``."""

    def __init__(self, message: str, kind: type[RequestError]) -> None:
        super().__init__(message)
        self.kind = kind


def _path(where: str, location: tuple[int | str, ...]) -> str:
    path = where
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part[:64]}" if path else part[:64]
    return path


def _default(name: str, port: Port) -> Any:
    return Field(... if port.is_required else port.default, alias=name)


def _annotation(port: Port) -> Any:
    """The field's annotation with our readers of bytes and tensors around it."""
    if port.type.container == "array":
        return Annotated[Any, BeforeValidator(_TensorReader(port.type)), WithJsonSchema({"type": "array"})]
    if port.type.annotation is bytes:
        return Annotated[port.annotation, BeforeValidator(_from_base64), WithJsonSchema({"type": "string", "format": "byte"})]
    return port.annotation


def _from_base64(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _Misfit("bytes travel in JSON as base64 text.", WrongDatatype)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _Misfit("this is no base64 text.", WrongDatatype) from None


class _TensorReader:
    """Nested JSON arrays to one row's tensor; an array that already is one passes when it fits."""

    def __init__(self, wanted: ValueType) -> None:
        self._wanted = wanted
        self._dtype = datatypes.NUMPY[wanted.datatype] if wanted.datatype else None

    def __call__(self, value: Any) -> Any:
        array = value if isinstance(value, np.ndarray) else self._read(value)
        if self._dtype is not None and array.dtype != self._dtype:  # as it came from a stage of another function
            raise _Misfit(f"it is an array of {array.dtype}, {self._wanted.datatype} is wanted.", WrongDatatype)
        shape = self._wanted.shape
        if shape is not None and not fits(array.shape, shape):
            raise _Misfit(f"its shape is {list(array.shape)}, {list(shape)} is wanted.", WrongShape)
        return array

    def _read(self, value: Any) -> Any:
        try:
            array = np.asarray(value)
        except ValueError:
            raise _Misfit("the nested arrays are of unlike length.", WrongShape) from None
        if self._dtype is None or array.dtype == self._dtype:
            return array
        if not array.size:
            return array.astype(self._dtype)
        kinds = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "O": "U"}[self._dtype.kind]
        if array.dtype.kind not in kinds:
            raise _Misfit(f"{self._wanted.datatype} numbers are wanted in nested arrays.", WrongDatatype)
        if self._dtype.kind in "iu":
            limits = np.iinfo(self._dtype)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise _Misfit(f"a number is outside {self._wanted.datatype}, {limits.min} to {limits.max}.", WrongDatatype)
        return array.astype(self._dtype)
