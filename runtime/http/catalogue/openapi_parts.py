"""What the OpenAPI documents of all files have in common: the catalogue's own routes and those of
tasks (``runtime.http.catalogue.app`` and ``task_routes`` answer them), the error form, headers, and
the messages of the Open Inference Protocol that are the same for every function.

What is the same in every document is data, in ``openapi_parts.json``, as the document has it. It is
read with the first document that is written, and belongs to no caller: nothing of it is changed.

    server         operations of the catalogue, by path
    tasks          operations beside those of tasks, where there are any
    by_task        of one task: its operations, to which the field ``model`` is added here
    schemas, task_schemas, parameters, headers
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from runtime import errors
from runtime.errors import WakefulError
from runtime.http.function_routes import ALL_STATISTICS

JsonObject = dict[str, Any]

SERVER_TAG: Final = "server"
TASKS_TAG: Final = "tasks"

REPOSITORY: Final = "/v2/repository/models/{name}/{verb}"
VERBS: Final = ("load", "unload", "pin", "unpin")
"""What changes whether a function is loaded."""

CAPTURE: Final = "/v2/repository/models/{name}/capture"

_DOCUMENT: Final = "/openapi.json"
_JSON: Final = "application/json"


@functools.cache
def fixed_parts() -> JsonObject:
    """Return what is the same in every document."""
    parts: JsonObject = orjson.loads(Path(__file__).with_suffix(".json").read_bytes())
    return parts


def reference(name: str) -> JsonObject:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def response(description: str, schema: str | JsonObject) -> JsonObject:
    """A response of JSON; a schema by its name, or itself."""
    known = reference(schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {_JSON: {"schema": known}}}


def catalogue_paths(paths: Sequence[str]) -> JsonObject:
    """Return the operations by path and method, of those of the routes that are known here, and of
    those that functions answer together.
    """
    known = fixed_parts()["server"]
    wanted = [*paths, ALL_STATISTICS]
    if REPOSITORY in paths:
        wanted += [REPOSITORY.replace("{verb}", verb) for verb in VERBS]
    return {path: known[path] for path in (*wanted, _DOCUMENT) if path in known}


def task_paths(functions: Mapping[str, str]) -> tuple[JsonObject, JsonObject]:
    """Return the operations of tasks by path, and the schemas that they name.

    Args:
        functions: the task of each function that has one, by name.
    """
    if not functions:
        return {}, {}
    parts = fixed_parts()
    paths: JsonObject = dict(parts["tasks"])
    for task, operations in parts["by_task"].items():
        if names := [function for function, of in functions.items() if of == task]:
            paths |= {path: {"post": _choose(names, of["post"])} for path, of in operations.items()}
    return paths, parts["task_schemas"]


def _choose(functions: Sequence[str], operation: JsonObject) -> JsonObject:
    """An operation of a task, with the functions that its field ``model`` may name."""
    model: JsonObject = {"type": "string", "enum": list(functions), "description": "The function."}
    body = operation["requestBody"]
    fields = body["content"][_JSON]["schema"]
    required = ["model", *fields["required"]]
    if len(functions) == 1:  # it is meant
        model |= {"type": ["string", "null"], "enum": [*functions, "", None]}
        required = fields["required"]
    fields = {**fields, "properties": {"model": model, **fields["properties"]}}
    schema = {**fields, "required": required}
    return {**operation, "requestBody": {**body, "content": {_JSON: {"schema": schema}}}}


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
