"""What is right in a function and was probably not meant so: it serves, and ``check`` warns of it.

A rule takes an assembly without issues and gives a ``GraphIssue`` for each thing it warns of. To
add one, write it next to its subject and name it in ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from runtime.artifacts.forgotten_awaits import find_forgotten_awaits
from runtime.graph.assembly import Assembly
from runtime.graph.graph import GraphIssue, Node, Port
from runtime.graph.interfaces import format_annotation
from runtime.graph.lint.batching_report import find_ineffective_batching
from runtime.graph.lint.problems import find_misplaced_stages, unused_values
from runtime.graph.resolved_stages import ResolvedModel, ResolvedPython
from runtime.types.value_types import (
    ANY,
    ValueType,
    elements_take_none,
    incompatibility,
    takes_none,
)

Rule = Callable[[Assembly], Iterable[GraphIssue]]


def find_warnings(assembly: Assembly) -> list[GraphIssue]:
    """What is to be warned of, stage by stage."""
    if assembly.graph is None or assembly.issues:
        return []
    return sorted(
        (issue for rule in RULES for issue in rule(assembly)),
        key=lambda issue: -1 if issue.stage is None else issue.stage,
    )


def find_unused_values(assembly: Assembly) -> Iterator[GraphIssue]:
    """Values that no later stage takes. What such a stage takes instead is often a misspelt name,
    which became a request field.

    A model, or a function that is called, gives what it gives: where some of it is used, and
    nothing seems misspelt, there is no warning for the rest.
    """
    spec = assembly.spec
    late = _late_fields(assembly)
    misplaced = {issue.stage for issue in find_misplaced_stages(assembly)}
    for index, unused in unused_values(assembly).items():
        if index in misplaced:
            continue
        stage = spec.graph[index]
        misspelt = next(
            (
                (name, *taken)
                for name, type_ in unused.items()
                if (taken := _fitting_field(type_, late))
            ),
            None,
        )
        if misspelt is not None:
            name, taker, field = misspelt
            message = (
                f"stage {stage.stage!r} gives {name!r}, which no stage takes; {taker!r} takes"
                f" {field!r}, which is a request field: did you mean {name!r}? 'inputs:"
                f" {{{field}: {field}}}' in {taker!r} says that it is one."
            )
            yield GraphIssue(index, stage.kind, message)
        elif isinstance(assembly.stages[index], ResolvedPython) or len(unused) == len(
            assembly.nodes[index].named_values
        ):
            names = ", ".join(map(repr, unused))
            message = (
                f"stage {stage.stage!r} gives {names}, which no stage takes and no caller gets."
            )
            yield GraphIssue(index, stage.kind, message)


def _late_fields(assembly: Assembly) -> dict[str, tuple[str, Port]]:
    """Request fields that a later stage is the first to take, without a line in ``inputs`` that
    says that they are fields: by name, the stage and the field.
    """
    graph = assembly.graph
    assert graph is not None
    first: dict[str, tuple[int, str]] = {}
    for index, (stage, sources) in enumerate(zip(assembly.spec.graph, graph.sources, strict=True)):
        for port, name in sources.items():
            if name in graph.fields:
                first.setdefault(name, (index, "" if port in stage.inputs else stage.stage))
    return {
        name: (taker, graph.fields[name])
        for name, (index, taker) in first.items()
        if index and taker
    }


def _fitting_field(
    type_: ValueType, late: Mapping[str, tuple[str, Port]]
) -> tuple[str, str] | None:
    """The first late field that a value of this type fits: the stage that takes it, and its
    name.
    """
    for name, (taker, port) in late.items():
        if not incompatibility(type_, port.type):
            return taker, name
    return None


def find_unexpected_none(assembly: Assembly) -> Iterator[GraphIssue]:
    """Values that may be None, or have None among their elements, and that a later stage takes
    without: a type checker would refuse them, and a row with None fails in that stage. (Of lists
    that ``each`` gathers the elements are not looked at.)
    """
    graph = assembly.graph
    assert graph is not None
    nullable: dict[str, tuple[Node, ValueType]] = {}
    for index, (node, sources) in enumerate(zip(assembly.nodes, graph.sources, strict=True)):
        for port in node.takes:
            name = sources.get(port.name, "")
            giver, type_ = nullable.get(name, (None, ANY))
            is_looked_at = node.when is not None and node.when.value == name
            if giver is None or giver.each != node.each or is_looked_at:
                continue
            if port.type.is_any or port.annotation is object:
                continue
            if type_.may_be_none and not takes_none(port.annotation):
                message = (
                    f"stage {giver.name!r} may give None as {name!r}, which {node.name!r} takes"
                    f" without: such a row fails. Annotate {port.name!r} '| None', or raise"
                    f" RequestError in {giver.name!r}."
                )
                yield GraphIssue(index, node.kind, message)
            elif _has_gaps(type_) and not elements_take_none(port.annotation):
                message = (
                    f"stage {giver.name!r} may give None among the elements of {name!r}, which"
                    f" {node.name!r} takes without: such a row fails. Annotate the elements"
                    f" '| None' in {node.name!r}, or give none in {giver.name!r}: a model may take"
                    " float('nan')."
                )
                yield GraphIssue(index, node.kind, message)
        for name, type_ in node.named_values.items():
            if type_.may_be_none or _has_gaps(type_):
                nullable[name] = node, type_
            elif node.when is None:
                nullable.pop(name, None)


def _has_gaps(type_: ValueType) -> bool:
    return type_.container == "list" and elements_take_none(type_.annotation)


def find_unawaited_calls(assembly: Assembly) -> Iterator[GraphIssue]:
    """Calls of coroutine functions in a stage's own code whose ``await`` is missing."""
    for index, stage in enumerate(assembly.stages):
        if isinstance(stage, ResolvedPython):
            for message in find_forgotten_awaits(stage.target):
                yield GraphIssue(index, "python", message)


