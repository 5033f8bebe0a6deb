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

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.graph.graph import OMITTED, Graph, GraphIssue, KnownValues, Node, Port
from runtime.graph.interfaces import format_annotation
from runtime.system.messages import did_you_mean
from runtime.types import headers
from runtime.types.annotations import Header
from runtime.types.tensors import holds
from runtime.types.value_types import (
    ValueType,
    element_of,
    elements_take_none,
    incompatibility,
    is_mapping,
    model_incompatibility,
    of_annotation,
)

Issue = tuple[str, str]
"""A key of a stage's declaration, and a message."""


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
        self._report(index, _name_issues(node))
        self._report(index, _padding_issues(node))
        each_issues = list(_each_issues(node, known))
        self._report(index, each_issues)
        if each_issues:  # whether what it gives is a list is not known
            self._doubtful |= node.named_values.keys()
        self._report(index, _when_issues(node, known))
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
                    self._report(
                        index, _edge_issues(node, port, source, known, visible, index == 0)
                    )
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


def _name_issues(node: Node) -> Iterator[Issue]:
    """Declared names of ports and outputs that the stage does not have."""
    ports = {port.name for port in node.takes}
    for key, declared, names, verb in (
        ("inputs", node.inputs, ports, "takes"),
        ("pad", node.pad, ports, "takes"),
        ("outputs", node.outputs, node.gives, "gives"),
    ):
        for name in declared:
            if name not in names:
                hint = did_you_mean(name, names) or "."
                yield f"{key}.{name}", f"stage {node.name!r} {verb} no {name!r}{hint}"
    renamed = [node.outputs.get(name, name) for name in node.gives]
    for name, value in node.outputs.items():
        if renamed.count(value) > 1:
            message = f"stage {node.name!r} would give two values of the name {value!r}."
            yield f"outputs.{name}", message


def _padding_issues(node: Node) -> Iterator[Issue]:
    """Inputs that are declared to be padded and cannot be."""
    ports = {port.name: port.type for port in node.takes}
    for name, number in node.pad.items():
        if name not in ports:
            continue  # reported already
        datatype, shape = ports[name].datatype, ports[name].shape or ()
        reason = ""
        if not node.has_rows:
            reason = "has no rows axis, so each row is a run of its own"
        elif -1 not in shape:
            reason = (
                f"is {datatype} {list(shape)}, with no free axis, so its rows are never of unlike"
                " length"
            )
        elif datatype == "BYTES":
            reason = (
                "is text, and there is none that a model takes for nothing; rows of identical"
                " shapes share a run"
            )
        if reason:
            yield f"pad.{name}", f"model input {name!r} {reason}. Delete it."
        elif datatype is not None and not holds(datatype, number):
            message = (
                f"model input {name!r} is {datatype}, which cannot be {number:g}. Write a number"
                " that it can be."
            )
            yield f"pad.{name}", message


def _each_issues(node: Node, known: KnownValues) -> Iterator[Issue]:
    """What is wrong with a stage's ``each``."""
    if node.each is None:
        return
    value, field = known.values.get(node.each), known.fields.get(node.each)
    given = value.type_within(None) if value is not None else field.type if field else None
    if given is None:
        hint = did_you_mean(node.each, known.values) or (
            f" (there are: {_list(known.values)}). If it is a request field, let a stage before"
            f" take it and give it on: `def given({node.each}: list[T]) -> list[T]`."
        )
        yield "each", f"{node.each!r} is no value of an earlier stage{hint}"
    elif message := _each_message(node, node.each, given, field if value is None else None, known):
        yield "each", message
    if node.each in node.named_values:
        message = (
            f"stage {node.name!r} runs over {node.each!r} and gives {node.each!r}: name what it"
            " gives otherwise ('outputs')."
        )
        yield "each", message


