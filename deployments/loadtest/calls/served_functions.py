"""The functions of a server, as its OpenAPI document has them: how each is called, and what it
answers. The server's own word, so that a load test needs neither its file nor its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.loadtest.calls.load_call import AnswerForm
from runtime.declaration.constrained_types import is_name

Json = Mapping[str, Any]

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_EVENTS: Final = "text/event-stream"
_REFERENCE: Final = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class ServedFunction:
    """How a function is called.

    Attributes:
        path: of its calls.
        row: JSON Schema of a call.
        required: the fields that each call has.
        takes_rows: a call may also be an array of rows.
        example: a row; None: the server shows none.
        raw_types: content types whose body is its one required field.
        tensors: the example as inputs of the Open Inference Protocol; None: it is not shown.
        headers: that a call must have, each with what may be sent; empty: nothing is known.
        is_streamed: its answers come in items.
        has_sequences: each call belongs to a sequence.
        form: of its answers.
    """

    name: str
    path: str
    row: Json
    required: tuple[str, ...]
    takes_rows: bool
    example: Json | None
    raw_types: tuple[str, ...]
    tensors: Sequence[Json] | None
    headers: Mapping[str, str]
    is_streamed: bool
    has_sequences: bool
    form: AnswerForm


def read_functions(document: Json) -> dict[str, ServedFunction]:
    """The functions of an OpenAPI document of a Wakeful, by name, in its order.

    Raises:
        KeyError, TypeError, ValueError: it is not one of a Wakeful.
    """
    paths, found = document["paths"], dict[str, ServedFunction]()
    for path, item in paths.items():
        # each function, and nothing else, says at its path whether it is ready
        if "post" not in item or f"{path.rstrip('/')}/ready" not in paths:
            continue
        function = _read_function(path, item["post"], document)
        found[function.name] = function
    return found


def _read_function(path: str, call: Json, document: Json) -> ServedFunction:
    components, base = document["components"], path.rstrip("/")
    bodies = call["requestBody"]["content"]
    row = _resolve(_first_option(bodies[_JSON]["schema"]), components)
    answers = call["responses"]["200"]["content"]
    is_streamed = _EVENTS in answers
    infer = document["paths"].get(f"{base}/infer", {}).get("post")
    tensors: Json = {}
    inputs = None
    if infer is not None:
        tensors = _schema(infer["responses"]["200"]["content"][_JSON]["schema"], components)
        example = infer["requestBody"]["content"][_JSON].get("example")
        inputs = None if example is None else example["inputs"]
    answer = answers[_JSON]["schema"]
    files = [media for media in answers if media not in (_JSON, _LINES, _EVENTS)]
    parameters = [_resolve(one, components, "#/components/parameters/") for one in _list(call)]
    name = call["tags"][0]
    if not is_name(name):  # it is printed, and stands in files and reports
        raise ValueError(f"{name!r} names no function of a Wakeful")
    return ServedFunction(
        name=name,
        path=path,
        row={**row, "components": components},
        required=tuple(row.get("required", ())),
        takes_rows="oneOf" in bodies[_JSON]["schema"],
        example=bodies[_JSON].get("examples", {}).get("one", {}).get("value"),
        raw_types=tuple(media for media in bodies if media != _JSON),
        tensors=inputs,
        headers={
            one["name"]: one.get("example", "")
            for one in parameters
            if one.get("in") == "header" and one.get("required") and not _is_of_sequence(one)
        },
        is_streamed=is_streamed,
        has_sequences=any(map(_is_of_sequence, parameters)),
        form=AnswerForm(
            answer=_schema(answer, components),
            item=_schema(answer["items"] if is_streamed else answer, components),
            tensors=tensors,
            media_type=files[0] if files else "",
        ),
    )


def _is_of_sequence(parameter: Json) -> bool:
    return str(parameter["name"]).lower().startswith("x-sequence-")


def _list(call: Json) -> Sequence[Json]:
    found: Sequence[Json] = call.get("parameters", ())
    return found


def _first_option(schema: Json) -> Json:
    """Of a call that takes a row or an array of them, the row."""
    option: Json = schema["oneOf"][0] if "oneOf" in schema else schema
    return option


def _resolve(schema: Json, components: Json, prefix: str = _REFERENCE) -> Json:
    """What a reference refers to; anything else as it is."""
    reference = schema.get("$ref", "")
    if not reference.startswith(prefix):
        return schema
    kind = prefix.split("/")[2]
    resolved: Json = components[kind][reference.removeprefix(prefix)]
    return resolved


def _schema(schema: Json, components: Json) -> Json:
    """A schema that holds what it refers to."""
    return {**schema, "components": {"schemas": components["schemas"]}}
