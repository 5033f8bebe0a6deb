"""One function, as the console shows it beside its numbers: the graph with its edges, signature,
form and settings. Pure: what is declared in, plain data out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from pydantic_core import to_jsonable_python

from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.description.explained import ExplainedFunction, ExplainedStage
from runtime.graph.description.settings import ShownSetting, list_settings
from runtime.http.catalogue.console.shapes import (
    ConsoleGraph,
    Edge,
    Entry,
    FunctionDetails,
    FunctionSignature,
    ShownNode,
    Value,
)
from runtime.http.catalogue.console.sources import DeclaredDetails
from runtime.http.catalogue.key_view import HIDDEN
from runtime.types.json_schemas import (
    DEFINITIONS,
    InterfaceDescription,
    JsonSchema,
    TensorDescription,
)

REQUEST: Final = "request"
ANSWER: Final = "answer"

MOST_SCHEMA_PARTS: Final = 5000
"""Of a form whose references are resolved: a type that has others twice within, each of which has
again, grows with every level."""

_KINDS: Final = {"python": "python", "onnx": "model", "function": "function"}

_DETAIL: Final = ("what", "each", "when", "batch", "runs", "threads", "streams")


def describe_function(
    declared: DeclaredDetails,
    entry: Entry,
    *,
    seen: Collection[str] | None = None,
) -> FunctionDetails:
    """Return a function's details, without its history, decisions and errors.

    Args:
        seen: names of functions that may be told; None: any.
    """
    spec, interface = declared.spec, declared.interface
    explained = declared.explained
    if explained is not None and seen is not None:
        explained = without_others(explained, seen)
    details: dict[str, Any] = {
        "entry": entry,
        "graph": None if explained is None else draw_graph(explained, entry["device"]),
        "signature": None if interface is None else sign(interface, explained),
        "form": None if interface is None else resolved(interface["row"], interface),
        "answer": None if interface is None else resolved(interface["answer"], interface),
        "example": interface and interface["example"],
        "takes": ["application/json", *spec.accepts],
        "gives": "" if interface is None else interface.get("media_type", ""),
        "raw_field": "" if interface is None else interface["raw_field"],
        "headers": {} if interface is None else interface["headers"],
        "streams": interface is not None and interface["streams"],
        "is_of_sequences": spec.sequences is not None,
        "task": spec.task,
        "settings": settings_of(spec, explained),
    }
    return cast(FunctionDetails, details)


def settings_of(spec: FunctionSpec, explained: ExplainedFunction | None) -> list[ShownSetting]:
    """Return every setting as plain data. Of the file it comes from there is the name: where it
    lies on the server's machine is not told.
    """
    origins = {} if explained is None else explained.get("origins", {})
    return [
        {
            "key": one["key"],
            "value": to_jsonable_python(one["value"], fallback=str),
            "origin": one["origin"].rpartition("/")[2],
        }
        for one in list_settings(spec, origins)
    ]


# The graph.


def without_others(explained: ExplainedFunction, seen: Collection[str]) -> ExplainedFunction:
    """Return a graph in which no function has a name that is not among these, nor is it said what
    runs it.
    """
    return {**explained, "stages": [_stage_without(stage, seen) for stage in explained["stages"]]}


def _stage_without(stage: ExplainedStage, seen: Collection[str]) -> ExplainedStage:
    calls = [call for call in stage["calls"] if call["function"] in seen]
    if stage["kind"] == "function" and stage["what"] not in seen:
        return {**stage, "what": HIDDEN, "runs": "", "calls": calls}
    return {**stage, "calls": calls}


def draw_graph(explained: ExplainedFunction, device: Mapping[str, Any] | None) -> ConsoleGraph:
    """Return the nodes and edges of a graph. A value that stages give on conditions comes from each
    of them, and from whatever gave it before.

    Args:
        device: what its models run on; None: it is not loaded.
    """
    nodes: list[ShownNode] = [_outer(REQUEST, "input", explained["fields"])]
    givers: dict[str, list[str]] = {name: [REQUEST] for name in explained["fields"]}
    edges: dict[tuple[str, str], dict[str, None]] = {}

    def connect(names: Mapping[str, None], to: str) -> None:
        for name in names:
            for giver in givers.get(name, ()):
                edges.setdefault((giver, to), {})[name] = None

    for stage in explained["stages"]:
        node_id = f"stage:{stage['stage']}"
        nodes.append(_stage_node(node_id, stage, device))
        also = [stage["each"], stage["reads"]]
        connect(dict.fromkeys([*stage["takes"], *filter(None, also)]), node_id)
        for name in stage["gives"]:
            before = givers.get(name, []) if stage["when"] else []
            givers[name] = [*before, node_id]
    nodes.append(_outer(ANSWER, "output", explained["answer"]))
    connect(dict.fromkeys(explained["answer"]), ANSWER)
    drawn: list[Edge] = [
        {"from": giver, "to": to, "fields": list(names)} for (giver, to), names in edges.items()
    ]
    return {"nodes": nodes, "edges": drawn}


def _outer(node_id: str, kind: Any, values: Mapping[str, str]) -> ShownNode:
    return {"id": node_id, "kind": kind, "label": node_id, "detail": {"values": dict(values)}}


def _stage_node(node_id: str, stage: ExplainedStage, device: Mapping[str, Any] | None) -> ShownNode:
    kind: Any = _KINDS[stage["kind"]]
    detail: dict[str, Any] = {key: value for key in _DETAIL if (value := stage[key])}
    if stage["is_split"]:
        detail["split"] = True
    if stage["calls"]:
        detail["calls"] = [
            f"{call['function']}{', when it is constructed' if call['at_load'] else ''}"
            f"{': ' if call['runs'] else ''}{call['runs']}"
            for call in stage["calls"]
        ]
    if kind == "model" and device is not None and not stage["is_split"]:
        detail["providers"] = device
    return {"id": node_id, "kind": kind, "label": stage["stage"], "detail": detail}


# What it takes and answers.


def sign(interface: InterfaceDescription, explained: ExplainedFunction | None) -> FunctionSignature:
    """Return what a function takes and answers, as the Open Inference Protocol and Python have
    it.
    """
    takes = {} if explained is None else explained["fields"]
    gives = {} if explained is None else explained["answer"]
    about_row, about_answer = (interface[side].get("properties", {}) for side in ("row", "answer"))
    return {
        "inputs": [
            _value(tensor, takes, about_row.get(tensor["name"], {}))
            for tensor in interface["inputs"]
        ],
        "outputs": [
            _value(tensor, gives, about_answer.get(tensor["name"], {}))
            for tensor in interface["outputs"]
        ],
    }


def _value(tensor: TensorDescription, types: Mapping[str, str], schema: Mapping[str, Any]) -> Value:
    return {
        "name": tensor["name"],
        "datatype": tensor["datatype"],
        "shape": tensor["shape"],
        "type": types.get(tensor["name"], "").removesuffix(", optional"),
        "optional": not tensor["required"],
        "description": schema.get("description", ""),
    }


def resolved(schema: JsonSchema, interface: InterfaceDescription) -> JsonSchema:
    """Return a schema with what its references lead to in their places. One is left where a type
    has itself within, and where the schema would have more than ``MOST_SCHEMA_PARTS``.
    """
    return _Resolver(interface["definitions"]).resolve(schema, ())  # type: ignore[no-any-return]  # as it was


class _Resolver:
    """Mutable state: ``_parts`` that are written."""

    def __init__(self, definitions: Mapping[str, JsonSchema]) -> None:
        self._definitions = definitions
        self._parts = 0

    def resolve(self, schema: Any, within: tuple[str, ...]) -> Any:
        if isinstance(schema, list):
            return [self.resolve(one, within) for one in schema]
        if not isinstance(schema, dict):
            return schema
        self._parts += 1
        target = schema.get("$ref")
        if not isinstance(target, str):
            return {key: self.resolve(value, within) for key, value in schema.items()}
        name = target.removeprefix(DEFINITIONS)
        if name in within or name not in self._definitions or self._parts > MOST_SCHEMA_PARTS:
            return schema
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {**self.resolve(self._definitions[name], (*within, name)), **beside}