def find_models_of_one_row(assembly: Assembly) -> Iterator[GraphIssue]:
    """Models that an export has frozen at one row: they serve, and never a batch."""
    for index, (stage, resolved) in enumerate(
        zip(assembly.spec.graph, assembly.stages, strict=True)
    ):
        if not isinstance(resolved, ResolvedModel) or not stage.rows or resolved.info.batchable:
            continue
        tensors = (*resolved.info.inputs, *resolved.info.outputs)
        if resolved.info.inputs and all(tensor.shape[:1] == (1,) for tensor in tensors):
            name = resolved.info.inputs[0].name
            message = (
                f"{resolved.path.name} takes one row at a time: the first dimension of all its"
                " inputs and outputs is fixed at 1, so no rows share a run. Export it with a free"
                f" one: torch.onnx.export(…, dynamic_axes={{{name!r}: {{0: 'rows'}}, …}}), or with"
                " dynamo=True dynamic_shapes=({0: torch.export.Dim('rows')},). `rows: false` on"
                " the stage says that it is meant so."
            )
            yield GraphIssue(index, "onnx", message)


def find_unshaped_arrays(assembly: Assembly) -> Iterator[GraphIssue]:
    """Arrays of any shape that a model takes in one shape alone: a row with another one fails."""
    graph = assembly.graph
    assert graph is not None
    given: dict[str, tuple[Node, ValueType]] = {}
    for index, (node, sources) in enumerate(zip(assembly.nodes, graph.sources, strict=True)):
        for port in node.takes if node.kind == "onnx" else ():
            name = sources.get(port.name, "")
            giver, type_ = given.get(name, (None, ANY))
            if giver is None or giver.each != node.each or type_.container != "array":
                continue
            fixed = [dim for dim in port.type.shape or () if dim != -1]
            if type_.shape is None and fixed:
                message = (
                    f"stage {giver.name!r} gives {name!r}, an array of any shape, and {node.name!r}"
                    f" takes it as {list(port.type.shape or ())} alone: a row of another shape"
                    f" fails. Annotate {giver.name!r} to give `{format_annotation(port.type)}`."
                )
                yield GraphIssue(index, node.kind, message)
        given |= {name: (node, type_) for name, type_ in node.named_values.items()}


RULES: Final[tuple[Rule, ...]] = (
    find_unused_values,
    find_unawaited_calls,
    find_models_of_one_row,
    find_unshaped_arrays,
    find_unexpected_none,
    find_ineffective_batching,
)
