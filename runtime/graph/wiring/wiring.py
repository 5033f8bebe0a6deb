"""Stages wired to each other by the names of their values; every edge is checked before anything
runs.

Rules of the wiring:

1. A parameter takes the value of its name that the latest earlier stage gives. ``inputs`` maps it
   to another name; ``outputs`` renames what a stage gives.
2. What no earlier stage gives is a field of the request. In later stages that is allowed for Python
   parameters that resemble no value (so a misspelt name is found), and for fields of a function
   that have a default. Other fields of a function, and inputs of a model, need a line in
   ``inputs``.
3. A value must fit where it is used (``runtime.types.value_types``); a field that two stages take
   must be of one type.
4. ``each`` names an earlier list. Within the stage that name is an element's, and what the stage
   gives is one value an element; every other stage sees a list.
5. What a stage with ``when`` gives may be missing. A stage may take it if it has the same
   condition, or a parameter with a default or ``| None``. The value is never missing if an earlier
   stage gives it too, or if the other branch does.
6. A ``State`` parameter takes what the previous call stored (``StateEdges``), a header parameter a
   header of the request (``runtime.types.headers``). Neither is a value.
7. The values of the last stage, without states, are the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.graph.graph import Graph, GraphIssue, KnownValues, Node, Port
from runtime.graph.wiring.edge_checks import (
    Issue,
    each_issues,
    edge_issues,
    name_issues,
    padding_issues,
    when_issues,
)
from runtime.graph.wiring.state_edges import StateEdges
from runtime.types import headers
from runtime.types.annotations import Header
from runtime.types.value_types import ValueType, of_annotation


def wire_graph(nodes: Sequence[Node]) -> Graph:
    """Wire stages in the order they run."""
    wiring = _Wiring()
    for index, node in enumerate(nodes):
        wiring.add(index, node)
    return wiring.finish(nodes)


class _Wiring:
    """The graph so far. Mutable state: every attribute grows with each stage."""

    def __init__(self) -> None:
        self._known = KnownValues()
        self._states = StateEdges()
        self._headers: dict[str, headers.RequestedHeader] = {}
        self._sources: list[Mapping[str, str]] = []
        self._defaults: list[Mapping[str, Any]] = []
        self._issues: list[GraphIssue] = []
        self._doubtful: set[str] = set()
        self._called: list[frozenset[str]] = []

    def add(self, index: int, node: Node) -> None:
        """Wire the next stage."""
        known = self._known
        self._report(index, name_issues(node))
        self._report(index, padding_issues(node))
        of_each = list(each_issues(node, known))
        self._report(index, of_each)
        if of_each:  # whether what it gives is a list is not known
            self._doubtful |= node.named_values.keys()
        self._report(index, when_issues(node, known))
        sources = {port.name: node.inputs.get(port.name, port.name) for port in node.takes}
        visible = known.visible_to(node)
        defaults: dict[str, Any] = {}
        for port in node.takes:
            source = sources[port.name]
            if port.header is not None:
                sources[port.name] = headers.header_key(port.header)
                defaults[port.name] = port.value_if_missing
                self._add_header(index, node, port, port.header)
            elif port.is_state:
                defaults[port.name] = None
                self._add_state(index, node, port, source)
            else:
                if source not in self._doubtful:
                    self._report(index, edge_issues(node, port, source, known, visible, index == 0))
                if source not in known.values and (source != node.each or source in known.fields):
                    field = _list_of(port) if source == node.each else port
                    known.add_field(source, field, is_called=node.kind == "function")
                elif not known.is_certain(source, node.when) and not known.is_gathered(
                    source, node
                ):
                    defaults[port.name] = port.value_if_missing
        self._sources.append(sources)
        self._defaults.append(defaults)
        self._called.append(
            frozenset(
                port.name
                for port in node.takes
                if node.kind == "python"
                and not port.is_state
                and self._is_untyped(sources[port.name], visible)
            )
        )
        self._report(index, (("when", message) for message in known.add_values(node)))

    def finish(self, nodes: Sequence[Node]) -> Graph:
        """The graph, once every stage is wired."""
        at, last, states = len(nodes) - 1, nodes[-1], self._states.names
        given = {name: value.type_within(None) for name, value in self._known.values.items()}
        for index, message in self._states.find_issues(given, self._known.fields):
            self._report(index, [(nodes[index].kind, message)])
        for index, node in enumerate(nodes):
            self._called[index] |= {
                port.name
                for port in node.takes
                if port.is_state and self._is_untyped(self._sources[index][port.name], given)
            }
        names = [name for name in last.named_values if name not in states]
        if not names:
            message = (
                "the last stage gives nothing but what is kept; the values of the last stage are"
                " the answer."
            )
            self._report(at, [(last.kind, message)])
        answer = {} if self._issues else {name: given[name] for name in names}
        for name, type_ in answer.items():
            if not type_.may_lack and not self._known.is_certain(name, None):
                message = (
                    f"the last stage answers every row, and {name!r} is missing where {last.when}"
                    " does not hold. Give it on the other branch too."
                )
                self._report(at, [("when", message)])
                break
        return Graph(
            self._known.fields,
            tuple(self._sources),
            tuple(self._defaults),
            answer,
            tuple(self._issues),
            states,
            self._headers,
            tuple(self._called),
            last.is_unnamed,
        )

    def _is_untyped(self, name: str, types: Mapping[str, ValueType]) -> bool:
        """Whether another function gives the value, and nothing is known of it but its JSON."""
        return self._known.is_called(name) and types[name].is_any

    def _report(self, index: int, issues: Iterable[Issue]) -> None:
        self._issues += [GraphIssue(index, key, message) for key, message in issues]

    def _add_header(self, index: int, node: Node, port: Port, header: Header) -> None:
        if port.name in node.inputs:
            message = (
                f"parameter {port.name!r} of stage {node.name!r} is a header of the request; no"
                " value fills it. Delete the line."
            )
            self._report(index, [(f"inputs.{port.name}", message)])
        self._headers = headers.requested_headers(
            self._headers, header, is_required=not port.can_be_missing
        )

    def _add_state(self, index: int, node: Node, port: Port, source: str) -> None:
        known = {*self._known.values, *self._known.fields}
        messages = self._states.add_taker(
            index, node.name, source, port.type, known=known, each=node.each
        )
        self._report(index, ((node.kind, message) for message in messages))


def _list_of(port: Port) -> Port:
    """The field of which a stage takes each element."""
    annotation = list[port.annotation]  # type: ignore[name-defined]  # as it was written
    return replace(port, type=of_annotation(annotation), annotation=annotation)
