"""The interface of a function as plain data, its types as JSON Schema: what a process needs that
writes OpenAPI and has no code of the function.

A reference within it is ``#/$defs/NAME``, and ``definitions`` has what it leads to. Titles are left
out: pydantic makes them of names, and generators of clients would name classes by them.

``runtime.graph.description.interface_schemas`` makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NotRequired, TypedDict

import numpy as np

from runtime.types import tensors
from runtime.types.value_types import ValueType

JsonSchema = dict[str, Any]
"""JSON Schema, draft 2020-12, as plain data."""

DEFINITIONS: Final = "#/$defs/"
"""What references begin with."""


class TensorDescription(TypedDict):
    """An input or output of the Open Inference Protocol; ``shape`` has -1 for any size, and is one
    of many with ``any_rank``.
    """

    name: str
    datatype: str
    shape: list[int]
    any_rank: bool
    required: bool


class InterfaceDescription(TypedDict):
    """A function's interface.

    ``row`` is the schema of one request object, ``answer`` of what answers it (of a function that
    streams, of an item); ``example`` is a request, and ``tensors`` the same as the ``inputs`` of
    ``/infer``; ``raw_field`` is what a body of one of ``accepts`` fills, empty where there is none;
    ``headers`` are those that stages read, with whether a request must have them, and
    ``header_examples`` what may be sent in them; ``media_type`` is that of the file that is
    answered, or its range, and empty where the answer is JSON alone.
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
    header_examples: dict[str, str]
    streams: bool
    media_type: NotRequired[str]


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


def array_schema(value: ValueType, *, is_answer: bool = False) -> JsonSchema:
    """The JSON Schema of nested lists that stand for an array of that datatype and shape. Of an
    array of any rank, which may be a scalar, the elements of two levels: there is no schema of
    lists that nest as deep as they like and all alike.

    Args:
        is_answer: as of ``element_schema``.
    """
    schema = element_schema(value, is_answer=is_answer)
    if value.shape is None:
        inner = {"anyOf": [schema, {"type": "array", "items": {}}]}
        return {"anyOf": [schema, {"type": "array", "items": inner}]}
    for axis in reversed(range(len(value.shape))):
        schema, size = {"type": "array", "items": schema}, value.shape[axis]
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
        elif axis < len(value.shape) - 1 and not is_answer:
            schema["minItems"] = 1  # [] has one dimension
    return schema


def element_schema(value: ValueType, *, is_answer: bool = False) -> JsonSchema:
    """The JSON Schema of one element of an array, or of a scalar of numpy.

    Args:
        is_answer: NaN and infinities are null in it.
    """
    if value.datatype is None:
        return {"type": ["boolean", "number", "string", *(["null"] if is_answer else [])]}
    if value.datatype == "BYTES" and value.is_bytes:
        return dict(BYTES_SCHEMA)
    return datatype_schema(value.datatype, is_answer=is_answer)


def datatype_schema(datatype: str, *, is_answer: bool = False) -> JsonSchema:
    """The JSON Schema of an element of a datatype of the Open Inference Protocol."""
    if datatype == "BYTES":
        return {"type": "string"}
    if datatype == "BOOL":
        return {"type": "boolean"}
    kind = tensors.NUMPY[datatype]
    if datatype not in tensors.FLOATS:
        limits = np.iinfo(kind)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    schema: JsonSchema = {"type": ["number", "null"] if is_answer else "number"}
    if datatype != "FP64":  # JSON has no other number
        limit = float(np.finfo(kind).max)
        schema |= {"minimum": -limit, "maximum": limit}
    return schema


JSON_INTEGERS: Final = (-(2**63), 2**64 - 1)
"""Integers that JSON is read and written with; what is beyond is a float."""
