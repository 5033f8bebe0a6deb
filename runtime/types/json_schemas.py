"""The interface of a function as plain data, its types as JSON Schema: what a process needs that
writes OpenAPI and has no code of the function.

A reference within it is ``#/$defs/NAME``, and ``definitions`` has what it leads to. Titles are left
out: pydantic makes them of names, and generators of clients would name classes by them.

``runtime.graph.interface_schemas`` makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypedDict

import numpy as np

from runtime.types import tensors
from runtime.types.value_types import ValueType

JsonSchema = dict[str, Any]
"""JSON Schema, draft 2020-12, as plain data."""

DEFINITIONS: Final = "#/$defs/"
"""What references begin with."""


class TensorDescription(TypedDict):
    """An input or output of the Open Inference Protocol; ``shape`` has -1 for any size."""

    name: str
    datatype: str
    shape: list[int]
    required: bool


class InterfaceDescription(TypedDict):
    """A function's interface.

    ``row`` is the schema of one request object, ``answer`` of what answers it (of a function that
    streams, of an item); ``example`` is a request, and ``tensors`` the same as the ``inputs`` of
    ``/infer``; ``raw_field`` is what a body of one of ``accepts`` fills, empty where there is none;
    ``headers`` are those that stages read, with whether a request must have them.
    """

    row: JsonSchema
    answer: JsonSchema
    definitions: dict[str, JsonSchema]
    inputs: list[TensorDescription]
    outputs: list[TensorDescription]
    example: dict[str, Any] | None
    tensors: list[dict[str, Any]] | None
    raw_field: str
    headers: dict[str, bool]
    streams: bool


_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
"""Keywords whose keys are names of the author's."""

_VALUES: Final = frozenset({"default", "const", "enum", "examples", "example"})
"""Keywords that have no schema in them."""


def rewrite_references(schema: Any, rename: Callable[[str], str]) -> Any:
    """Return a schema with other references, and without titles."""
    if isinstance(schema, list):
        return [rewrite_references(inner, rename) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    rewritten: JsonSchema = {}
    for key, value in schema.items():
        if key == "title":
            continue
        if key == "$ref":
            rewritten[key] = rename(value)
        elif key == "mapping":  # of a discriminator
            rewritten[key] = {name: rename(reference) for name, reference in value.items()}
        elif key in _BY_NAME:
            rewritten[key] = {
                name: rewrite_references(inner, rename) for name, inner in value.items()
            }
        elif key in _VALUES:
            rewritten[key] = value
        else:
            rewritten[key] = rewrite_references(value, rename)
    return rewritten


BYTES_SCHEMA: Final[JsonSchema] = {
    "type": "string",
    "format": "byte",
    "contentEncoding": "base64",
}
"""Bytes are base64 text in JSON."""


def array_schema(value: ValueType) -> JsonSchema:
    """The JSON Schema of nested lists that stand for an array of that datatype and shape."""
    schema = element_schema(value)
    if value.shape is None:
        return {"type": "array", "items": {}}
    for size in reversed(value.shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def element_schema(value: ValueType) -> JsonSchema:
    """The JSON Schema of one element of an array, or of a scalar of numpy."""
    datatype = value.datatype
    if datatype is None:
        return {}
    if datatype == "BYTES":
        return dict(BYTES_SCHEMA) if value.is_bytes else {"type": "string"}
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype in tensors.FLOATS:
        return {"type": "number"}
    schema: JsonSchema = {"type": "integer"}
    if not datatype.endswith("64"):  # numbers of 64 bits have limits that JSON's readers round
        limits = np.iinfo(tensors.NUMPY[datatype])
        schema |= {"minimum": int(limits.min), "maximum": int(limits.max)}
    return schema
