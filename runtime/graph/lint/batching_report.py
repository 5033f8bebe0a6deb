"""What batches where, in words, of a function that is not loaded; and the rule that warns of
batching that is declared and has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from runtime.batching.policy import BatchLimits, python_batch_limits
from runtime.declaration.function_spec import FunctionSpec, StageSpec
from runtime.graph.assembly import Assembly
from runtime.graph.graph import GraphIssue
from runtime.graph.resolved_stages import (
    ResolvedCallee,
    ResolvedModel,
    ResolvedPython,
    ResolvedStage,
    threads_of,
)
from runtime.graph.segmentation import (
    StageKind,
    StageType,
    batch_limits_of,
    gathers_rows,
    group_stages,
    type_of_signature,
    waits_before,
)
from runtime.types.conditions import Condition

_MAX_PYTHON_ROWS: Final = python_batch_limits(1e-9).max_batch_size


@dataclass(frozen=True, slots=True)
class BatchingReport:
    """Stages that run on one batch.

    Attributes:
        stages: names.
        by: what is in a batch, in words.
    """

    stages: tuple[str, ...]
    by: str


def describe_batching(assembly: Assembly) -> list[BatchingReport]:
    """Where rows are gathered, in the order of the graph, of an assembly without issues. Models
    that follow each other on a device go on with one batch, which is known only once they are
    loaded.
    """
    spec = assembly.spec
    kinds = _stage_kinds(assembly)
    groups = group_stages(kinds)
    found = []
    for number, group in enumerate(groups):
        first = group[0]
        waits = not number or not waits_before(kinds[groups[number - 1][0]], kinds[first])
        by = _describe(spec, spec.graph[first], assembly.stages[first], kinds[first], waits=waits)
        found.append(BatchingReport(tuple(spec.graph[at].stage for at in group), by))
    return found


def find_ineffective_batching(assembly: Assembly) -> Iterator[GraphIssue]:
    """A rule of ``check``: declared batching that has no effect."""
    spec, kinds = assembly.spec, _stage_kinds(assembly)
    written = spec.batching.model_fields_set
    if written and not any(gathers_rows(kind.type) for kind in kinds):
        message = (
            "nothing is batched here: no model has a rows axis, and no stage takes `Rows`. Delete"
            " it, or annotate a stage's parameters as `Rows[...]`, so that it is called with all"
            " rows of a batch."
        )
        yield GraphIssue(None, "batching", message)
        return
    for key in ("run_cost", "max_padding"):
        if key in written and not any(stage.pad for stage in spec.graph):
            message = (
                "it is about padding, and no model's input may be padded: rows of identical shapes"
                " share a run. Delete it, or name inputs in `pad`."
            )
            yield GraphIssue(None, f"batching.{key}", message)
    if "max_batch_cost" in written and not any(kind.is_ragged for kind in kinds):
        message = "no model here takes rows of unlike shapes, so only rows count. Delete it."
        yield GraphIssue(None, "batching.max_batch_cost", message)
    for index, (stage, kind) in enumerate(zip(spec.graph, kinds, strict=True)):
        deployment = stage.deployment
        if deployment is not None and deployment.batching is not None:
            if gathers_rows(kind.type):
                continue
            message = (
                f"stage {stage.stage!r} is not batched: it takes a row at a time. Delete it, or"
                " annotate its parameters as `Rows[...]`."
            )
            yield GraphIssue(index, "deployment.batching", message)


def _stage_kinds(assembly: Assembly) -> list[StageKind]:
    return [
        replace(
            _kind_of(resolved, node.each, node.when, frozenset(node.named_values)),
            threads=threads_of(stage, resolved),
        )
        for resolved, node, stage in zip(
            assembly.stages, assembly.nodes, assembly.spec.graph, strict=True
        )
    ]


def _kind_of(
    resolved: ResolvedStage | None, each: str | None, when: Condition | None, gives: frozenset[str]
) -> StageKind:
    if isinstance(resolved, ResolvedPython):
        return StageKind(type_of_signature(resolved.signature), each, when, gives)
    if not isinstance(resolved, ResolvedModel):
        return StageKind("function", each, when)
    info = resolved.info
    type_: StageType = "model" if info.batchable else "runs"
    is_ragged = info.batchable and any(-1 in spec.shape[1:] for spec in info.inputs)
    return StageKind(type_, each, when, gives, is_ragged=is_ragged)


def _describe(
    spec: FunctionSpec,
    stage: StageSpec,
    resolved: ResolvedStage | None,
    kind: StageKind,
    *,
    waits: bool,
) -> str:
    limits = batch_limits_of(spec.batching, waits=waits, is_model=kind.type == "model")
    threads = f", in {kind.threads} threads" if kind.threads else ""
    if kind.type == "rows":
        return f"all rows at once, up to {limits.max_batch_size}{_describe_wait(limits)}{threads}"
    if kind.type == "model":
        assert isinstance(resolved, ResolvedModel)
        shapes = _describe_shapes(stage, resolved, kind, limits)
        return f"up to {limits.max_batch_size} rows a run{shapes}{_describe_wait(limits)}"
    if isinstance(resolved, ResolvedCallee):
        return f"the rows of a call together, batched by {stage.function}"
    if kind.type == "runs":
        return "each row a run of its own, since the model has no rows axis"
    if kind.type == "coroutine":
        return "each row by itself, on the event loop"
    if "stream" in kind.type:
        return f"each row by itself, item by item{threads}"
    return f"a row at a time, up to {_MAX_PYTHON_ROWS} taken at once{threads}"


def _describe_shapes(
    stage: StageSpec, model: ResolvedModel, kind: StageKind, limits: BatchLimits
) -> str:
    if not kind.is_ragged:
        return ""
    unpadded = [
        spec.name
        for spec in model.info.inputs
        if -1 in spec.shape[1:] and spec.name not in stage.pad
    ]
    text = f", of identical shapes in {', '.join(unpadded)}" if unpadded else ""
    if stage.pad:
        costs = f"run_cost {limits.run_cost}, max_padding {limits.max_padding:g}"
        text += f", padded in {', '.join(stage.pad)} ({costs})"
    if limits.max_batch_cost is not None:
        text += f", up to {limits.max_batch_cost} elements"
    return text


def _describe_wait(limits: BatchLimits) -> str:
    if not limits.batch_wait_timeout_s:
        return ""
    return f", after {limits.batch_wait_timeout_s:g} s at most"
