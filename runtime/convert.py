"""Wire tensors to the values of rows, and the values of rows back to wire tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from runtime import datatypes
from runtime.batching.collate import stack
from runtime.errors import FunctionError, MalformedBody, RequestError, WrongDatatype
from runtime.tensors import TensorSpec
from runtime.values import ValueType
from runtime.wire.jsontext import loads

Array = NDArray[Any]


def reader(value: ValueType) -> Callable[[Array, str], Sequence[Any]]:
    """How an input tensor ``[rows, ...]`` becomes one value a row.

    Arrays stay views of the tensor, but for text, which is ``str`` as from JSON: ONNX Runtime would take ``b'a'`` for the text ``"b'a'"``.
    Scalars and lists become Python's; objects are read from JSON text.
    The function made raises WrongDatatype for text that is not UTF-8, and MalformedBody for JSON that is none.
    """
    if value.container == "array" and value.datatype == "BYTES" and "bytes" not in str(value.annotation):
        return _read_texts
    if value.container == "array":
        return lambda tensor, name: tensor  # type: ignore[return-value]  # an array is a sequence of its rows
    if value.container == "object":
        return _read_json
    if value.datatype == "BYTES":
        wanted = bytes if "bytes" in str(value.annotation) else str
        return lambda tensor, name: _texts(tensor.tolist(), wanted, name)
    return lambda tensor, name: tensor.tolist()


def _texts(values: Any, wanted: type, name: str) -> Any:
    """BYTES elements, nested or not, as the type the stage asks for."""
    if isinstance(values, list):
        return [_texts(value, wanted, name) for value in values]
    if isinstance(values, wanted):
        return values
    if isinstance(values, str):
        return values.encode()
    try:
        return values.decode()
    except UnicodeDecodeError:
        raise WrongDatatype(f"input {name!r} is text, and an element is not UTF-8.", where=name) from None


def _read_texts(tensor: Array, name: str) -> Any:
    texts = np.empty(tensor.size, object)
    texts[:] = _texts(tensor.reshape(-1).tolist(), str, name)
    return texts.reshape(tensor.shape)


def _read_json(tensor: Array, name: str) -> Sequence[Any]:
    try:
        return [loads(text.encode() if isinstance(text, str) else text) for text in tensor.tolist()]
    except (MalformedBody, UnicodeEncodeError) as error:
        raise MalformedBody(f"input {name!r} carries JSON text, and an element is none that is read here.", where=name) from error


def column(values: Sequence[Any], spec: TensorSpec, value: ValueType, *, rows: bool) -> Array:
    """One value a row as an output tensor; the only value itself where a function has no rows axis.

    Raises:
        RequestError: the rows' values are of unlike length, which no tensor can carry.
        FunctionError: the values are not what the last stage's signature says.
    """
    try:
        if not rows:
            return np.asarray(values[0])
        if value.container in ("array", "list") and len({np.shape(row) for row in values}) > 1:
            raise RequestError(
                f"the rows of output {spec.name!r} are of unlike length, which a tensor cannot carry. Call with one row a request, "
                "leave the output out, or call by JSON rows.",
                where="outputs",
            )
        if value.container == "array":
            return stack([np.asarray(row) for row in values])
        if value.container == "object":
            return _objects([orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in values])
        if value.datatype == "BYTES" and value.container == "scalar":
            return _objects(values)
        return np.asarray(values, datatypes.NUMPY[spec.datatype])
    except (ValueError, TypeError) as error:
        raise FunctionError(f"output {spec.name!r} is not the {value} that the last stage declares: {error}") from error


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
