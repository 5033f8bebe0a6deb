"""The Open Inference Protocol of a function: its tensors, how request tensors become rows, and how
rows become response tensors.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.batching.calls import Row
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import (
    FunctionError,
    MalformedBody,
    RequestError,
    WrongDatatype,
    refuse_too_many,
)
from runtime.graph.graph import Port
from runtime.graph.request_fields import RowValidator
from runtime.protocol.json_text import dumps, loads
from runtime.protocol.messages import InferRequest, InferResponse, check_inputs
from runtime.protocol.model_configuration import ONNX_PLATFORM, model_configuration
from runtime.types import tensors
from runtime.types.own_values import own_default
from runtime.types.tensors import TensorSpec, stack
from runtime.types.value_types import ValueType, is_bare_array


class OpenInference:
    """Converts requests to rows and rows to responses. It has no mutable state and may be used in
    any thread.

    Args:
        name: of the function.
        fields: of a row, by name.
        answer: the types of the answer's values, by name.
        validator: checks a row.
        has_rows: whether the first axis of every tensor is the rows.
        is_value: whether the only value of the answer is, over JSON, the answer itself.
        platform: what runs it, in the protocol's word.

    Attributes:
        inputs, outputs: the tensors.
        input_names: of the inputs, in order.
    """

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Port],
        answer: Mapping[str, ValueType],
        validator: RowValidator,
        *,
        has_rows: bool,
        is_value: bool,
        platform: str,
    ) -> None:
        self.name = name
        self.has_rows = has_rows
        self._is_value = is_value
        self.platform = platform
        self.inputs = tuple(
            port.type.tensor(field, rows=has_rows) for field, port in fields.items()
        )
        self.input_names = tuple(fields)
        self.outputs = tuple(value.tensor(field, rows=has_rows) for field, value in answer.items())
        self._answer = answer
        self._validator = validator
        self._defaults = {
            field: port.default for field, port in fields.items() if not port.is_required
        }
        self._reads = {field: make_reader(port.type) for field, port in fields.items()}
        self._checked_by_wire = all(map(_is_checked_by_wire, fields.values()))

    def metadata(self) -> dict[str, Any]:
        """The v2 model metadata response. An input that may be left out has ``optional`` among its
        parameters, with its default where that is one word; the output that is the whole JSON
        answer has ``is_answer``: the keys of a plain ``dict`` are not known before it is returned;
        a tensor of any datatype or number of dimensions has ``any_datatype`` and ``any_rank``; one
        that is a file has its ``media_type``, or the range of it.
        """
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": self.platform,
            "inputs": [
                {
                    **tensor.metadata(),
                    **_parameters(self._describe_input(tensor.name) | _describe_any(tensor)),
                }
                for tensor in self.inputs
            ],
            "outputs": [
                {
                    **tensor.metadata(),
                    **_parameters(
                        ({"is_answer": True} if self._is_value else {})
                        | ({"media_type": value.media_type} if value.media_type else {})
                        | _describe_any(tensor)
                    ),
                }
                for tensor, value in zip(self.outputs, self._answer.values(), strict=True)
            ],
        }

    def configuration(self, spec: FunctionSpec, *, streams: bool) -> dict[str, Any]:
        """The response of Triton's model configuration extension."""
        return model_configuration(
            spec,
            self.platform,
            self.inputs,
            self.outputs,
            self._defaults.keys(),
            has_rows=self.has_rows,
            streams=streams,
        )

    def _describe_input(self, name: str) -> dict[str, Any]:
        if name not in self._defaults:
            return {}
        default = self._defaults[name]
        is_word = isinstance(default, bool | int | float | str) and default == default  # no NaN
        return {"optional": True, **({"default": default} if is_word else {})}

    def rows(self, request: InferRequest, max_rows: int) -> list[dict[str, Any]]:
        """The validated rows of a request.

        Raises:
            RequestError: inputs that are not this function's.
            TooLarge: more than ``max_rows``.
        """
        count = check_inputs(request, self.inputs, self._defaults.keys(), rows=self.has_rows)
        refuse_too_many(count, max_rows)
        columns = {name: self._reads[name](tensor, name) for name, tensor in request.inputs.items()}
        rows = [columns]
        if self.has_rows and columns:
            rows = [
                dict(zip(columns, values, strict=True))
                for values in zip(*map(_by_row, columns.values()), strict=True)
            ]
        if not self._checked_by_wire:
            return [
                self._validator.validate(row, f"row {index}" if count != 1 else "")
                for index, row in enumerate(rows)
            ]
        if len(columns) < len(self.inputs):
            absent = {name: own for name, own in self._defaults.items() if name not in columns}
            return [row | {name: own_default(own) for name, own in absent.items()} for row in rows]
        return rows

    def response(self, request: InferRequest, rows: Sequence[Row]) -> InferResponse:
        """The outputs that a request asks for.

        Raises:
            WakefulError: of the first row that failed: tensors have no place for the error of one
                row.
        """
        for row in rows:
            if row.error is not None:
                raise row.error
        wanted = {output.name for output in request.outputs} or set(self._answer)
        outputs = {
            spec.name: to_column(
                [row.values.get(spec.name) for row in rows], spec, value, rows=self.has_rows
            )
            for spec, value in zip(self.outputs, self._answer.values(), strict=True)
            if spec.name in wanted
        }
        return InferResponse(self.name, request.id, outputs, {})


