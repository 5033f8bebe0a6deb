"""The routes of one function as OpenAPI operations (``runtime.http.function_handler`` answers
them).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from runtime.declaration.function_spec import CalleeSpec, FunctionSpec
from runtime.graph.requests.curl_lines import VALUE
from runtime.http.catalogue.openapi_parts import JsonObject, reference, response
from runtime.types.json_schemas import (
    DEFINITIONS,
    InterfaceDescription,
    TensorDescription,
    datatype_schema,
    rewrite_references,
)

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_OCTETS: Final = "application/octet-stream"
_OBJECT: Final[JsonObject] = {"type": "object"}
_BINARY: Final[JsonObject] = {"schema": {"type": "string", "format": "binary"}}

_CALL_ERRORS: Final = (400, 408, 413, 415, 429, 500, 502, 503, 504)
"""Statuses that any call can have."""

_NOT_PARAMETERS: Final = frozenset({"accept", "content-type", "authorization"})
"""Headers that OpenAPI says in another place, and ignores among the parameters."""

_SUMMARY_CHARS: Final = 120

_NOT_PRINTED: Final = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"
)
PRINTABLE: Final = f"^[^{_NOT_PRINTED}]*$"
"""What a request's id is made of, but for characters that no language has given a meaning: a
pattern that all readers of JSON Schema know has no word for these.
"""


class Names:
    """Names of schemas, and of operations, none of them twice. Two that differ in case or
    punctuation alone count as one, since generated classes would be.

    Mutable state: ``_taken``.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wanted: str) -> str:
        """Return the name, or one like it that is free."""
        name = re.sub(r"[^A-Za-z0-9._-]", "_", wanted)
        count = 1
        while (key := self._key(name, count)) in self._taken:
            count += 1
        self._taken.add(key)
        return name if count == 1 else f"{name}{count}"

    @staticmethod
    def _key(name: str, count: int) -> str:
        return re.sub(r"[^a-z0-9]", "", f"{name}{count if count > 1 else ''}".lower())


def function_paths(
    spec: FunctionSpec,
    interface: InterfaceDescription | None,
    names: Names,
    operations: Names,
    seen: Collection[str] | None = None,
) -> tuple[JsonObject, JsonObject]:
    """Return the paths of a function, and the schemas that they name.

    Args:
        interface: None: nothing is known of what it takes and answers.
        names: of the schemas of the whole document.
        operations: of its operations.
        seen: names of functions that may be told; None: any.
    """
    writer = _FunctionWriter(spec, interface or _unknown_interface(), names, operations, seen)
    return writer.paths(), writer.schemas


def _unknown_interface() -> InterfaceDescription:
    return {
        "row": {"type": "object"},
        "answer": {},
        "definitions": {},
        "inputs": [],
        "outputs": [],
        "example": None,
        "tensors": None,
        "raw_field": "",
        "headers": {},
        "header_examples": {},
        "streams": False,
    }


