"""The routes of tasks as OpenAPI operations: those of the tasks that functions declare
(``runtime.http.catalogue.task_routes`` answers them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from runtime.http.catalogue.shared_schemas import JsonObject, reference, response
from runtime.http.catalogue.task_routes import embeddings
from runtime.http.catalogue.task_routes.forms import MAX_INPUTS
from runtime.types.json_schemas import JSON_INTEGERS

TASKS_TAG: Final = "tasks"

_TEXT: Final[JsonObject] = {"type": "string"}
_INTEGER: Final[JsonObject] = {"type": "integer"}
_NUMBER: Final[JsonObject] = {"type": ["number", "null"], "description": "null: it is NaN."}
_COUNT: Final[JsonObject] = {
    "type": ["integer", "null"],
    "minimum": 1,
    "maximum": JSON_INTEGERS[1],
}


def _texts(of: JsonObject) -> JsonObject:
    return {"type": "array", "items": of, "minItems": 1, "maxItems": MAX_INPUTS}


_INPUT: Final[JsonObject] = {"anyOf": [_TEXT, _texts(_TEXT)]}


def task_paths(functions: Mapping[str, str]) -> tuple[JsonObject, JsonObject]:
    """Return the operations by path, and the schemas that they name.

    Args:
        functions: the task of each function that has one, by name.
    """
    if not functions:
        return {}, {}
    paths: JsonObject = {
        "/v1/models": {
            "get": {
                "operationId": "list_models",
                "summary": "The functions that have a task, in OpenAI's form",
                "tags": [TASKS_TAG],
                "responses": {"200": response("The functions.", "Models"), **_errors()},
            }
        },
        "/v1/models/{model}": {
            "get": {
                "operationId": "retrieve_model",
                "summary": "One of them",
                "tags": [TASKS_TAG],
                "parameters": [{"name": "model", "in": "path", "required": True, "schema": _TEXT}],
                "responses": {"200": response("The function.", "Model"), **_errors()},
            }
        },
    }
    for task, (path, name, summary, body) in _routes().items():
        names = [function for function, of in functions.items() if of == task]
        if names:
            paths[path] = {"post": _operation(name, summary, body, names)}
    return paths, _schemas()


def _routes() -> dict[str, tuple[str, str, str, JsonObject]]:
    """By task: the path, the operation, what it does, and the properties of a request beside
    ``model``; the first ones are required.
    """
    embedding = {
        "input": _INPUT,
        "encoding_format": {
            "type": ["string", "null"],
            "enum": [*embeddings.FORMATS, None],
            "default": "float",
        },
        "dimensions": _COUNT,
        "user": {"type": ["string", "null"], "description": "Taken, and not used."},
    }
    document = {**_object({"text": _TEXT}), "additionalProperties": False}
    rerank = {
        "query": _TEXT,
        "documents": _texts({"anyOf": [_TEXT, document]}),
        "top_n": _COUNT,
        "return_documents": {"type": ["boolean", "null"], "default": False},
    }
    return {
        "embedding": (
            "/v1/embeddings",
            "create_embeddings",
            "Embeddings of texts, in OpenAI's form",
            embedding,
        ),
        "rerank": (
            "/v1/rerank",
            "rerank_documents",
            "Documents by how well they answer a query, in the form of Jina and Cohere",
            rerank,
        ),
        "text-classification": (
            "/v1/moderations",
            "create_moderation",
            "The scores of texts as categories, in OpenAI's form",
            {"input": _INPUT},
        ),
    }


_REQUIRED: Final = ("input", "query", "documents")

_ANSWERS: Final = {
    "create_embeddings": "Embeddings",
    "rerank_documents": "Ranking",
    "create_moderation": "Moderations",
}


def _operation(name: str, summary: str, body: JsonObject, functions: Sequence[str]) -> JsonObject:
    model: JsonObject = {"type": "string", "enum": list(functions), "description": "The function."}
    if len(functions) == 1:
        model |= {"type": ["string", "null"], "enum": [*functions, "", None]}
    required = [key for key in body if key in _REQUIRED]
    schema = {
        "type": "object",
        "properties": {"model": model, **body},
        # where there is one function, it is meant
        "required": required if len(functions) == 1 else ["model", *required],
        "additionalProperties": False,
    }
    return {
        "operationId": name,
        "summary": summary,
        "tags": [TASKS_TAG],
        "parameters": [
            {"$ref": f"#/components/parameters/{header}"} for header in ("RequestId", "Timeout")
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": response("The answer.", _ANSWERS[name]), **_errors()},
    }


def _errors() -> JsonObject:
    about = "As of the function's own route, in OpenAI's form."
    return {status: response(about, "TaskError") for status in ("4XX", "5XX")}


def _object(properties: JsonObject, optional: Sequence[str] = ()) -> JsonObject:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list_of(properties: JsonObject, optional: Sequence[str] = ()) -> JsonObject:
    return {"type": "array", "items": _object(properties, optional)}


def _schemas() -> dict[str, Any]:
    vector = {"anyOf": [{"type": "array", "items": _NUMBER}, {**_TEXT, "format": "byte"}]}
    by_label = {"type": "object", "additionalProperties": _NUMBER}
    flags = {"type": "object", "additionalProperties": {"type": "boolean"}}
    return {
        "TaskError": _object(
            {
                "error": _object(
                    {
                        "message": _TEXT,
                        "type": _TEXT,
                        "code": _TEXT,
                        "param": {"type": ["string", "null"]},
                    }
                )
            }
        ),
        "Models": _object(
            {"object": _TEXT, "data": {"type": "array", "items": reference("Model")}}
        ),
        "Model": _object(
            {"id": _TEXT, "object": _TEXT, "created": _INTEGER, "owned_by": _TEXT, "task": _TEXT}
        ),
        "Usage": _object({"prompt_tokens": _INTEGER, "total_tokens": _INTEGER}, ["prompt_tokens"]),
        "Embeddings": _object(
            {
                "object": _TEXT,
                "data": _list_of({"object": _TEXT, "index": _INTEGER, "embedding": vector}),
                "model": _TEXT,
                "usage": reference("Usage"),
            }
        ),
        "Ranking": _object(
            {
                "id": _TEXT,
                "model": _TEXT,
                "results": _list_of(
                    {
                        "index": _INTEGER,
                        "relevance_score": _NUMBER,
                        "document": _object({"text": _TEXT}),
                    },
                    ["document"],
                ),
                "usage": reference("Usage"),
            }
        ),
        "Moderations": _object(
            {
                "id": _TEXT,
                "model": _TEXT,
                "results": _list_of(
                    {
                        "flagged": {"type": "boolean"},
                        "categories": flags,
                        "category_scores": by_label,
                    }
                ),
            }
        ),
    }
