"""A function whose stages have deployments of their own, as functions that call each other: pure, plain declarations in and out.

    ocr:  detect, crop, recognise (deployment: {…}), answer
    ocr.recognise:  recognise               ocr:  detect, crop, recognise (function: ocr.recognise), answer

The part is a function like any other, one that nobody wrote: it sleeps, wakes, scales, is refused and shown like all of them. What the
stage takes are its fields, what the stage gives its answer; how the function feeds it (``each``, ``when``, ``inputs``, ``outputs``) stays
with the function. So the split function computes what the fused one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from runtime.declaration.references import references
from runtime.spec import FunctionSpec, StageSpec

WITH_THE_FUNCTION = frozenset({"each", "when", "inputs", "outputs", "deployment"})
"""Keys of a stage that say where it stands among the others; the rest is the part's."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A stage that cannot be split off.

    Attributes:
        function: the name of its function.
        stage: its index there.
        key: of the stage.
        message: why, and what to do.
    """

    function: str
    stage: int
    key: str
    message: str


def part_name(function: str, stage: str) -> str:
    """What a stage that is split off is called; its prefix ends so too."""
    return f"{function}.{stage}"


def parts(spec: FunctionSpec) -> tuple[FunctionSpec, ...]:
    """The functions that a function's split-off stages become, in the order of its graph.

    Raises:
        pydantic.ValidationError: ``misfits`` says why, with the stage.
    """
    return tuple(_part(spec, stage) for stage in spec.graph if stage.deployment is not None)


def without_parts(spec: FunctionSpec) -> FunctionSpec:
    """The function with calls where those stages stood."""
    if not any(stage.deployment for stage in spec.graph):
        return spec
    graph = tuple(stage if stage.deployment is None else _call(spec.name, stage) for stage in spec.graph)
    return spec.model_copy(update={"graph": graph})


def fused(spec: FunctionSpec) -> FunctionSpec:
    """The function in one process, whatever stands under ``deployment``."""
    graph = tuple(stage if stage.deployment is None else stage.model_copy(update={"deployment": None}) for stage in spec.graph)
    return spec.model_copy(update={"graph": graph})


def expanded(functions: Iterable[FunctionSpec]) -> tuple[FunctionSpec, ...]:
    """Every function and every part, each part before the function that it was split off from."""
    return tuple(each for spec in functions for each in (*parts(spec), without_parts(spec)))


def owners(functions: Iterable[FunctionSpec]) -> dict[str, tuple[str, int]]:
    """By the name of a part: whose it is, and which stage of that."""
    return {
        part_name(spec.name, stage.stage): (spec.name, index)
        for spec in functions
        for index, stage in enumerate(spec.graph)
        if stage.deployment is not None
    }


def misfits(functions: Sequence[FunctionSpec]) -> Iterator[Misfit]:
    """What is wrong with the stages that are to be split off, as far as declarations tell."""
    names = {spec.name for spec in functions}
    prefixes = {spec.route_prefix: spec.name for spec in functions}
    for spec in functions:
        for index, stage in enumerate(spec.graph):
            if stage.deployment is None:
                continue
            name, prefix = part_name(spec.name, stage.stage), part_name(spec.route_prefix, stage.stage)
            if name in names or prefix in prefixes:
                taken = name if name in names else prefixes[prefix]
                message = f"it becomes the function {name!r} at {prefix}, and {taken!r} is declared so already. Name the stage otherwise."
                yield Misfit(spec.name, index, "stage", message)
                continue
            try:
                _part(spec, stage)
            except ValidationError as error:
                said = "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors())
                yield Misfit(spec.name, index, "deployment", f"as the function {name!r} it cannot be declared: {said}")


def _part(spec: FunctionSpec, stage: StageSpec) -> FunctionSpec:
    assert stage.deployment is not None
    deployment = stage.deployment
    kept = {key: value for key, value in _written(stage).items() if key not in WITH_THE_FUNCTION}
    secrets = {name: spec.secrets[name] for _, name in references(stage.with_) if name in spec.secrets}
    args = {
        "description": f"The stage {stage.stage} of {spec.name}.",
        "graph": [kept],
        "batching": _written(deployment.batching or spec.batching),
        "resources": _written(deployment.resources()),
        "autoscaling": _written(deployment.autoscaling()),
        "limits": _written(spec.limits),
        "secrets": secrets,
    }
    return FunctionSpec.from_args(part_name(spec.name, stage.stage), part_name(spec.route_prefix, stage.stage), args)


def _call(function: str, stage: StageSpec) -> StageSpec:
    kept = {key: value for key, value in _written(stage).items() if key in WITH_THE_FUNCTION and key != "deployment"}
    call = {"stage": stage.stage, "function": part_name(function, stage.stage), **kept}
    return StageSpec.model_validate(call, by_alias=True, by_name=False)


def _written(declared: BaseModel) -> dict[str, object]:
    """A section as it stands in a file: what was not set stays so, for `explain` says what is a default."""
    return declared.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