def _each_message(
    node: Node, each: str, given: ValueType, field: Port | None, known: KnownValues
) -> str:
    """Why a stage cannot run over the elements of a value, or of a field; empty when it can."""
    over = f"stage {node.name!r} runs over {each!r}"
    if element_of(given) is None or is_mapping(given.annotation):
        return f"{over}, but it is {given}, a list or an array is wanted."
    if field is not None and field.default is OMITTED:
        return _unknown_default_message(f"{over}, a request field", field)
    if field is not None and known.may_be_none(each):
        return (
            f"{over}, which may be None: give the field a list as its default, such as [], and no"
            " '| None'."
        )
    if field is None and given.may_be_none:
        return (
            f"{over}, which may be None: let the stage that gives it give an empty list instead,"
            " and no '| None'."
        )
    if not known.is_certain(each, None):
        return (
            f"{each!r} is missing for some rows, where its stage was skipped. Give it on the other"
            " branch too."
        )
    return ""


def _when_issues(node: Node, known: KnownValues) -> Iterator[Issue]:
    """What is wrong with a stage's ``when``."""
    if node.when is None:
        return
    name = node.when.value
    types = {
        **{field: port.type for field, port in known.fields.items()},
        **known.visible_to(node),
    }
    if name not in types:
        hint = did_you_mean(name, types) or f" (there are: {_list(types)})."
        message = (
            f"{name!r} is neither a value of an earlier stage nor a field that one takes{hint}"
        )
        yield "when", message
    elif (
        name not in known.values and name in known.fields and known.fields[name].default is OMITTED
    ):
        what = f"stage {node.name!r} asks {name!r}, a request field"
        yield "when", _unknown_default_message(what, known.fields[name])
    elif reason := node.when.misfit(types[name]):
        yield "when", f"stage {node.name!r} is for rows where {node.when}, but {reason}."
    elif not known.is_certain(name, None):
        yield "when", f"{name!r} is missing itself for some rows, where its stage was skipped."


def _edge_issues(
    node: Node,
    port: Port,
    source: str,
    known: KnownValues,
    visible: Mapping[str, ValueType],
    is_first: bool,
) -> Iterator[Issue]:
    """What is wrong with the edge into one port.

    Args:
        visible: every value as the stage sees it.
        is_first: the stage is the graph's first.
    """
    is_mapped, is_model = port.name in node.inputs, node.kind == "onnx"
    key = f"inputs.{port.name}" if is_mapped else node.kind
    what = (
        f"model input {port.name!r}"
        if is_model
        else f"parameter {port.name!r} of stage {node.name!r}"
    )
    if source in visible:
        reason_not = model_incompatibility if is_model else incompatibility
        if reason := reason_not(visible[source], port.type):
            yield (
                key,
                f"{what} takes the value {source!r}, but {reason}."
                f" {_fix(node, port, visible[source])}",
            )
        elif not known.is_certain(source, node.when) and not _can_be_missing(
            node, port, source, known
        ):
            yield key, f"{what} takes {_missing_message(node, source, known)}"
    elif source in known.fields:
        field = known.fields[source]
        taken = f"{what} takes the request field {source!r} of an earlier stage"
        if reason := incompatibility(field.type, port.type):
            yield key, f"{taken}, but {reason}."
        elif field.default is OMITTED and node.kind != "function":
            yield key, _unknown_default_message(taken, field)
    elif not is_first and not is_mapped:
        near = did_you_mean(source, visible)
        is_function = node.kind == "function" and not node.is_split_python
        if is_model or (is_function and port.is_required):
            hint = near or f" (there are: {_list(visible)})."
            yield (
                key,
                f"{what} is filled by no earlier stage{hint} Name a value so, or map it: 'inputs:"
                f" {{{port.name}: VALUE}}'.",
            )
        elif near:
            yield (
                key,
                f"{what} is no value of an earlier stage{near} If it is a request field, say"
                f" 'inputs: {{{source}: {source}}}'.",
            )


