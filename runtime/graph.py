"""Stages wired to each other by the names of their values, every edge checked before anything runs.

Rules of the wiring:

1. A parameter takes the value of its name that the latest earlier stage gave; ``inputs`` maps it to another name.
2. What no earlier stage gives is a field of the request. In later stages that is allowed for Python parameters that resemble no
   value (so a misspelt name is found), and for a model only where ``inputs`` says so.
3. A value must fit where it is used (``runtime/values``); a field used twice must be of one type.
4. The values of the last stage are the answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.values import ValueType, misfit, model_misfit
from runtime.wording import did_you_mean


@dataclass(frozen=True, slots=True)
class Port:
    """Something a stage takes: a parameter, or a model's input."""

    name: str
    type: ValueType
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def is_required(self) -> bool:
        """Whether a request must carry it when it is a field."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Node:
    """A stage as the wiring sees it.

    Attributes:
        gives: value name to type.
        inputs: the declared mapping of a port to the name of a value.
        pad: declared padding values by port.
    """

    name: str
    kind: Literal["python", "onnx"]
    takes: tuple[Port, ...]
    gives: Mapping[str, ValueType]
    inputs: Mapping[str, str] = field(default_factory=dict)
    pad: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """A wrong edge: which stage, which key of its declaration, and why."""

    stage: int
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Graph:
    """A wired graph.

    Attributes:
        fields: the request's fields by name.
        sources: for each stage, port name to the name of the value that fills it.
        answer: value name to type, of the last stage.
        faults: what is wrong; nothing else is to be relied on unless it is empty.
    """

    fields: Mapping[str, Port]
    sources: tuple[Mapping[str, str], ...]
    answer: Mapping[str, ValueType]
    faults: tuple[Fault, ...]


def wire(nodes: Sequence[Node]) -> Graph:
    """Wires stages in the order they run."""
    values: dict[str, ValueType] = {}
    fields: dict[str, Port] = {}
    sources: list[Mapping[str, str]] = []
    faults: list[Fault] = []
    for index, node in enumerate(nodes):
        names = {port.name for port in node.takes}
        for key, given in (("inputs", node.inputs), ("pad", node.pad)):
            faults += [
                Fault(index, f"{key}.{name}", f"stage {node.name!r} takes no {name!r}{did_you_mean(name, names)}.")
                for name in given
                if name not in names
            ]
        bound = {port.name: node.inputs.get(port.name, port.name) for port in node.takes}
        for port in node.takes:
            source = bound[port.name]
            faults += [Fault(index, key, message) for key, message in _edge(node, port, source, values, fields, is_first=index == 0)]
            if source not in values:
                fields.setdefault(source, port)
        sources.append(bound)
        values = {**values, **node.gives}
    return Graph(fields, tuple(sources), dict(nodes[-1].gives), tuple(faults))


def _edge(
    node: Node, port: Port, source: str, values: Mapping[str, ValueType], fields: Mapping[str, Port], *, is_first: bool
) -> Iterator[tuple[str, str]]:
    """What is wrong with the edge into one port: pairs of key and message."""
    is_mapped = port.name in node.inputs
    key = f"inputs.{port.name}" if is_mapped else node.kind
    what = f"model input {port.name!r}" if node.kind == "onnx" else f"parameter {port.name!r} of stage {node.name!r}"
    if source in values:
        why = (model_misfit if node.kind == "onnx" else misfit)(values[source], port.type)
        if why:
            yield key, f"{what} takes the value {source!r}, but {why}."
    elif source in fields:
        why = misfit(fields[source].type, port.type)
        if why:
            yield key, f"{what} takes the request field {source!r} of an earlier stage, but {why}."
    elif not is_first and not is_mapped:
        near = did_you_mean(source, values)
        if node.kind == "onnx":
            others = near or f" (there are: {_list(values)})."
            yield key, f"{what} is filled by no earlier stage{others} Name a value so, or map it: 'inputs: {{{port.name}: VALUE}}'."
        elif near:
            yield key, f"{what} is no value of an earlier stage{near} If it is a request field, say 'inputs: {{{source}: {source}}}'."


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
