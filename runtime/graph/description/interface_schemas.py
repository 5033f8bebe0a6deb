"""What a function takes and answers, as JSON Schema: plain data that is made from an assembled
function, so that OpenAPI can be written where no stage is imported and nothing is loaded.
"""

from __future__ import annotations

import functools
import itertools
import mimetypes
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import ConfigDict, create_model

from runtime.graph.assembly import Assembly
from runtime.graph.graph import Graph, Port
from runtime.graph.request_fields import RowValidator
from runtime.graph.requests.curl_lines import CallForm
from runtime.graph.requests.raw_bodies import raw_field_of
from runtime.graph.requests.shown_rows import example_request
from runtime.graph.schemas import SchemaWriter, translate
from runtime.protocol.json_text import dumps, loads
from runtime.types.annotations import REQUEST_ID, is_media_range
from runtime.types.json_schemas import (
    BYTES_SCHEMA,
    DEFINITIONS,
    InterfaceDescription,
    JsonSchema,
    TensorDescription,
    array_schema,
    rewrite_references,
)
from runtime.types.value_types import ANY_MAPPING, ValueType

MAX_EXAMPLE_BYTES: Final = 64 << 10
"""A longer example is left out: a page that shows it shows nothing else."""


def describe_interface(assembly: Assembly) -> InterfaceDescription | None:
    """Return the interface of a function; None where it has an issue."""
    graph, validator = assembly.graph, assembly.validator
    if graph is None or validator is None or assembly.issues:
        return None
    definitions = _Definitions()
    row = definitions.add(_row_schema(validator))
    answer = definitions.add(_answer_schema(graph))
    example = example_request(assembly.spec, assembly, MAX_EXAMPLE_BYTES)
    if example is not None and len(dumps(example)) > MAX_EXAMPLE_BYTES:
        example = None
    return {
        "row": row,
        "answer": answer,
        "definitions": definitions.by_name,
        "inputs": [
            _tensor(name, port.type, is_required=port.is_required, rows=assembly.has_rows)
            for name, port in graph.fields.items()
        ],
        "outputs": [
            _tensor(name, value, is_required=True, rows=assembly.has_rows)
            for name, value in graph.answer.items()
        ],
        "example": example,
        "tensors": None
        if example is None
        else _example_tensors(example, graph.fields, rows=assembly.has_rows),
        "raw_field": raw_field_of(graph.fields) or "",
        "headers": {
            header.name: header.is_required
            for header in graph.headers.values()
            if header.name != REQUEST_ID.name
        },
        "header_examples": {
            header.name: header.example
            for header in graph.headers.values()
            if header.example and header.name != REQUEST_ID.name
        },
        "streams": graph.streams,
        "media_type": graph.media_type,
    }


def describe_call(assembly: Assembly) -> CallForm | None:
    """Return what a call of a function sends; None where it has an issue."""
    graph, validator = assembly.graph, assembly.validator
    if graph is None or validator is None or assembly.issues:
        return None
    headers = {
        header.name: header.example
        for header in graph.headers.values()
        if header.is_required and header.name != REQUEST_ID.name
    }
    spec = assembly.spec
    return CallForm(
        _row_schema(validator),
        headers,
        spec.sequences is not None,
        output=_output_of(spec.name, graph.media_type),
    )


def _output_of(name: str, media_type: str) -> str:
    """The file that an answer which is a file is written into; empty where a terminal shows it."""
    if not media_type or media_type.startswith("text/"):
        return ""
    return f"{name}-answer{mimetypes.guess_extension(media_type) or ''}"


def _tensor(name: str, value: ValueType, *, is_required: bool, rows: bool) -> TensorDescription:
    spec = value.tensor(name, rows=rows)
    return {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": list(spec.shape),
        "any_rank": value.container == "array" and value.shape is None,
        "required": is_required,
    }


def _example_tensors(
    example: Mapping[str, Any], fields: Mapping[str, Port], *, rows: bool
) -> list[dict[str, Any]] | None:
    """The example as the inputs of a v2 request; None where JSON tensors do not carry it."""
    inputs = []
    for name, value in example.items():
        kind = fields[name].type
        if value is None:
            continue
        if kind.is_bytes:
            return None
        if kind.container == "object":
            value = dumps(value).decode()
        try:
            shape = np.shape(value)
        except ValueError:  # lists of unlike length
            return None
        datatype = kind.tensor(name).datatype
        data = np.asarray(value, object).reshape(-1).tolist()
        shape = (1, *shape) if rows else shape
        inputs.append({"name": name, "datatype": datatype, "shape": list(shape), "data": data})
    return inputs


