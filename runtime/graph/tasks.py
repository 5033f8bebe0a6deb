"""What a function promises that declares a ``task``: names and types of what it takes and gives, so
that whatever knows the task can call it, such as ``/v1/embeddings``.

A task is written as Python annotations and compared with the wired graph, without running anything.
A function may take more, if it is optional, and answer more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypedDict, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from typing_extensions import is_typeddict

from runtime.declaration.constrained_types import TaskName
from runtime.graph.graph import Graph, Port
from runtime.graph.interfaces import format_type
from runtime.types import tensors
from runtime.types.annotations import Shape
from runtime.types.value_types import (
    ValueType,
    element_of,
    incompatibility,
    key_annotation,
    model_incompatibility,
    of_annotation,
    required_keys,
)

Vector = Annotated[NDArray[np.float32], Shape(-1)]


class ScoredLabel(TypedDict):
    """A class, and how likely it is, 0 to 1."""

    label: str
    score: float


class ScoredSpan(TypedDict):
    """A part of a text: ``text[start:end]``, counted in characters."""

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """What a caller of the task gives and gets, by name, as annotations of one row.

    Attributes:
        takes: the function has these fields, and needs no other.
        may_take: a field of that name is optional and has that type.
        gives: every answer has these.
        may_give: a value of that name has that type.
    """

    takes: Mapping[str, Any]
    gives: Mapping[str, Any]
    may_take: Mapping[str, Any] = field(default_factory=dict)
    may_give: Mapping[str, Any] = field(default_factory=dict)


TASKS: Final[Mapping[TaskName, Task]] = {
    # `tokens`: how many the model read, for the usage that a caller is told
    "embedding": Task(
        takes={"text": str},
        may_take={"dimensions": int},
        gives={"embedding": Vector},
        may_give={"tokens": int},
    ),
    "rerank": Task(
        takes={"query": str, "document": str}, gives={"score": float}, may_give={"tokens": int}
    ),
    # `scores`: by label, 0 to 1; they need not add up to 1
    "text-classification": Task(
        takes={"text": str}, gives={"scores": dict[str, float]}, may_give={"tokens": int}
    ),
    "token-classification": Task(
        takes={"text": str}, gives={"entities": list[ScoredSpan]}, may_give={"tokens": int}
    ),
    # `labels`: the likeliest first
    "image-classification": Task(takes={"image": bytes}, gives={"labels": list[ScoredLabel]}),
}


def task_issues(name: TaskName, graph: Graph, *, streams: bool = False) -> Iterator[str]:
    """What a function lacks of its task, a sentence or two each.

    Args:
        graph: wired, and without issues.
        streams: the last stage yields.
    """
    task = TASKS[name]
    if streams:
        yield f"the answer of the task {name} is whole, and the last stage yields. Return it."
        return
    for key, annotation in task.takes.items():
        if key not in graph.fields:
            yield (
                f"the task {name} takes {_written(key, annotation)}, and no stage takes a field"
                f" of that name; the function takes {_listed(graph.fields)}. Name a parameter so,"
                " or map it (`inputs`)."
            )
        elif reason := _input_mismatch(annotation, graph.fields[key]):
            yield f"the task {name} takes {_written(key, annotation)}: {reason}."
    for key, port in graph.fields.items():
        if key in task.may_take and (port.is_required or _input_mismatch(task.may_take[key], port)):
            yield (
                f"the task {name} may take {_written(key, task.may_take[key])}, which callers may"
                f" leave out; here it is {port.type}{', without a default' * port.is_required}."
            )
        elif (
            port.is_required and key not in task.takes and graph.fields.keys() >= task.takes.keys()
        ):
            yield (
                f"callers of the task {name} give {_listed(task.takes)}, and the function needs"
                f" {key!r} too. Give it a default."
            )
    for key, annotation in {**task.gives, **task.may_give}.items():
        given = graph.answer.get(key)
        if given is not None:
            if reason := _output_mismatch(given, annotation, is_promised=key in task.gives):
                yield f"the task {name} gives {_written(key, annotation)}: {reason}."
        elif key in task.gives:
            yield (
                f"the task {name} gives {_written(key, annotation)}, and the last stage gives"
                f" {_listed(graph.answer)}. Annotate its answer as a TypedDict that has it."
            )


def _input_mismatch(annotation: Any, port: Port) -> str:
    """Why a field does not take what callers of the task give."""
    given = of_annotation(annotation)
    compare = model_incompatibility if port.type.container == "array" else incompatibility
    return compare(given, port.type)


def _output_mismatch(given: ValueType, annotation: Any, *, is_promised: bool) -> str:
    """Why an answer is not what callers of the task get."""
    if is_promised and (given.may_lack or given.may_be_none):
        return "it may be missing here. Give it always"
    wanted = of_annotation(annotation)
    if given.is_any:
        return "its type is not said here. Annotate it so"
    if wanted.container == "object":
        return "" if _has_form(given.annotation, annotation) else f"it is {given} here"
    if wanted.container == "scalar" and given.shape == ():  # a model's output is one in JSON too
        kinds = tensors.FLOATS if wanted.datatype == "FP64" else tensors.INTEGERS
        return "" if given.datatype in kinds else f"it is {given} here"
    return incompatibility(given, wanted)


def _has_form(given: Any, wanted: Any) -> bool:
    """Whether values of one annotation have the keys and elements of another, in JSON."""
    if get_origin(given) is Annotated:
        return _has_form(get_args(given)[0], wanted)
    if is_typeddict(wanted):
        if not is_typeddict(given):
            return False
        has, always = get_type_hints(given, include_extras=True), required_keys(given)
        return all(
            key in always and _has_form(key_annotation(has[key]), kind)
            for key, kind in get_type_hints(wanted).items()
        )
    if get_origin(wanted) is list:
        of_given = element_of(of_annotation(given))
        return of_given is not None and _has_form(of_given.annotation, get_args(wanted)[0])
    if get_origin(wanted) is dict:
        if is_typeddict(given):
            return all(
                _has_form(key_annotation(kind), get_args(wanted)[1])
                for kind in get_type_hints(given, include_extras=True).values()
            )
        kinds = get_args(given)
        return get_origin(given) in (dict, Mapping) and all(map(_has_form, kinds, get_args(wanted)))
    return not of_annotation(given).is_any and not incompatibility(
        of_annotation(given), of_annotation(wanted)
    )


def _written(name: str, annotation: Any) -> str:
    return f"`{name}: {_form(annotation)}`"


def _form(annotation: Any) -> str:
    """An annotation in the words of the docs, a TypedDict by its keys."""
    if is_typeddict(annotation):
        keys = (f"{key}: {_form(kind)}" for key, kind in get_type_hints(annotation).items())
        return f"{{{', '.join(keys)}}}"
    if get_origin(annotation) is list:
        return f"list[{_form(get_args(annotation)[0])}]"
    return format_type(annotation)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
