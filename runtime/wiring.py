"""Stages wired to each other by the names of their values, every edge checked before anything runs.

Rules of the wiring:

1. A parameter takes the value of its name that the latest earlier stage gave; ``inputs`` maps it to another name, ``outputs`` names
   otherwise what a stage gives.
2. What no earlier stage gives is a field of the request. In later stages that is allowed for Python parameters that resemble no
   value (so a misspelt name is found), as for fields of a function that have a default; for others of a function, and for a model,
   only where ``inputs`` says so.
3. A value must fit where it is used (``runtime/values``); a field used twice must be of one type.
4. ``each`` names an earlier list: within, its name is an element's, and what such stages give is one value an element; for every
   other stage that is a list.
5. What a stage with ``when`` gives may be missing, and only who can do without takes it: a stage with the same condition, a parameter
   with a default or ``| None``. It is never missing if an earlier stage gave it too, or if the other branch does.
6. What a stage takes as a ``State`` is neither: the call before left it (``kept``).
7. The values of the last stage are the answer, without what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.branch import Condition, covers
from runtime.graph import Fault, Graph, Node, Port
from runtime.kept import Kept
from runtime.values import ValueType, collected, element, elements_take_none, misfit, model_misfit
from runtime.wording import did_you_mean


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that earlier stages gave: its type within ``each``, and the conditions under which there is one; none of them: always."""

    type: ValueType
    each: str | None = None
    conditions: tuple[Condition, ...] = ()

    def seen(self, each: str | None) -> ValueType:
        """Its type for a stage that runs over ``each``."""
        return self.type if self.each is None or self.each == each else collected(self.type)


def wire(nodes: Sequence[Node]) -> Graph:
    """Wires stages in the order they run."""
    wiring = _Wiring()
    for index, node in enumerate(nodes):
        wiring.add(index, node)
    last = nodes[-1]
    wiring.end(nodes)
    kept = wiring.kept.names
    answer = {name: wiring.values[name].seen(None) for name in wiring.named(last) if name not in kept} if not wiring.faults else {}
    missing = [name for name in answer if not wiring.is_certain(name, None)]
    if missing:
        without = f"{missing[0]!r} is missing where {last.when} does not hold"
        message = f"the last stage answers every row, and {without}. Give it on the other branch too."
        wiring.faults.append(Fault(len(nodes) - 1, "when", message))
    return Graph(wiring.fields, tuple(wiring.sources), tuple(wiring.instead), answer, tuple(wiring.faults), kept)


