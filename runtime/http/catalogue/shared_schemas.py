"""What the routes of an OpenAPI document have in common: the error form, with the codes of each
status; headers; and the messages of the Open Inference Protocol that are the same for every
function.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from runtime import errors
from runtime.errors import WakefulError

JsonObject = dict[str, Any]

_TEXT: Final[JsonObject] = {"type": "string"}
_NUMBERS: Final[JsonObject] = {"type": "array", "items": {"type": "integer"}}
_ERROR_FIELDS: Final[JsonObject] = {
    "error": {"type": "string", "description": "What is wrong, where, and how to fix it."},
    "code": {"type": "string", "description": "The kind of error; stable, for programs."},
    "where": {
        "type": "string",
        "description": "A path into the request; empty where there is none.",
    },
    "request_id": {"type": "string", "description": "Stands beside the error in the log."},
}


def reference(name: str) -> JsonObject:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def response(description: str, schema: str | JsonObject) -> JsonObject:
    """A response of JSON; a schema by its name, or itself."""
    known = reference(schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {"application/json": {"schema": known}}}


def _object(
    properties: JsonObject, *, optional: tuple[str, ...] = (), about: str = ""
) -> JsonObject:
    schema: JsonObject = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }
    return {**schema, "description": about} if about else schema


def _list(schema: str | JsonObject) -> JsonObject:
    return {"type": "array", "items": reference(schema) if isinstance(schema, str) else schema}


SCHEMAS: Final[JsonObject] = {
    "Error": _object(_ERROR_FIELDS),
    "RowError": _object(
        {**_ERROR_FIELDS, "status": {"type": "integer", "description": "As of a call of its own."}},
        about="The error of one row among several, or of a stream that has begun.",
    ),
    "Tensor": _object(
        {
            "name": _TEXT,
            "datatype": _TEXT,
            "shape": _NUMBERS,
            "data": {"type": "array", "items": {}},
        },
        about="A tensor; `data` is flat or nested, the last axis fastest.",
    ),
    "Parameters": {
        "type": ["object", "null"],
        "description": "Texts, numbers and booleans, as v2 and its extensions name them.",
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    },
    "TensorMetadata": _object({"name": _TEXT, "datatype": _TEXT, "shape": _NUMBERS}),
    "Metadata": _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list("TensorMetadata"),
            "outputs": _list("TensorMetadata"),
            "parameters": reference("Parameters"),
        },
        optional=("parameters",),
    ),
    "Readiness": _object(
        {"name": _TEXT, "ready": {"type": "boolean"}, "reason": _TEXT}, optional=("reason",)
    ),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "Live": _object({"live": {"type": "boolean"}}),
    "ServerReadiness": _object({"ready": {"type": "boolean"}, "failed": _list(_TEXT)}),
    "FunctionEntry": _object(
        {
            "name": _TEXT,
            "state": _TEXT,
            "url": _TEXT,
            "reason": _TEXT,
            "description": _TEXT,
            "part_of": _TEXT,
            "kept": {"type": "boolean", "description": "It is kept awake for now."},
            "memory_bytes": {"type": "integer", "description": "0: it holds none."},
            "last_wake": {
                "type": ["object", "null"],
                "description": "Its last cold start, in seconds by phase.",
            },
        },
        optional=("description", "part_of"),
    ),
    "Index": _object({"functions": _list("FunctionEntry")}),
    "RepositoryIndex": _list(
        _object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT})
    ),
}
"""By name."""

PARAMETERS: Final[JsonObject] = {
    "RequestId": {
        "name": "x-request-id",
        "in": "header",
        "description": "An id of the caller's, which is in the answer and in the logs.",
        "schema": _TEXT,
    },
    "Timeout": {
        "name": "x-request-timeout-seconds",
        "in": "header",
        "description": "How long the caller waits; it can only lower the function's own limit.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    "SequenceId": {
        "name": "x-sequence-id",
        "in": "header",
        "required": True,
        "description": "The sequence that the call belongs to.",
        "schema": _TEXT,
    },
    "SequenceStart": {
        "name": "x-sequence-start",
        "in": "header",
        "description": "1 with the first call of a sequence.",
        "schema": {"type": "integer", "enum": [0, 1]},
    },
    "SequenceEnd": {
        "name": "x-sequence-end",
        "in": "header",
        "description": "1 with the last call of a sequence.",
        "schema": {"type": "integer", "enum": [0, 1]},
    },
}
"""Headers of requests, by name."""

HEADERS: Final[JsonObject] = {
    "RequestId": {"description": "The id of the request, in logs as well.", "schema": _TEXT},
    "RetryAfter": {
        "description": "Seconds after which trying again makes sense.",
        "schema": {"type": "integer"},
    },
    "ServerTiming": {
        "description": "Milliseconds of the queue, the work, a wait for a wake, and a cold start.",
        "schema": _TEXT,
    },
}
"""Headers of responses, by name."""


def kinds_by_status() -> dict[int, list[type[WakefulError]]]:
    """Return the errors that a caller can get; a wrong declaration and a missing model end a start,
    not a call.
    """
    kinds: dict[int, list[type[WakefulError]]] = {}
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, WakefulError) and kind not in (
            errors.DeclarationError,
            errors.StoreError,
        ):
            kinds.setdefault(kind.status, []).append(kind)
    return kinds


def error_responses() -> JsonObject:
    """Return the responses ``Error400``, ``Error404`` …, each with its codes, and ``Error4XX`` for
    a status that a stage chose.
    """
    responses = {}
    for status, kinds in sorted(kinds_by_status().items()):
        codes = {kind.code: _meaning(kind) for kind in kinds}
        listed = "\n".join(f"- `{code}`: {meaning}" for code, meaning in sorted(codes.items()))
        headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
        if status in (429, 503):
            headers["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
        responses[f"Error{status}"] = {**response(listed, "Error"), "headers": headers}
    responses["Error4XX"] = response(
        "A stage has refused the row with a status of its own.", "Error"
    )
    return responses


def _meaning(kind: type[WakefulError]) -> str:
    """The first sentence of its docstring; the root itself is what a client sees of anything
    unforeseen.
    """
    if kind is WakefulError:
        return "Something unforeseen failed here; the log has it under the request id."
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