# Schemas.


def _row_schema(validator: RowValidator) -> JsonSchema:
    """The schema of a request; only that it is an object where an annotation's own has a fault: the
    validator does without it.
    """
    try:
        return _as_json(validator.json_schema())
    except Exception:  # whatever a user's annotations make pydantic raise
        return {"type": "object"}


def _as_json(schema: JsonSchema) -> JsonSchema:
    """As JSON has it: an author may give examples and bounds of any type.

    Raises:
        FunctionError: JSON does not carry it.
    """
    plain: JsonSchema = loads(dumps(schema))
    return plain


def _answer_schema(graph: Graph) -> JsonSchema:
    """The schema of what answers one row."""
    values = {name: _value_schema(value) for name, value in graph.answer.items()}
    if graph.answers_as_value:
        (schema,) = values.values()
        return schema
    definitions: JsonSchema = {}
    for schema in values.values():
        definitions |= schema.pop("$defs", {})
    return {
        "type": "object",
        "properties": values,
        "required": [name for name, value in graph.answer.items() if not value.may_lack],
        "$defs": definitions,
    }


def _value_schema(value: ValueType) -> JsonSchema:
    if value.is_any:
        schema: JsonSchema = (
            {"type": "object"} if value.annotation == ANY_MAPPING.annotation else {}
        )
    elif value.container == "array":
        schema = array_schema(value, is_answer=True)
    elif value.media_type:
        is_one = not is_media_range(value.media_type)
        schema = BYTES_SCHEMA | ({"contentMediaType": value.media_type} if is_one else {})
    else:
        schema = dict(_annotation_schema(value.annotation))
    if value.may_be_none and schema and not _admits_null(schema):
        definitions = schema.pop("$defs", {})
        schema = {"anyOf": [schema, {"type": "null"}], "$defs": definitions}
    return schema


def _admits_null(schema: JsonSchema) -> bool:
    return any(option.get("type") == "null" for option in schema.get("anyOf", ()))


def _annotation_schema(annotation: Any) -> JsonSchema:
    """What pydantic says of an annotation; nothing where it knows none, as of a class of the
    author's, which answers may have. Not to be changed.
    """
    try:
        return _cached_schema(annotation)
    except TypeError:  # it cannot be hashed
        return _make_schema(annotation)


@functools.lru_cache(maxsize=1024)
def _cached_schema(annotation: Any) -> JsonSchema:
    """Functions often have types in common, and pydantic takes a millisecond for each."""
    return _make_schema(annotation)


def _make_schema(annotation: Any) -> JsonSchema:
    try:
        model = create_model(
            "answer",
            __config__=ConfigDict(arbitrary_types_allowed=True),
            value=(translate(annotation).annotation, ...),
        )
        whole = _as_json(
            model.model_json_schema(schema_generator=SchemaWriter, mode="serialization")
        )
    except Exception:  # whatever a user's annotations make pydantic raise
        return {}
    schema: JsonSchema = whole["properties"]["value"]
    return {**schema, "$defs": whole.get("$defs", {})}


# Definitions.


class _Definitions:
    """The definitions of several schemas under names of their own.

    Mutable state: ``by_name``, which grows; ``_sources``, what each was before its references were
    rewritten.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, JsonSchema] = {}
        self._sources: dict[str, JsonSchema] = {}

    def add(self, schema: JsonSchema) -> JsonSchema:
        """Take a schema's ``$defs`` over, and return the rest with references to these."""
        found = schema.get("$defs", {})
        names = {name: self._name_for(name, source) for name, source in found.items()}

        def rename(reference: str) -> str:
            name = reference.removeprefix(DEFINITIONS)
            return DEFINITIONS + names.get(name, name)

        for name, source in found.items():
            self.by_name[names[name]] = rewrite_references(source, rename)
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        rewritten: JsonSchema = rewrite_references(rest, rename)
        return rewritten

    def _name_for(self, name: str, source: JsonSchema) -> str:
        candidates = itertools.chain((name,), (f"{name}{count}" for count in itertools.count(2)))
        free = next(one for one in candidates if self._sources.get(one, source) == source)
        self._sources[free] = source
        return free
