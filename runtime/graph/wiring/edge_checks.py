"""What is wrong with a stage where it is wired to earlier ones: its names, its edges, ``pad``,
``each`` and ``when``. The rules are those of ``runtime.graph.wiring.wiring``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runtime.graph.graph import OMITTED, KnownValues, Node, Port
from runtime.graph.interfaces import format_annotation
from runtime.system.messages import did_you_mean
from runtime.types.tensors import holds
from runtime.types.value_types import (
    ValueType,
    element_of,
    elements_take_none,
    incompatibility,
    is_mapping,
    model_incompatibility,
)

Issue = tuple[str, str]
"""A key of a stage's declaration, and a message."""


def name_issues(node: Node) -> Iterator[Issue]:
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


def padding_issues(node: Node) -> Iterator[Issue]:
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


def each_issues(node: Node, known: KnownValues) -> Iterator[Issue]:
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


def when_issues(node: Node, known: KnownValues) -> Iterator[Issue]:
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


def edge_issues(
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
