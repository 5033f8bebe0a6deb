"""Splits functions: a stage with a ``deployment`` becomes a function of its own, which the function
it belongs to calls. Pure: declarations in, declarations out.

    ocr:  detect, crop, recognise (deployment: {...}), answer

becomes

    ocr.recognise:  recognise
    ocr:            detect, crop, recognise (function: ocr.recognise), answer

A split stage is a function like any other: it sleeps, wakes, scales, is refused and is shown. Its
request fields are what the stage takes, its answer is what the stage gives. How the function feeds
it (``each``, ``stream``, ``when``, ``inputs``, ``outputs``) stays with the function, so the split
function computes what the fused one does.

One process runs such stages within their function and has split stages only where other functions
call them (``with_called_stages``); a cluster deploys them all (``expand``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from runtime.declaration.function_spec import DeclaredSpec, FunctionSpec, StageSpec

_FLOW_KEYS = frozenset({"each", "stream", "ordered", "when", "inputs", "outputs", "deployment"})
"""Keys of a stage that connect it to the other stages; the others go to the split stage."""


@dataclass(frozen=True, slots=True)
class SplitIssue:
    """A stage that cannot become a function.

    Attributes:
        function: the function it belongs to.
        stage: its index there.
        key: the key of the stage that is wrong.
        message: why, and what to do.
    """

    function: str
    stage: int
    key: str
    message: str


def split_stage_name(function: str, stage: str) -> str:
    """The name of a split stage; its route prefix ends in the same way."""
    return f"{function}.{stage}"


def split_stages_of(spec: DeclaredSpec) -> tuple[FunctionSpec, ...]:
    """The functions that the stages of a function become, in the order of its graph.

    Raises:
        pydantic.ValidationError: ``split_issues`` says why, with the stage.
    """
    return tuple(_split_stage(spec, stage) for stage in spec.graph if stage.deployment is not None)


def without_split_stages(spec: DeclaredSpec) -> FunctionSpec:
    """The function with a call in the place of each split stage."""
    whole = FunctionSpec.of(spec)
    if not any(stage.deployment for stage in spec.graph):
        return whole
    graph = tuple(
        stage if stage.deployment is None else _call_stage(spec.name, stage) for stage in spec.graph
    )
    return whole.model_copy(update={"graph": graph})


def expand(functions: Iterable[DeclaredSpec]) -> tuple[FunctionSpec, ...]:
    """Every function and every split stage, each split stage before the function it belongs to."""
    return tuple(
        function
        for spec in functions
        for function in (*split_stages_of(spec), without_split_stages(spec))
    )


def with_called_stages(
    functions: Sequence[DeclaredSpec], called: Collection[str]
) -> tuple[FunctionSpec, ...]:
    """For one process: the functions as they are, after the split stages that stages of other
    functions call.

    Args:
        called: the names of all functions that stages call.
    """
    split = {stage.name: stage for spec in functions for stage in split_stages_of(spec)}
    # the message on a misspelt name lists all of them
    is_known = split.keys() | {spec.name for spec in functions} >= set(called)
    found = [stage for name, stage in split.items() if name in called or not is_known]
    return (*found, *map(FunctionSpec.of, functions))


def parents_of(functions: Iterable[DeclaredSpec]) -> dict[str, tuple[str, int]]:
    """By the name of a split stage: the function it belongs to, and its index there."""
    return {
        split_stage_name(spec.name, stage.stage): (spec.name, index)
        for spec in functions
        for index, stage in enumerate(spec.graph)
        if stage.deployment is not None
    }


def split_issues(functions: Sequence[DeclaredSpec]) -> Iterator[SplitIssue]:
    """What is wrong with stages that have a ``deployment``, as far as declarations tell."""
    names = {spec.name for spec in functions}
    prefixes = {spec.route_prefix: spec.name for spec in functions}
    for spec in functions:
        for index, stage in enumerate(spec.graph):
            if stage.deployment is None:
                continue
            name, prefix = (
                split_stage_name(spec.name, stage.stage),
                split_stage_name(spec.route_prefix, stage.stage),
            )
            if name in names or prefix in prefixes:
                taken = name if name in names else prefixes[prefix]
                message = (
                    f"it becomes the function {name!r} at {prefix}, and {taken!r} is declared so "
                    "already. Name the stage otherwise."
                )
                yield SplitIssue(spec.name, index, "stage", message)
                continue
            try:
                _split_stage(spec, stage)
            except ValidationError as error:
                why = "; ".join(
                    detail["msg"].removeprefix("Value error, ") for detail in error.errors()
                )
                yield SplitIssue(
                    spec.name,
                    index,
                    "deployment",
                    f"as the function {name!r} it cannot be declared: {why}",
                )


def _split_stage(spec: DeclaredSpec, stage: StageSpec) -> FunctionSpec:
    assert stage.deployment is not None
    deployment = stage.deployment
    own = {key: value for key, value in _as_declared(stage).items() if key not in _FLOW_KEYS}
    args = {
        "description": f"The stage {stage.stage} of {spec.name}.",
        "graph": [own],
        "batching": _as_declared(deployment.batching or spec.batching),
        "resources": _as_declared(deployment.resources()),
        "autoscaling": _as_declared(deployment.autoscaling()),
        "limits": _as_declared(spec.limits),
    }
    declared = DeclaredSpec.from_args(
        split_stage_name(spec.name, stage.stage),
        split_stage_name(spec.route_prefix, stage.stage),
        args,
    )
    return FunctionSpec.of(declared, part_of=spec.name)


def _call_stage(function: str, stage: StageSpec) -> StageSpec:
    flow = {
        key: value
        for key, value in _as_declared(stage).items()
        if key in _FLOW_KEYS and key != "deployment"
    }
    call = {"stage": stage.stage, "function": split_stage_name(function, stage.stage), **flow}
    return StageSpec.model_validate(call, by_alias=True, by_name=False)


def _as_declared(declared: BaseModel) -> dict[str, object]:
    """A section as the file has it: what is not set stays unset, so that `explain` can tell
    defaults.
    """
    return declared.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
