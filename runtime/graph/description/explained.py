"""A function's graph as it is shown: its stages in the order of the flow, what each takes and
gives, and where each runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NotRequired, TypedDict

from runtime.graph.description.settings import find_origins
from runtime.graph.lint.batching_report import describe_batching
from runtime.graph.resolved_stages import (
    ResolvedCallee,
    ResolvedPython,
    ResolvedStage,
    calls_of_stage,
)
from runtime.types.conditions import parse_condition

if TYPE_CHECKING:
    from runtime.declaration.function_spec import FunctionSpec, StageSpec
    from runtime.graph.assembly import Assembly
    from runtime.graph.resolve import ResolvedConfig


class StageCall(TypedDict):
    """A function that a Python stage is given, to call it; ``runs``: its replicas and resources, in
    words; ``at_load``: when the stage is constructed.
    """

    function: str
    at_load: bool
    runs: str


class ExplainedStage(TypedDict):
    """A stage.

    Attributes:
        kind, what: ``python``, ``onnx`` or ``function``, and which.
        takes, gives: names of values.
        each: the value whose elements it runs over; empty: once a row.
        when: which rows it runs for, in words; empty: all.
        reads: the value that this is decided by; empty: none.
        runs: of a call of another function, where that runs, in words; else empty.
        calls: functions that it is given.
        batch: what is in a batch of it, in words; empty: it follows in that of the stage before.
        threads: that it has of its own; 0: none.
        is_split: it has a deployment of its own.
        streams: what it gives is sent as it is made.
    """

    stage: str
    kind: str
    what: str
    takes: list[str]
    gives: list[str]
    each: str
    when: str
    reads: str
    runs: str
    calls: list[StageCall]
    batch: str
    threads: int
    is_split: bool
    streams: bool


class ExplainedFunction(TypedDict):
    """A function.

    Attributes:
        fields, answer: names of what a request has, and of what is answered, each with its type as
            it is written in Python.
        origins: where settings come from that the file has: ``FILE:LINE`` by key.
    """

    fields: dict[str, str]
    answer: dict[str, str]
    stages: list[ExplainedStage]
    origins: NotRequired[dict[str, str]]


def explain_function(
    name: str, config: ResolvedConfig, specs: Mapping[str, FunctionSpec]
) -> ExplainedFunction | None:
    """Return a function's graph, and where its settings come from; None where it is not known, or
    has an issue.

    Args:
        name: of a function of the file, or of a split stage.
        specs: every function by name.
    """
    assembly = config.assemblies.get(name)
    explained = None if assembly is None else explain_graph(assembly, specs)
    if explained is not None and assembly is not None:
        explained["origins"] = find_origins(assembly.spec, config)
    return explained


def explain_graph(
    assembly: Assembly, specs: Mapping[str, FunctionSpec]
) -> ExplainedFunction | None:
    """Return a function's graph; None where it has an issue.

    Args:
        specs: every function by name.
    """
    spec, graph = assembly.spec, assembly.graph
    if graph is None or assembly.issues:
        return None
    batches = {batch.stages[0]: batch.by for batch in describe_batching(assembly) if batch.stages}
    found = [
        _explain_stage(stage, part, tuple(sources.values()), specs, batches.get(stage.stage, ""))
        for stage, part, sources in zip(spec.graph, assembly.stages, graph.sources, strict=True)
    ]
    found[-1]["streams"] = graph.streams
    return {
        "fields": {
            name: f"{port.type}{'' if port.is_required else ', optional'}"
            for name, port in graph.fields.items()
        },
        "answer": {name: str(kind) for name, kind in graph.answer.items()},
        "stages": found,
    }


def _explain_stage(
    stage: StageSpec,
    part: ResolvedStage | None,
    takes: tuple[str, ...],
    specs: Mapping[str, FunctionSpec],
    batch: str,
) -> ExplainedStage:
    condition = None if stage.when is None else parse_condition(stage.when)
    called = specs.get(stage.function) if stage.function else None
    return {
        "stage": stage.stage,
        "kind": stage.kind,
        "what": stage.onnx or stage.python or stage.function or "",
        "takes": list(takes),
        "gives": [stage.outputs.get(name, name) for name in _given(stage, part)],
        "each": stage.each or "",
        "when": "" if condition is None else str(condition),
        "reads": "" if condition is None else condition.value,
        "runs": resources_text(called) if called else "",
        "calls": [
            {
                "function": call.function,
                "at_load": call.at_load,
                "runs": resources_text(specs[call.function]) if call.function in specs else "",
            }
            for call in (() if stage.function else calls_of_stage(stage))
        ],
        "batch": batch,
        "threads": stage.threads or 0,
        "is_split": stage.deployment is not None,
        "streams": False,
    }


def _given(stage: StageSpec, part: ResolvedStage | None) -> Iterable[str]:
    if isinstance(part, ResolvedPython):
        return [name or stage.stage for name in part.signature.gives]
    if isinstance(part, ResolvedCallee):
        return part.gives
    return [output.name for output in part.info.outputs] if part else ()


def resources_text(called: FunctionSpec) -> str:
    """Return the replicas and resources of a function that a stage calls."""
    resources, scaling = called.resources, called.autoscaling
    gpus = f", {resources.num_gpus:g} GPUs" if resources.num_gpus else ""
    cpus = f"{resources.num_cpus:g} CPU{'' if resources.num_cpus == 1 else 's'}"
    return f"{scaling.min_replicas} to {scaling.max_replicas} replicas of {cpus}{gpus}"