class _Wiring:
    """What is known after some of the stages. Mutable state: every attribute grows with each stage."""

    def __init__(self) -> None:
        self.values: dict[str, _Value] = {}
        self.fields: dict[str, Port] = {}
        self.sources: list[Mapping[str, str]] = []
        self.instead: list[Mapping[str, Any]] = []
        self.kept = Kept()
        self.faults: list[Fault] = []

    def add(self, index: int, node: Node) -> None:
        """The next stage."""
        self.faults += [Fault(index, key, message) for key, message in (*_misnamed(node), *self._misplaced(node))]
        bound = {port.name: node.inputs.get(port.name, port.name) for port in node.takes}
        visible = self._visible(node)
        instead: dict[str, Any] = {}
        for port in node.takes:
            source = bound[port.name]
            if port.is_state:
                known = {*self.values, *self.fields}
                wrong = self.kept.take(index, node.name, source, port.type, known=known, each=node.each)
                self.faults += [Fault(index, node.kind, message) for message in wrong]
                instead[port.name] = None
                continue
            self.faults += [Fault(index, key, message) for key, message in self._edge(node, port, source, visible, is_first=index == 0)]
            if source not in self.values:
                self.fields.setdefault(source, port)
            elif not self.is_certain(source, node.when) and not self._is_gathered(source, node):
                instead[port.name] = port.instead
        self.sources.append(bound)
        self.instead.append(instead)
        for name, type_ in self.named(node).items():
            self._give(index, node, name, type_)

    def end(self, nodes: Sequence[Node]) -> None:
        """After the last stage."""
        given = {name: value.seen(None) for name, value in self.values.items()}
        self.faults += [Fault(index, nodes[index].kind, message) for index, message in self.kept.faults(given, self.fields)]
        if not set(self.named(nodes[-1])) - set(self.kept.names):
            message = "the last stage gives nothing but what is kept; the values of the last stage are the answer."
            self.faults.append(Fault(len(nodes) - 1, nodes[-1].kind, message))

    @staticmethod
    def named(node: Node) -> dict[str, ValueType]:
        """What a stage gives, by the names that its values have."""
        return {node.outputs.get(name, name): type_ for name, type_ in node.gives.items()}

    def is_certain(self, name: str, when: Condition | None) -> bool:
        """Whether a row for which ``when`` holds has the value; each element of it, where it is a list of what ``each`` gave."""
        value = self.values.get(name)
        if value is None or not value.conditions or when in value.conditions:
            return True
        known = {name: given.type for name, given in self.values.items()}
        return covers(value.conditions, {**{name: port.type for name, port in self.fields.items()}, **known})

    def _visible(self, node: Node | None) -> dict[str, ValueType]:
        """Every value as a stage sees it."""
        each = node.each if node is not None else None
        seen = {name: value.seen(each) for name, value in self.values.items()}
        if each is not None and (each in seen or each in self.fields):
            item = element(seen[each] if each in seen else self.fields[each].type)
            if item is not None:
                seen[each] = item
        return seen

    def _give(self, index: int, node: Node, name: str, type_: ValueType) -> None:
        before = self.values.get(name)
        if node.when is None:
            self.values[name] = _Value(type_, node.each)
            return
        now = _Value(type_, node.each, (node.when,))
        if before is not None:
            if misfit(now.seen(None), before.seen(None)) or misfit(before.seen(None), now.seen(None)):
                message = (
                    f"it gives {name!r} as {now.seen(None)} where {node.when}, and other rows have it from an earlier stage as "
                    f"{before.seen(None)}. Name one of them otherwise ('outputs')."
                )
                self.faults.append(Fault(index, "when", message))
            now = replace(now, conditions=(*before.conditions, node.when) if before.conditions else ())
        self.values[name] = now

    def _misplaced(self, node: Node) -> Iterator[tuple[str, str]]:
        """What is wrong with a stage's ``each`` and ``when``."""
        if node.each is not None:
            value = self.values.get(node.each)
            if value is None and node.each not in self.fields:
                near = did_you_mean(node.each, self.values) or f" (there are: {_list(self.values)})."
                yield "each", f"{node.each!r} is no value of an earlier stage{near}"
            else:
                given = value.seen(None) if value is not None else self.fields[node.each].type
                if element(given) is None:
                    yield "each", f"stage {node.name!r} runs over {node.each!r}, but it is {given}, a list or an array is wanted."
                elif not self.is_certain(node.each, None):
                    yield "each", f"{node.each!r} is missing for some rows, where its stage was skipped. Give it on the other branch too."
        if node.when is not None:
            asked = node.when.value
            known = {**{name: port.type for name, port in self.fields.items()}, **self._visible(node)}
            if asked not in known:
                near = did_you_mean(asked, known) or f" (there are: {_list(known)})."
                yield "when", f"{asked!r} is neither a value of an earlier stage nor a field that one takes{near}"
            elif why := node.when.misfit(known[asked]):
                yield "when", f"stage {node.name!r} is for rows where {node.when}, but {why}."
            elif not self.is_certain(asked, None):
                yield "when", f"{asked!r} is missing itself for some rows, where its stage was skipped."

    def _edge(self, node: Node, port: Port, source: str, visible: Mapping[str, ValueType], *, is_first: bool) -> Iterator[tuple[str, str]]:
        """What is wrong with the edge into one port: pairs of key and message."""
        is_mapped = port.name in node.inputs
        key = f"inputs.{port.name}" if is_mapped else node.kind
        what = f"model input {port.name!r}" if node.kind == "onnx" else f"parameter {port.name!r} of stage {node.name!r}"
        if source in visible:
            why = (model_misfit if node.kind == "onnx" else misfit)(visible[source], port.type)
            if why:
                yield key, f"{what} takes the value {source!r}, but {why}."
            elif not self.is_certain(source, node.when) and not self._does_without(node, port, source):
                conditions = " or ".join(map(str, self.values[source].conditions))
                optional = "its elements" if self._is_gathered(source, node) else "it"
                can = "" if node.kind == "onnx" else f"annotate {optional} '| None', or "
                yield (
                    key,
                    f"{what} takes the value {source!r}, which is there only where {conditions}: {can}give it on the other branch too.",
                )
        elif source in self.fields:
            why = misfit(self.fields[source].type, port.type)
            if why:
                yield key, f"{what} takes the request field {source!r} of an earlier stage, but {why}."
        elif not is_first and not is_mapped:
            near = did_you_mean(source, visible)
            if node.kind == "onnx" or (node.kind == "function" and port.is_required):
                others = near or f" (there are: {_list(visible)})."
                yield key, f"{what} is filled by no earlier stage{others} Name a value so, or map it: 'inputs: {{{port.name}: VALUE}}'."
            elif near:
                yield key, f"{what} is no value of an earlier stage{near} If it is a request field, say 'inputs: {{{source}: {source}}}'."

    def _is_gathered(self, name: str, node: Node) -> bool:
        """Whether the stage sees a list of what stages gave that ran over elements: it is always there, an element of it may be None."""
        value = self.values.get(name)
        return value is not None and value.each is not None and value.each != node.each

    def _does_without(self, node: Node, port: Port, source: str) -> bool:
        if node.kind == "onnx":
            return False
        return elements_take_none(port.annotation) if self._is_gathered(source, node) else port.takes_nothing


def _misnamed(node: Node) -> Iterator[tuple[str, str]]:
    """Declared names of ports and outputs that the stage does not have."""
    takes = {port.name for port in node.takes}
    for key, given, names, verb in (
        ("inputs", node.inputs, takes, "takes"),
        ("pad", node.pad, takes, "takes"),
        ("outputs", node.outputs, node.gives, "gives"),
    ):
        for name in given:
            if name not in names:
                yield f"{key}.{name}", f"stage {node.name!r} {verb} no {name!r}{did_you_mean(name, names) or '.'}"
    became = [node.outputs.get(name, name) for name in node.gives]
    for name, value in node.outputs.items():
        if became.count(value) > 1:
            yield f"outputs.{name}", f"stage {node.name!r} would give two values of the name {value!r}."


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