def platform_of(spec: FunctionSpec) -> str:
    """``onnxruntime_onnx`` where a model is run, by a function that is called as well; else
    ``python``.
    """
    called = spec.deployed.declarations.values()
    has_model = any(stage.onnx for stage in spec.graph) or any(
        stage.get("onnx") for declaration in called for stage in declaration["graph"]
    )
    return ONNX_PLATFORM if has_model else "python"


def _describe_any(tensor: TensorSpec) -> dict[str, Any]:
    described = {"any_datatype": tensor.any_datatype, "any_rank": tensor.any_rank}
    return {key: True for key, is_any in described.items() if is_any}


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": parameters} if parameters else {}


def _is_checked_by_wire(port: Port) -> bool:
    """Whether a tensor of the announced datatype and shape is all that a field asks for, so that a
    large one goes past the validator.
    """
    is_of_model = port.annotation is np.ndarray  # which says no more than its type
    return port.type.datatype is not None and (is_of_model or is_bare_array(port.annotation))


def _by_row(column: Sequence[Any]) -> Sequence[Any]:
    """One value a row; of an array of single numbers arrays without dimensions, as JSON gives."""
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return [column[at, ...] for at in range(len(column))]
    return column


Array = NDArray[Any]


def make_reader(value: ValueType) -> Callable[[Array, str], Sequence[Any]]:
    """A function that turns an input tensor ``[rows, ...]`` into one value a row.

    Arrays stay views of the tensor, but for text, which is ``str`` as from JSON: ONNX Runtime would
    take ``b'a'`` for the text ``"b'a'"``. Scalars and lists become Python's; objects are read from
    JSON text. It raises WrongDatatype for text that is not UTF-8, and MalformedBody for text that
    is not JSON.
    """
    if value.container == "array" and value.datatype == "BYTES":
        return functools.partial(_read_texts, wanted=bytes if value.is_bytes else str)
    if value.container == "array" and value.datatype is None:
        return _read_any
    if value.container == "array":
        return lambda tensor, name: tensor  # type: ignore[return-value]  # an array is a sequence of its rows
    if value.container == "object":
        return _read_json
    if value.datatype == "BYTES":
        wanted = bytes if value.is_bytes else str
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
        raise WrongDatatype(
            f"input {name!r} is text, and an element is not UTF-8.", where=name
        ) from None


def _read_texts(tensor: Array, name: str, *, wanted: type) -> Any:
    texts = np.empty(tensor.size, object)
    texts[:] = _texts(tensor.reshape(-1).tolist(), wanted, name)
    return texts.reshape(tensor.shape)


def _read_any(tensor: Array, name: str) -> Any:
    return _read_texts(tensor, name, wanted=str) if tensor.dtype.hasobject else tensor