class _FunctionWriter:
    """Writes the operations of one function.

    Attributes:
        schemas: the function's own, by name in the document.
    """

    def __init__(
        self,
        spec: FunctionSpec,
        interface: InterfaceDescription,
        names: Names,
        operations: Names,
        seen: Collection[str] | None,
    ) -> None:
        self._seen = seen
        self._spec = spec
        self._interface = interface
        self._tag = spec.name
        self._operations = operations
        definitions = interface["definitions"]
        own = {name: names.take(f"{spec.name}.{name}") for name in ("Request", "Answer")}
        inner = {name: names.take(f"{spec.name}.{name}") for name in definitions}
        self._request, self._answer = own["Request"], own["Answer"]

        def rename(target: str) -> str:
            return f"#/components/schemas/{inner[target.removeprefix(DEFINITIONS)]}"

        self.schemas: JsonObject = {
            self._request: rewrite_references(interface["row"], rename),
            self._answer: rewrite_references(interface["answer"], rename),
            **{
                inner[name]: rewrite_references(schema, rename)
                for name, schema in definitions.items()
            },
        }
        # openapi-python-client makes code that fails of an array next to another media type
        self._shows_arrays = not (interface["streams"] or spec.sequences or spec.accepts)

    def paths(self) -> JsonObject:
        """Return the operations by path and method."""
        prefix = self._spec.route_prefix
        base = "" if prefix == "/" else prefix
        paths: JsonObject = {
            prefix: {"post": self._call(), "get": self._metadata()},
            f"{base}/ready": {"get": self._readiness()},
            f"{base}/config": {"get": self._configuration()},
            f"{base}/stats": {"get": self._statistics()},
        }
        if not self._interface["streams"]:
            paths[f"{base}/infer"] = {"post": self._infer()}
            return paths
        paths[f"{base}/generate_stream"] = {"post": self._generate(is_stream=True)}
        paths[f"{base}/generate"] = {"post": self._generate(is_stream=False)}
        return paths

    def _operation(
        self, suffix: str, summary: str, responses: JsonObject, **more: Any
    ) -> JsonObject:
        return {
            "operationId": self._operations.take(f"{self._spec.name}{suffix}"),
            "tags": [self._tag],
            "summary": summary,
            "responses": responses,
            **more,
        }

    # Calls.

    def _call(self) -> JsonObject:
        whole = self._spec.description
        summary = whole.partition("\n")[0]
        is_short = 0 < len(summary) <= _SUMMARY_CHARS
        notes = [] if is_short and summary == whole else [whole]
        if self._spec.accepts:
            notes.append(
                f"A body of {', '.join(self._spec.accepts)} is the field"
                f" `{self._interface['raw_field']}` as it is. An array of JSON objects is answered"
                " by an array."
            )
        calls = self._spec.called_functions
        called = {
            name: callee
            for name, callee in calls.items()
            if self._seen is None or name in self._seen
        }
        if called:
            notes.append(f"It calls {_list_calls(called)}.")
        if self._spec.example is not None and self._interface["example"] is None:
            notes.append("Its example is too large to be shown here.")
        about = "\n\n".join(filter(None, notes))
        return self._operation(
            "",
            summary if is_short else f"Call {self._spec.name}",
            {"200": self._answers(), **self._errors()},
            **({"description": about} if about else {}),
            parameters=self._parameters(),
            requestBody={"required": True, "content": self._bodies()},
        )

    def _bodies(self) -> JsonObject:
        """What a call may send, by media type."""
        row, examples = reference(self._request), self._examples()
        content: JsonObject = {_JSON: {"schema": row, **examples}}
        if self._shows_arrays:
            rows = {"type": "array", "items": row, "maxItems": self._spec.limits.max_rows}
            content = {_JSON: {"schema": {"oneOf": [row, rows]}, **examples}}
        for media in self._spec.accepts:
            content[_OCTETS if media == "*/*" else media] = _BINARY
        return content

    def _examples(self) -> JsonObject:
        example = self._interface["example"]
        if example is None:
            return {}
        examples: JsonObject = {"one": {"summary": "One row", "value": example}}
        if self._shows_arrays:
            examples["rows"] = {"summary": "An array of rows", "value": [example, example]}
        return {"examples": examples}

    def _answers(self) -> JsonObject:
        answer = reference(self._answer)
        headers = {
            "x-request-id": {"$ref": "#/components/headers/RequestId"},
            "server-timing": {"$ref": "#/components/headers/ServerTiming"},
        }
        if self._interface["streams"]:
            return {**self._streams(answer), "headers": headers}
        schema: JsonObject = answer
        if self._shows_arrays:
            # generated clients take the first that fits, and an answer may be any mapping
            outcome: JsonObject = {"anyOf": [reference("RowError"), answer]}
            schema = {"anyOf": [answer, {"type": "array", "items": outcome}]}
        about = "The answer" + (
            ": of an object, or of each row of an array, in order." if self._shows_arrays else "."
        )
        answers = {**response(about, schema), "headers": headers}
        lines = f"Each line is a `{self._answer}` as JSON, or a `RowError`."
        answers["content"][_LINES] = {"schema": {"type": "string", "description": lines}}
        if media := self._interface.get("media_type"):
            answers["content"] = self._file_content(media, answers["content"])
            answers["description"] += " JSON has the file as base64 text."
            answers["headers"] = headers | {
                "content-disposition": {
                    "description": "The file's name, if the function gives it one.",
                    "schema": {"type": "string"},
                }
            }
        return answers

    @staticmethod
    def _file_content(media: str, content: JsonObject) -> JsonObject:
        """The forms of an answer that is a file: the page asks for the first."""
        name = media.partition(";")[0]
        return {_OCTETS if name == "*/*" else name: _BINARY} | {
            other: schema for other, schema in content.items() if other != name
        }

    def _streams(self, item: JsonObject) -> JsonObject:
        """A streamed answer, in each form that a caller may accept."""
        events = (
            f"Each `data` is a `{self._answer}` as JSON. An error comes as `event: error`, and the"
            " end as `event: done`."
        )
        lines = f"Each line is a `{self._answer}` as JSON; the last may be a `RowError`."
        return {
            "description": "The items, as they are made, or all of them as an array: by `Accept`.",
            "content": {
                "text/event-stream": {"schema": {"type": "string", "description": events}},
                _LINES: {"schema": {"type": "string", "description": lines}},
                _JSON: {"schema": {"type": "array", "items": item}},
            },
        }

    def _generate(self, *, is_stream: bool) -> JsonObject:
        """Triton's generate extension, in which a request may have other properties as well."""
        fields = {
            key: value
            for key, value in self.schemas[self._request].items()
            if key != "additionalProperties"
        }
        example = self._interface["example"]
        content = {"schema": fields, **({} if example is None else {"example": example})}
        if is_stream:
            text = {"type": "string", "description": f"Each `data` is a `{self._answer}` as JSON."}
            answers: JsonObject = {
                "description": "The items, as they are made.",
                "content": {"text/event-stream": {"schema": text}},
            }
        else:
            answers = response("The one item.", reference(self._answer))
        return self._operation(
            "_generate_stream" if is_stream else "_generate",
            "Triton's generate_stream" if is_stream else "Triton's generate",
            {"200": answers, **self._errors()},
            parameters=self._parameters(),
            requestBody={"required": True, "content": {_JSON: content}},
        )

    # The Open Inference Protocol.

    def _infer(self) -> JsonObject:
        interface = self._interface
        inputs = _tensors_schema(interface["inputs"])
        inputs["minItems"] = sum(tensor["required"] for tensor in interface["inputs"])
        names = [tensor["name"] for tensor in interface["outputs"]]
        output = {"name": _one_of(names), "parameters": reference("Parameters")}
        outputs: JsonObject = {"type": ["array", "null"], "items": _strict(output, ("name",))}
        if names:
            outputs["maxItems"] = len(names)
        message: JsonObject = {
            "id": {"type": ["string", "null"], "maxLength": 128, "pattern": PRINTABLE},
            "inputs": inputs,
            "outputs": outputs,
            "parameters": reference("Parameters"),
            "model_name": {"description": "Taken, and not used."},
            "model_version": {"description": "Taken, and not used."},
        }
        request = _strict(message, ("inputs",))
        answer: JsonObject = {
            "type": "object",
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": _tensors_schema(interface["outputs"], is_answer=True),
                "parameters": reference("Parameters"),
            },
            "required": ["model_name", "model_version", "outputs"],
        }
        content: JsonObject = {_JSON: {"schema": request}}
        if interface["tensors"] is not None:
            content[_JSON]["example"] = {"inputs": interface["tensors"]}
        return self._operation(
            "_infer",
            "Call it in the Open Inference Protocol v2",
            {"200": response("The outputs.", answer), **self._errors()},
            description=(
                "Tensors may follow the JSON as bytes, in the protocol's binary extension, which"
                " v2 clients speak."
            ),
            parameters=self._parameters(),
            requestBody={"required": True, "content": content},
        )

    def _metadata(self) -> JsonObject:
        return self._operation(
            "_metadata",
            "Its inputs and outputs, in the Open Inference Protocol v2",
            {"200": response("The metadata.", "Metadata"), **_errors_of((429, 503, 504))},
        )

    def _readiness(self) -> JsonObject:
        return self._operation(
            "_ready",
            "Whether it can be called",
            {
                "200": response("It is ready.", "Readiness"),
                "503": response("It is not, with the reason.", {}),
            },
        )

    def _configuration(self) -> JsonObject:
        return self._operation(
            "_config",
            "Its batches, tensors and instances, in Triton's model configuration extension",
            {"200": response("The configuration.", _OBJECT), **_errors_of((429, 503, 504))},
        )

    def _statistics(self) -> JsonObject:
        return self._operation(
            "_stats",
            "What was counted of it, in Triton's statistics extension; asking does not wake it",
            {"200": response("The statistics.", _OBJECT), **_errors_of((503,))},
        )

    # What all calls have.

    def _parameters(self) -> list[JsonObject]:
        parameters: list[JsonObject] = [
            {
                "name": name,
                "in": "header",
                "required": is_required,
                "description": "A header that the function reads.",
                "schema": {"type": "string"},
                **self._header_example(name, is_required=is_required),
            }
            for name, is_required in self._interface["headers"].items()
            if name not in _NOT_PARAMETERS
        ]
        shared = ["RequestId", "Timeout"]
        if self._spec.sequences is not None:
            shared = ["SequenceId", "SequenceStart", "SequenceEnd", *shared]
        return parameters + [{"$ref": f"#/components/parameters/{name}"} for name in shared]

    def _header_example(self, name: str, *, is_required: bool) -> JsonObject:
        """What a page sends in a header unless its reader writes something else."""
        example = self._interface["header_examples"].get(name, VALUE if is_required else "")
        return {"example": example} if example else {}

    def _errors(self) -> JsonObject:
        statuses = list(_CALL_ERRORS)
        if self._interface["streams"]:
            statuses.append(406)
        if self._spec.sequences is not None:
            statuses.append(409)
        chosen = {"4XX": {"$ref": "#/components/responses/Error4XX"}}
        return {**_errors_of(sorted(statuses)), **chosen}


