"""A graph of stages as data: what stages take and give, what is known of its values after some of
them, and what wiring them found.

``runtime.graph.wiring`` makes a ``Graph`` of ``Node``s, with ``KnownValues`` on the way.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from runtime.types.annotations import Header
from runtime.types.conditions import Condition, is_exhaustive
from runtime.types.headers import RequestedHeader
from runtime.types.value_types import (
    ValueType,
    element_of,
    incompatibility,
    is_mapping,
    list_of,
    takes_none,
)


class _Omitted:
    """The type of ``OMITTED``."""

    def __repr__(self) -> str:
        return "left out"

    def __deepcopy__(self, memo: object) -> _Omitted:
        return self


OMITTED: Final = _Omitted()
"""In the place of a value: the call of another function omits the field, whose default only that
function knows.
"""


@dataclass(frozen=True, slots=True)
class Port:
    """Something a stage takes: a parameter, a model's input, or a function's field.

    Attributes:
        name: of a parameter, the name of a request field or of an earlier value.
        annotation: one row's annotation as written, pydantic constraints included.
        default: what a missing request field gets: ``inspect.Parameter.empty`` makes the field
            required; ``OMITTED`` for a field of another function whose default is not known here.
        is_state: the value is what the previous call of the sequence stored.
        header: the value is this header of the request.
    """

    name: str
    type: ValueType
    annotation: Any
    default: Any = inspect.Parameter.empty
    is_state: bool = False
    header: Header | None = None

    @property
    def is_required(self) -> bool:
        """Whether a request must carry it when it is a field."""
        return self.default is inspect.Parameter.empty

    @property
    def can_be_missing(self) -> bool:
        """Whether a row without the value can be given another: the default, or None."""
        return not self.is_required or takes_none(self.annotation)

    @property
    def value_if_missing(self) -> Any:
        """What a row without the value is given; of a required header, the example that the first
        run gets.
        """
        if self.header is not None and not self.can_be_missing:
            return self.header.example
        return None if self.is_required else self.default


@dataclass(frozen=True, slots=True)
class Node:
    """A stage as the wiring sees it.

    Attributes:
        takes: its ports, in order.
        gives: value name to type.
        inputs: the declared mapping of a port to the name of a value.
        pad: declared padding values by port.
        outputs: the declared mapping of what it gives to the name of a value.
        each: the value that it runs over, element by element.
        when: the rows that it is for; None: all.
        has_rows: False for a model whose rows are runs of their own.
        is_unnamed: its only value has no key of its own: a Python stage that returns no TypedDict,
            or another function whose answer is one value.
        is_split_python: a Python stage that is a function of its own, and is wired as before.
    """

    name: str
    kind: Literal["python", "onnx", "function"]
    takes: tuple[Port, ...]
    gives: Mapping[str, ValueType]
    inputs: Mapping[str, str] = field(default_factory=dict)
    pad: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    each: str | None = None
    when: Condition | None = None
    has_rows: bool = True
    is_unnamed: bool = False
    is_split_python: bool = False

    @property
    def named_values(self) -> dict[str, ValueType]:
        """What the stage gives, by the names that its values have in the graph."""
        return {self.outputs.get(name, name): type_ for name, type_ in self.gives.items()}


@dataclass(frozen=True, slots=True)
class GraphIssue:
    """Something wrong in a graph, or to be warned of.

    Attributes:
        stage: index of the stage; None: the function itself.
        key: of the stage's or the function's declaration.
        message: a sentence or two.
        module: the module at fault for every stage that names it, so that it is reported once;
            empty where the fault is the stage's own.
    """

    stage: int | None
    key: str
    message: str
    module: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A wired graph.

    Attributes:
        fields: the request's fields by name.
        sources: for each stage, port name to the name of the value that fills it.
        defaults: for each stage, port name to what it takes for a row whose value is missing; ports
            whose value is always there are not in it.
        answer: value name to type, of the last stage.
        issues: what is wrong; nothing else may be relied on unless it is empty.
        state_names: names of the values that the calls of a sequence pass on.
        headers: request headers that stages read, by name.
        called: for each Python stage, the names of parameters that take what another function gave
            and of which nothing is known here: it came as JSON says it, and is read as the
            parameter's annotation.
        is_unnamed: ``answer`` is one value without a key of its own.
        streams: the answer is a stream, and ``answer`` is what an item has.
    """

    fields: Mapping[str, Port]
    sources: tuple[Mapping[str, str], ...]
    defaults: tuple[Mapping[str, Any], ...]
    answer: Mapping[str, ValueType]
    issues: tuple[GraphIssue, ...]
    state_names: tuple[str, ...] = ()
    headers: Mapping[str, RequestedHeader] = field(default_factory=dict)
    called: tuple[frozenset[str], ...] = ()
    is_unnamed: bool = False
    streams: bool = False

    @property
    def answers_as_value(self) -> bool:
        """Whether the one value of the last stage is the answer by itself: a mapping. One that a
        TypedDict names keeps its key.
        """
        values = list(self.answer.values())
        return (
            self.is_unnamed
            and len(values) == 1
            and values[0].container == "object"
            and is_mapping(values[0].annotation)
        )

    @property
    def media_type(self) -> str:
        """Of the file that the answer is, or the range of it; empty where the answer is JSON. One
        that a TypedDict names is a value among others.
        """
        values = list(self.answer.values())
        return values[0].media_type if self.is_unnamed and len(values) == 1 else ""