def _read_json(tensor: Array, name: str) -> Sequence[Any]:
    try:
        return [loads(text.encode() if isinstance(text, str) else text) for text in tensor.tolist()]
    except (MalformedBody, UnicodeEncodeError) as error:
        raise MalformedBody(
            f"input {name!r} carries JSON text, and an element is none that is read here.",
            where=name,
        ) from error


def to_column(values: Sequence[Any], spec: TensorSpec, value: ValueType, *, rows: bool) -> Array:
    """One value a row as an output tensor; the only value itself where a function has no rows axis.

    Raises:
        RequestError: values that no tensor can carry: rows of different lengths, or None.
        FunctionError: the values are not what the last stage's signature says.
    """
    try:
        if not rows:
            return np.asarray(values[0])
        if value.media_type:
            return _objects(values)
        if value.container == "object":
            return _objects([dumps(row) for row in values])
        if any(row is None for row in values) and not (
            value.container == "scalar" and value.datatype in tensors.FLOATS
        ):
            raise _none(spec)
        if value.container in ("array", "list") and _are_unlike(values):
            raise RequestError(
                f"the rows of output {spec.name!r} are of unlike length, which a tensor cannot "
                f"carry. Call with one row a request, {_OTHERWISE[0].lower()}{_OTHERWISE[1:]}",
                where="outputs",
            )
        if value.container == "array" and len(set(map(_datatype_of, values))) > 1:
            raise RequestError(
                f"the rows of output {spec.name!r} are of unlike datatypes, which a tensor cannot"
                f" carry. Call with one row a request, {_OTHERWISE[0].lower()}{_OTHERWISE[1:]}",
                where="outputs",
            )
        if value.container == "array":
            return stack([np.asarray(row) for row in values])
        if value.datatype == "BYTES" and value.container == "scalar":
            return _objects(values)
        return _of_datatype(values, spec)
    except (ValueError, TypeError, OverflowError) as error:
        raise FunctionError(
            f"output {spec.name!r} is not the {value} that the last stage declares: {error}"
        ) from error


def _are_unlike(values: Sequence[Any]) -> bool:
    """Whether rows, or the lists within one, are of different lengths."""
    try:
        return len(set(map(np.shape, values))) > 1
    except ValueError:
        return True


def _datatype_of(row: Any) -> str:
    dtype = np.asarray(row).dtype
    return "BYTES" if dtype.kind in "OSU" else dtype.newbyteorder("=").str


_OTHERWISE: Final = "Leave the output out, or call by JSON rows."


def _of_datatype(values: Sequence[Any], spec: TensorSpec) -> Array:
    """A column of scalars or lists. A float that is None becomes NaN, which JSON writes as null.

    Raises:
        ValueError: of the first row with an element of another kind (2.7 is no integer), or out of
            range: 2**63, which JSON carries, is no INT64.
    """
    dtype = tensors.NUMPY[spec.datatype]
    if dtype.hasobject:
        texts = np.asarray(values, dtype)
        if any(element is None for element in texts.reshape(-1).tolist()):
            raise _none(spec)
        return texts
    with contextlib.suppress(tensors.UncastError):
        return tensors.cast(values, spec.datatype)
    return np.stack([_row_of_datatype(row, index, spec) for index, row in enumerate(values)])


def _row_of_datatype(row: Any, index: int, spec: TensorSpec) -> Array:
    elements = np.asarray(row, object)
    is_none = np.array([one is None for one in elements.reshape(-1).tolist()], bool)
    if is_none.any():
        if spec.datatype not in tensors.FLOATS:
            raise _none(spec)
        elements = np.where(is_none.reshape(elements.shape), np.nan, elements)
    try:
        return tensors.cast(elements.tolist(), spec.datatype)
    except tensors.UncastError as error:
        raise ValueError(f"in row {index}, {error}") from error


def _none(spec: TensorSpec) -> RequestError:
    return RequestError(
        f"output {spec.name!r} is None for a row, which a tensor cannot carry. {_OTHERWISE}",
        where="outputs",
    )


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
