"""Whether a decoded request fits the function it is for, asked before anything is queued or computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from runtime.datatypes import from_numpy
from runtime.errors import MissingInput, UnknownInput, WrongDatatype, WrongShape
from runtime.tensors import TensorSpec, fits
from runtime.wire.messages import InferRequest
from runtime.wire.names import listed, shown, suggestion


def check_inputs(request: InferRequest, specs: Sequence[TensorSpec], optional: frozenset[str] = frozenset(), *, rows: bool = False) -> int:
    """Refuses inputs that the function does not take.

    Args:
        request: the decoded request.
        specs: every input of the function, -1 where a dimension is free.
        optional: names of those that may be left out.
        rows: whether the first axis of every input is the rows, which must then be as many in all of them, and one at least.

    Returns:
        The number of rows; 1 where the first axis is not rows.

    Raises:
        UnknownInput: an input of another name.
        MissingInput: an input that is not optional was not sent.
        WrongDatatype: an input of another datatype; nothing is converted.
        WrongShape: an input of another rank or another fixed dimension, no rows, or unlike numbers of rows.
    """
    wanted = {spec.name: spec for spec in specs}
    for index, (name, array) in enumerate(request.inputs.items()):
        spec = wanted.get(name)
        if spec is None:
            text = f"no input {shown(name)}.{suggestion(name, wanted)} The function takes {listed(wanted)}."
            raise UnknownInput(text, where=f"inputs[{index}].name")
        _check_tensor(array, spec, index)
    if len(request.inputs) < len(wanted):
        missing = [name for name in wanted if name not in request.inputs and name not in optional]
        if missing:
            raise MissingInput(f"the request lacks {listed(missing)}. The function takes {listed(wanted)}.", where="inputs")
    return _count_rows(request) if rows else 1


def check_outputs(request: InferRequest, names: Collection[str]) -> None:
    """Refuses a requested output that the function does not have.

    Raises:
        UnknownInput: with the nearest name that it has.
    """
    for index, output in enumerate(request.outputs):
        if output.name not in names:
            text = f"no output {shown(output.name)}.{suggestion(output.name, names)} The function answers with {listed(names)}."
            raise UnknownInput(text, where=f"outputs[{index}].name")


def _check_tensor(array: np.ndarray, spec: TensorSpec, index: int) -> None:
    datatype, shape = from_numpy(array.dtype), array.shape
    if datatype == spec.datatype and fits(shape, spec.shape):
        return
    both = f"input {shown(spec.name)} is {datatype} {list(shape)} but the function takes {spec.datatype} {list(spec.shape)}"
    where = f"inputs[{index}]"
    if datatype != spec.datatype:
        raise WrongDatatype(f"{both}. Send {spec.datatype}.", where=f"{where}.datatype")
    if len(shape) != len(spec.shape):
        raise WrongShape(f"{both}: {len(shape)} dimensions instead of {len(spec.shape)}.", where=f"{where}.shape")
    axis = next(axis for axis, (dim, want) in enumerate(zip(shape, spec.shape, strict=True)) if want not in (-1, dim))
    raise WrongShape(f"{both}: dimension {axis} is {shape[axis]} instead of {spec.shape[axis]}.", where=f"{where}.shape[{axis}]")


def _count_rows(request: InferRequest) -> int:
    """The first dimension that all inputs share; 1 when no input was sent (all are optional)."""
    first, rows = "", -1
    for index, (name, array) in enumerate(request.inputs.items()):
        count: int = array.shape[0]
        if rows < 0:
            first, rows = name, count
        elif count != rows:
            text = f"input {shown(name)} has {count} rows but {shown(first)} has {rows}: the first dimension of all inputs must be equal."
            raise WrongShape(text, where=f"inputs[{index}].shape[0]")
    if rows == 0:
        raise WrongShape("the first dimension of the inputs is 0: no rows. Send one at least.", where="inputs[0].shape[0]")
    return 1 if rows < 0 else rows