def _missing_message(node: Node, source: str, known: KnownValues) -> str:
    """Of a value that is missing for some rows of a stage that needs it."""
    conditions = (
        " or ".join(map(str, known.values[source].conditions))
        or "its stage gives it (it is NotRequired)"
    )
    optional = "its elements" if known.is_gathered(source, node) else "it"
    fix = "" if node.kind == "onnx" else f"annotate {optional} '| None', or "
    return (
        f"the value {source!r}, which is there only where {conditions}: {fix}give it on the other"
        " branch too."
    )


def _can_be_missing(node: Node, port: Port, source: str, known: KnownValues) -> bool:
    """Whether the stage can do without the value."""
    if node.kind == "onnx":
        return False
    if known.is_gathered(source, node):
        return elements_take_none(port.annotation)
    return port.can_be_missing


def _unknown_default_message(what: str, field: Port) -> str:
    """Of a field of another function, used by a Python stage or a model."""
    return (
        f"{what}, which callers may leave out, and only the function that takes it knows its"
        f" default. Take {field.name!r} in a stage before, with a default of your own."
    )


def _fix(node: Node, port: Port, given: ValueType) -> str:
    """What to write so that a value fits: at the parameter that takes it, or where it is given."""
    if node.kind == "python":
        return f"Write `{port.name}: {format_annotation(given)}`."
    return f"What gives it must be annotated `{format_annotation(port.type)}`."


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


class StateEdges:
    """What the calls of a sequence pass on: which stage takes each state, and whether one gives it
    again.

    A parameter ``x: State[T]`` takes what the previous call stored as ``x``. The value that this
    call stores is the last one named ``x`` that this stage or a later one gives. Until a stage
    gives it, no other stage sees it; it is not part of the answer.

    Mutable state: ``_takers``, by the state's name: the stage's index and name, and the type that
    it takes.
    """

    def __init__(self) -> None:
        self._takers: dict[str, tuple[int, str, ValueType]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the states."""
        return tuple(self._takers)

    def add_taker(
        self,
        index: int,
        stage: str,
        name: str,
        type_: ValueType,
        *,
        known: Container[str],
        each: str | None,
    ) -> Iterator[str]:
        """Note that a stage takes a state; yields what is wrong with that.

        Args:
            known: values that earlier stages give, and fields that they take.
            each: the value that the stage runs over.
        """
        if name in self._takers:
            other = self._takers[name][1]
            yield (
                f"the state {name!r} is taken by stage {other!r} already; take it here as an"
                " ordinary value, once it is given anew."
            )
            return
        if name in known:
            yield (
                f"the state {name!r} is what the call before left, and an earlier stage gives or"
                " takes a value of that name. Rename one."
            )
        if each is not None:
            yield (
                f"the state {name!r} is the row's, and the stage runs once for each element. Take"
                " it in a stage without 'each'."
            )
        self._takers[name] = index, stage, type_

    def find_issues(
        self, given: Mapping[str, ValueType], fields: Container[str]
    ) -> Iterator[tuple[int, str]]:
        """What is wrong once all stages are known: the index of a stage, and a message.

        Args:
            given: each value, as the last stage of its name gives it.
            fields: that the request carries.
        """
        for name, (index, stage, wanted) in self._takers.items():
            if name in fields:
                yield (
                    index,
                    (
                        f"another stage takes {name!r} before one gives it anew. Give it first, or"
                        " take something else there."
                    ),
                )
            elif name not in given:
                yield (
                    index,
                    (
                        f"nothing gives the state {name!r} anew: return it from {stage!r} under"
                        " that name, or name a later stage's value so ('outputs')."
                    ),
                )
            elif given[name].may_lack:
                yield (
                    index,
                    (
                        f"the state {name!r} is NotRequired where it is given anew, and every call"
                        " leaves one. Give None instead."
                    ),
                )
            elif reason := incompatibility(given[name], wanted):
                yield index, f"the state {name!r} does not come back as it is taken: {reason}."
