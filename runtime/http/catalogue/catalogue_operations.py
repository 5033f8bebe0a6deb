"""The catalogue's own routes as OpenAPI operations; ``runtime.http.catalogue.app`` answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runtime.http.catalogue.shared_schemas import JsonObject, response
from runtime.http.function_routes import ALL_STATISTICS

SERVER_TAG: Final = "server"


def catalogue_paths(paths: Sequence[str]) -> JsonObject:
    """Return the operations by path and method, of those of the routes that are known here, and of
    those that functions answer together.
    """
    known = _operations()
    found: JsonObject = {path: known[path] for path in (*paths, ALL_STATISTICS) if path in known}
    if REPOSITORY in paths:
        found |= _repository()
    return {**found, "/openapi.json": _get("openapi", "This document", {"type": "object"})}


REPOSITORY: Final = "/v2/repository/models/{name}/{verb}"
CAPTURE: Final = "/v2/repository/models/{name}/capture"

_TEXT: Final = {"type": "string"}
_NAME: Final = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
_INDEX_REQUEST: Final = {
    "type": "object",
    "properties": {
        "ready": {"type": "boolean", "default": False, "description": "Only those that are."}
    },
}
_CAPTURE_ORDER: Final = {
    "type": "object",
    "properties": {
        "rate": {"type": "number", "minimum": 0, "maximum": 1},
        "for_s": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds."},
    },
    "required": ["rate", "for_s"],
    "additionalProperties": False,
}
_UNKNOWN: Final = {"404": {"$ref": "#/components/responses/Error404"}}


def _operations() -> dict[str, Any]:
    metrics = {"description": "The metrics.", "content": {"text/plain": {"schema": _TEXT}}}
    return {
        "/": _get("list_functions", "Every declared function and its state", "Index"),
        "/v2": _get("server_metadata", "The server", "ServerMetadata"),
        "/v2/health/live": _get("server_live", "Whether the server answers", "Live"),
        "/v2/health/ready": {
            "get": _operation(
                "server_ready",
                "Whether every function can be called",
                {
                    "200": response("No function has failed.", "ServerReadiness"),
                    "503": response("Functions have failed, or the server ends.", {}),
                },
            )
        },
        ALL_STATISTICS: _get(
            "all_statistics",
            "What was counted of every function, in Triton's statistics extension",
            {"type": "object"},
        ),
        "/v2/repository/index": {
            **_get("list_repository", "Every function, as v2's index", "RepositoryIndex"),
            "post": {
                **_operation(
                    "repository_index",
                    "Every function, in the form of v2's repository extension",
                    {
                        "200": response("The functions.", "RepositoryIndex"),
                        "400": {"$ref": "#/components/responses/Error400"},
                    },
                ),
                "requestBody": {"content": {"application/json": {"schema": _INDEX_REQUEST}}},
            },
        },
        CAPTURE: _capture(),
        "/metrics": {
            "get": _operation("metrics", "Metrics in Prometheus' text form", {"200": metrics})
        },
        "/functions/{name}": {
            "get": {
                **_operation(
                    "explain_function",
                    "One function, and why it is where it is",
                    {"200": response("The function.", "FunctionEntry"), **_UNKNOWN},
                ),
                "parameters": [_NAME],
            }
        },
    }


def _repository() -> JsonObject:
    """What changes whether a function is loaded."""
    summaries = {
        "load": "Load a function",
        "unload": "Unload a function once it has answered",
        "pin": "Keep a function loaded",
        "unpin": "Let a function sleep again",
    }
    return {
        REPOSITORY.replace("{verb}", verb): {
            "post": {
                **_operation(
                    f"{verb}_function",
                    summary,
                    {"200": response("It is done.", {"type": "object"}), **_UNKNOWN},
                ),
                "parameters": [_NAME],
            }
        }
        for verb, summary in summaries.items()
    }


def _capture() -> JsonObject:
    """What of a function's calls is recorded: `wakeful capture`."""
    told = {"200": response("What is recorded now.", {"type": "object"}), **_UNKNOWN}
    refused = {"400": {"$ref": "#/components/responses/Error400"}}
    order = {"content": {"application/json": {"schema": _CAPTURE_ORDER}}}
    return {
        "get": {
            **_operation("read_capture", "What of a function's calls is recorded", told),
            "parameters": [_NAME],
        },
        "post": {
            **_operation("begin_capture", "Record calls of a function", {**told, **refused}),
            "parameters": [_NAME],
            "requestBody": order,
        },
        "delete": {
            **_operation("end_capture", "Record calls as it is declared", told),
            "parameters": [_NAME],
        },
    }


def _get(name: str, summary: str, schema: str | JsonObject) -> JsonObject:
    return {"get": _operation(name, summary, {"200": response(f"{summary}.", schema)})}


def _operation(name: str, summary: str, responses: JsonObject) -> JsonObject:
    return {"operationId": name, "summary": summary, "tags": [SERVER_TAG], "responses": responses}