def _list_calls(called: Mapping[str, CalleeSpec]) -> str:
    """Functions that one calls, in words."""
    return ", ".join(
        f"`{name}`{' when it is constructed' if callee.at_load else ''}"
        for name, callee in called.items()
    )


def _errors_of(statuses: tuple[int, ...] | list[int]) -> JsonObject:
    return {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in statuses}


def _strict(properties: JsonObject, required: tuple[str, ...]) -> JsonObject:
    """An object that has no other properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _tensors_schema(tensors: list[TensorDescription], *, is_answer: bool = False) -> JsonObject:
    """An array of these tensors."""
    known = [_tensor_schema(tensor, is_answer=is_answer) for tensor in tensors]
    if not known:
        return {"type": "array", "items": reference("Tensor")}
    return {
        "type": "array",
        "items": known[0] if len(known) == 1 else {"oneOf": known},
        "maxItems": len(known),
    }


def _tensor_schema(tensor: TensorDescription, *, is_answer: bool) -> JsonObject:
    """A tensor in JSON. Of an answer the data may be in binary behind it, and there may be more."""
    rank = len(tensor["shape"])
    shape: JsonObject = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "description": f"{tensor['shape']}, where -1 is any size",
    }
    if not tensor["any_rank"]:
        shape |= {"minItems": rank, "maxItems": rank}
    properties: JsonObject = {
        "name": {"const": tensor["name"]},
        "datatype": {"const": tensor["datatype"]},
        "shape": shape,
        "data": _data_schema(tensor["datatype"], is_answer=is_answer),
        "parameters": reference("Parameters"),
    }
    head = ("name", "datatype", "shape")
    if is_answer:
        return {"type": "object", "properties": properties, "required": list(head)}
    return _strict(properties, (*head, "data"))


def _data_schema(datatype: str, *, is_answer: bool) -> JsonObject:
    if datatype == "FP16" and not is_answer:
        return {"not": {}, "description": "FP16 has no form in JSON; send it in binary."}
    element = datatype_schema(datatype, is_answer=is_answer)
    return {
        "type": "array",
        "items": {"anyOf": [element, {"type": "array", "items": {}}]},
        "description": "Flat, or nested as the shape is.",
    }


def _one_of(options: list[str]) -> JsonObject:
    return {"type": "string", "enum": options} if options else {"type": "string"}