@dataclass(frozen=True, slots=True)
class KnownValue:
    """A value that earlier stages give.

    Attributes:
        type: its type within ``each``.
        each: the value whose elements the stage runs over; None: once a row.
        conditions: the value is there where one of them holds; empty: always.
        is_called: another function gives it, to some rows at least.
    """

    type: ValueType
    each: str | None = None
    conditions: tuple[Condition, ...] = ()
    is_called: bool = False

    def type_within(self, each: str | None) -> ValueType:
        """Its type for a stage that runs over ``each``."""
        return self.type if self.each is None or self.each == each else list_of(self.type)

    @property
    def extent(self) -> str:
        """What there is one of it for, in words."""
        return "whole" if self.each is None else f"for the elements of {self.each!r}"


class KnownValues:
    """The values and request fields known after some of the stages: their types, and for which rows
    there is one.

    Mutable state: ``values`` and ``fields`` grow with each stage; ``_replaced`` has the types of
    values that a later stage of the same name replaced; ``_untyped``, the fields of other functions
    of which nothing is known yet.
    """

    def __init__(self) -> None:
        self.values: dict[str, KnownValue] = {}
        self.fields: dict[str, Port] = {}
        self._replaced: dict[str, ValueType] = {}
        self._untyped: set[str] = set()

    def add_values(self, node: Node) -> Iterator[str]:
        """Add what a stage gives; yields what is wrong with it.

        A condition or an ``each`` that read a value before this stage replaced it goes on meaning
        the value as it was.
        """
        given = node.named_values
        for name, type_ in given.items():
            yield from self._add_value(node, name, type_)
        for name in given:
            self._keep_replaced(name, node)

    def is_certain(self, name: str, when: Condition | None) -> bool:
        """Whether a row for which ``when`` holds has the value; each element of it, where it is a
        list of what ``each`` gave.
        """
        value = self.values.get(name)
        if value is not None and value.type.may_lack:
            return False
        if value is None or not value.conditions or when in value.conditions:
            return True
        return is_exhaustive(value.conditions, {**self._types, **self._replaced})

    def is_gathered(self, name: str, node: Node) -> bool:
        """Whether the stage sees a list of what stages gave that ran over elements: it is always
        there, an element of it may be None.
        """
        value = self.values.get(name)
        return value is not None and value.each is not None and value.each != node.each

    def is_called(self, name: str) -> bool:
        """Whether another function gives the value, or elements of it."""
        return name in self.values and self.values[name].is_called

    def add_field(self, name: str, port: Port, *, is_called: bool) -> None:
        """Add a request field; the type of one that another function takes, if nothing is known of
        it here, is what the next Python stage says that it is.
        """
        before = self.fields.get(name)
        if before is None:
            self.fields[name] = port
            if is_called and port.type.is_any:
                self._untyped.add(name)
        elif name in self._untyped and not is_called:
            self.fields[name] = replace(port, default=before.default)
            self._untyped.discard(name)

    def may_be_none(self, field: str) -> bool:
        """Whether a request field may be None."""
        port = self.fields[field]
        return port.default is None or (not port.type.is_any and takes_none(port.annotation))

    def visible_to(self, node: Node) -> dict[str, ValueType]:
        """Every value as a stage sees it; within ``each``, an element in the place of its list."""
        visible = {name: value.type_within(node.each) for name, value in self.values.items()}
        if node.each is not None and (node.each in visible or node.each in self.fields):
            given = visible[node.each] if node.each in visible else self.fields[node.each].type
            element = element_of(given)
            if element is not None:
                visible[node.each] = element
        return visible

    @property
    def _types(self) -> Mapping[str, ValueType]:
        """Of every field and value, as the last stage of its name gives it."""
        return {
            **{
                name: replace(port.type, may_be_none=self.may_be_none(name))
                for name, port in self.fields.items()
            },
            **{name: value.type for name, value in self.values.items()},
        }

    def _add_value(self, node: Node, name: str, type_: ValueType) -> Iterator[str]:
        before, types = self.values.get(name), self._types
        if name in types:
            self._replaced[_replaced_name(name, node)] = types[name]
        # what a split stage gives crosses as it is (``assembly.split_issues``)
        is_called = node.kind == "function" and not node.is_split_python
        if node.when is None:
            self.values[name] = KnownValue(type_, node.each, is_called=is_called)
            return
        source = "an earlier stage"
        if before is None and name in self.fields:
            before, source = KnownValue(self.fields[name].type), "the request"
        now = KnownValue(type_, node.each, (node.when,), is_called)
        if before is not None:
            yield from _branch_mismatch(name, node, now, before, source)
            type_ = replace(
                type_,
                may_be_none=type_.may_be_none or before.type.may_be_none,
                may_lack=type_.may_lack or before.type.may_lack,
            )
            conditions = (*before.conditions, node.when) if before.conditions else ()
            is_called = is_called or before.is_called
            now = replace(now, type=type_, conditions=conditions, is_called=is_called)
        self.values[name] = now

    def _keep_replaced(self, name: str, node: Node) -> None:
        replaced = _replaced_name(name, node)
        for key, value in self.values.items():
            conditions = tuple(
                replace(condition, value=replaced) if condition.value == name else condition
                for condition in value.conditions
            )
            each = replaced if value.each == name else value.each
            self.values[key] = replace(value, each=each, conditions=conditions)


def _branch_mismatch(
    name: str, node: Node, now: KnownValue, before: KnownValue, source: str
) -> Iterator[str]:
    """Why the rows of a branch cannot have another value of a name that other rows have."""
    new, old = now.type_within(None), before.type_within(None)
    message = ""
    if incompatibility(new, old) or incompatibility(old, new):
        message = (
            f"it gives {name!r} as {new} where {node.when}, and other rows have it from"
            f" {source} as {old}."
        )
    elif now.each != before.each and (now.each is not None or before.conditions):
        message = (
            f"it gives {name!r} {now.extent} where {node.when}, and other rows have it"
            f" {before.extent} from {source}."
        )
    elif new.media_type != old.media_type:
        message = (
            f"it gives {name!r} as {new.media_type or 'plain bytes'} where {node.when}, and other"
            f" rows have it as {old.media_type or 'plain bytes'} from {source}."
        )
    if message:
        yield f"{message} Name one of them otherwise ('outputs')."


def _replaced_name(name: str, node: Node) -> str:
    """The name of a value as it was before a stage replaced it, for conditions that read it."""
    return f"{name} (before {node.name!r} gave it anew)"
