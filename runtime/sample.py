"""A request that a function takes: the declared example, or one made up from its fields."""

from __future__ import annotations

from typing import Any

from runtime.assemble import ModelPart, assemble
from runtime.onnx.inspect import inspect
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.values import ValueType

_SCALARS: dict[str, Any] = {"BYTES": "text", "BOOL": True}


def sample(spec: FunctionSpec, settings: Settings) -> dict[str, Any] | None:
    """One row as JSON; None when the function cannot be assembled, or a field is of no kind that can be made up."""
    if spec.example is not None:
        return dict(spec.example)
    graph = assemble(spec, settings, lambda path: ModelPart(path, inspect(path))).graph
    if graph is None or graph.faults:
        return None
    made = {name: _value(port.type) for name, port in graph.fields.items() if port.is_required}
    return None if None in made.values() else made


def _value(kind: ValueType) -> Any:
    """A scalar, or nested lists of them with one element where a dimension is free."""
    if kind.container == "object":
        return None
    value = _SCALARS.get(kind.datatype or "", 1)
    for dim in reversed(kind.shape if kind.shape is not None else (-1,)):
        value = [value] * max(dim, 1)
    return value
