"""An ONNX file's interface read without a session, for checks that start nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from runtime import datatypes
from runtime.errors import LoadError
from runtime.onnx.info import ModelInfo, shares_first_axis
from runtime.tensors import TensorSpec


def inspect(path: Path) -> ModelInfo:
    """Reads a model's interface; weights outside the file are not touched.

    Raises:
        LoadError: the file is no ONNX model, or an input is no tensor of the protocol.
    """
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's DecodeError has no typed home
        raise LoadError(f"{path} is no ONNX model: {error}") from error
    if not graph.output:
        raise LoadError(f"{path} is no ONNX model: it has no outputs.")
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialized]
    batchable = bool(inputs) and shares_first_axis([_dims(value) for value in [*inputs, *graph.output]])
    return ModelInfo(tuple(map(_spec, inputs)), tuple(map(_spec, graph.output)), batchable)


def _dims(value: Any) -> list[int | str | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims]


def _spec(value: Any) -> TensorSpec:
    element = value.type.tensor_type.elem_type
    if not element:
        raise LoadError(f"{value.name!r} is no tensor (a sequence, map or optional).")
    try:
        datatype = datatypes.from_numpy(onnx.helper.tensor_dtype_to_np_dtype(element))
    except KeyError:
        name = onnx.TensorProto.DataType.Name(element)
        raise LoadError(f"{value.name!r} is {name}, which is no datatype of the Open Inference Protocol.") from None
    return TensorSpec(value.name, datatype, tuple(dim if isinstance(dim, int) else -1 for dim in _dims(value)))
