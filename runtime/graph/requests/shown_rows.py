"""The row that shows people how a function is called: its declared example, or one made up."""

from __future__ import annotations

import math
from typing import Any, Final

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from runtime.graph.assembly import Assembly
from runtime.graph.requests.made_up_rows import make_row
from runtime.types.example_files import find_files
from runtime.types.value_types import ValueType

MOST_MADE_UP: Final = 1 << 21
"""Elements of the arrays of a made-up row."""

MOST_CHECKED: Final = 1 << 16
"""Elements of a made-up row that is checked before it is shown; arrays of numbers always fit."""


def example_request(
    spec: FunctionSpec, assembly: Assembly | None, most_bytes: int
) -> dict[str, Any] | None:
    """One row as JSON: the declared example, or one made up from the fields that the function
    takes. None when it is not assembled, a field is of no kind that can be made up, or the files of
    the example cannot be read or have more than ``most_bytes``.
    """
    if spec.example is not None:
        return _declared_request(spec.example, assembly, most_bytes)
    return None if assembly is None else _made_up_request(assembly)


def _made_up_request(assembly: Assembly) -> dict[str, Any] | None:
    """A row of the fields that must be there, if the function takes it."""
    graph, validator = assembly.graph, assembly.validator
    if graph is None or graph.issues or validator is None:
        return None
    required = {name: port.type for name, port in graph.fields.items() if port.is_required}
    arrays = {name: kind for name, kind in required.items() if kind.container == "array"}
    sizes = [math.prod(max(dim, 1) for dim in kind.shape or ()) for kind in arrays.values()]
    if sum(sizes) > MOST_MADE_UP:
        return None
    try:
        made = make_row(validator.json_schema()) if len(arrays) < len(required) else {}
        made |= {name: _array_value(kind) for name, kind in arrays.items()}
        if sum(sizes) <= MOST_CHECKED:
            validator.validate(made)
    except Exception:  # whatever a user's annotations and validators raise
        return None
    return {name: made[name] for name in required}


def _declared_request(
    declared: dict[str, Any], assembly: Assembly | None, most_bytes: int
) -> dict[str, Any] | None:
    example = assembly.example if assembly is not None else None
    if example is None:
        return None if any(find_files(declared)) else dict(declared)
    if example.file_bytes > most_bytes:
        return None
    try:
        return dict(example.json_row)
    except RequestError:  # the check reports it
        return None


def _array_value(kind: ValueType) -> Any:
    """A scalar, or nested lists with one element where a dimension is free."""
    value: Any = {"BYTES": "text", "BOOL": True}.get(kind.datatype or "", 1)
    for dim in reversed(kind.shape if kind.shape is not None else (-1,)):
        value = [value] * max(dim, 1)
    return value
