"""What a v2 inference request asks and what its response answers, as arrays.

Whether a decoded request fits the function it is for, asked before anything is queued or computed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import MissingInput, RequestError, UnknownInput, WrongDatatype, WrongShape
from runtime.system.messages import list_names, quote_names, suggest_name
from runtime.types.tensors import TensorSpec, from_numpy, shape_fits


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that the caller asked for.

    Attributes:
        name: the output's name.
        binary: whether its data follows the JSON as bytes (``parameters.binary_data``).
    """

    name: str
    binary: bool


# arrays have no truth value, so two messages cannot be compared field by field
@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """A decoded request.

    Attributes:
        id: the caller's id, printable and at most 128 characters; empty when it sent none.
        inputs: arrays by name, in the caller's order. Those from binary data are read-only views of
            the body where its alignment allows. BYTES is an object array of ``str`` (from JSON) or
            ``bytes`` (from binary data).
        outputs: what to answer with, in this order; empty means every output.
        binary_default: whether outputs are binary that are not named in ``outputs``
            (``parameters.binary_data_output``).
        parameters: the request's own parameters: strings, numbers, booleans.
        timeout_s: seconds that the caller waits (``parameters.timeout``, in microseconds as
            Triton's); infinity when it does not say.
    """

    id: str
    inputs: dict[str, np.ndarray]
    outputs: tuple[RequestedOutput, ...]
    binary_default: bool
    parameters: dict[str, Any]
    timeout_s: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """An answer to be encoded.

    Attributes:
        model_name: the function's name.
        id: the request's id; empty leaves it out.
        outputs: arrays by name; BYTES is an object array of ``str`` or ``bytes``.
        parameters: the response's parameters; empty leaves them out.
    """

    model_name: str
    id: str
    outputs: dict[str, np.ndarray]
    parameters: dict[str, Any]


def unknown_input(name: str, wanted: Collection[str], index: int) -> UnknownInput:
    """The error for an input that the function does not have."""
    return UnknownInput(
        f"no input {quote_names(name)}.{suggest_name(name, wanted)} The function takes"
        f" {list_names(wanted)}.",
        where=f"inputs[{index}].name",
    )


def check_inputs(
    request: InferRequest,
    specs: Sequence[TensorSpec],
    optional: Collection[str] = (),
    *,
    rows: bool = False,
) -> int:
    """Refuses inputs that the function does not take.

    Args:
        request: the decoded request.
        specs: every input of the function, -1 where a dimension is free.
        optional: names of those that may be left out.
        rows: whether the first axis of every input is the rows, which must then be as many in all
            of them, and one at least. A single value a row may come as a list of one, ``[n, 1]``,
            as clients of Triton send it; it is put into the request without that axis.

    Returns:
        The number of rows; 1 where the first axis is not rows.

    Raises:
        UnknownInput: an input of another name.
        MissingInput: an input that is not optional was not sent.
        WrongDatatype: an input of another datatype; nothing is converted.
        WrongShape: an input of another rank or another fixed dimension, no rows, or unlike numbers
            of rows.
    """
    wanted = {spec.name: spec for spec in specs}
    for index, (name, array) in enumerate(request.inputs.items()):
        spec = wanted.get(name)
        if spec is None:
            raise unknown_input(name, wanted, index)
        if not _fits(array, spec):
            if not (rows and _is_column(array, spec)):
                raise _tensor_error(array, spec, index)
            request.inputs[name] = array.reshape(-1)
    if len(request.inputs) < len(wanted):
        missing = [name for name in wanted if name not in request.inputs and name not in optional]
        if missing:
            raise MissingInput(
                f"the request lacks {list_names(missing)}. The function takes"
                f" {list_names(wanted)}.",
                where="inputs",
            )
    return _count_rows(request) if rows else 1


def check_outputs(request: InferRequest, names: Collection[str]) -> None:
    """Refuses a requested output that the function does not have.

    Raises:
        UnknownInput: with the nearest name that it has.
    """
    for index, output in enumerate(request.outputs):
        if output.name not in names:
            text = (
                f"no output {quote_names(output.name)}.{suggest_name(output.name, names)} The"
                f" function answers with {list_names(names)}."
            )
            raise UnknownInput(text, where=f"outputs[{index}].name")


def _fits(array: np.ndarray, spec: TensorSpec) -> bool:
    shape = array.shape
    is_of_rank = spec.any_rank and len(shape) >= bool(spec.shape)
    return (spec.any_datatype or from_numpy(array.dtype) == spec.datatype) and (
        is_of_rank or shape_fits(shape, spec.shape)
    )


def _is_column(array: np.ndarray, spec: TensorSpec) -> bool:
    """Whether it is ``[n, 1]`` where ``[n]`` is taken."""
    is_of_type = spec.any_datatype or from_numpy(array.dtype) == spec.datatype
    return is_of_type and len(spec.shape) == 1 and array.ndim == 2 and array.shape[1] == 1


def _tensor_error(array: np.ndarray, spec: TensorSpec, index: int) -> RequestError:
    """Return why a tensor is not one that the function takes."""
    datatype, shape = from_numpy(array.dtype), array.shape
    both = (
        f"input {quote_names(spec.name)} is {datatype} {list(shape)} but the function takes"
        f" {spec.datatype} {list(spec.shape)}"
    )
    where = f"inputs[{index}]"
    if datatype != spec.datatype and not spec.any_datatype:
        return WrongDatatype(f"{both}. Send {spec.datatype}.", where=f"{where}.datatype")
    if len(shape) != len(spec.shape):
        return WrongShape(
            f"{both}: {len(shape)} dimensions instead of {len(spec.shape)}.", where=f"{where}.shape"
        )
    axis = next(
        axis
        for axis, (dim, want) in enumerate(zip(shape, spec.shape, strict=True))
        if want not in (-1, dim)
    )
    return WrongShape(
        f"{both}: dimension {axis} is {shape[axis]} instead of {spec.shape[axis]}.",
        where=f"{where}.shape[{axis}]",
    )


def _count_rows(request: InferRequest) -> int:
    """The first dimension that all inputs share; 1 when no input was sent (all are optional)."""
    first, rows = "", -1
    for index, (name, array) in enumerate(request.inputs.items()):
        count: int = array.shape[0]
        if rows < 0:
            first, rows = name, count
        elif count != rows:
            text = (
                f"input {quote_names(name)} has {count} rows but {quote_names(first)} has {rows}:"
                " the first dimension of all inputs must be equal."
            )
            raise WrongShape(text, where=f"inputs[{index}].shape[0]")
    if rows == 0:
        raise WrongShape(
            "the first dimension of the inputs is 0: no rows. Send one at least.",
            where="inputs[0].shape[0]",
        )
    return 1 if rows < 0 else rows
