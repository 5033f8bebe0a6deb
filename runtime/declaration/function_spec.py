"""A function as declared: everything under ``args`` of its application, with its name and prefix;
and what a function knows of those that its stages call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from runtime.declaration.constrained_types import (
    FunctionPrefix,
    MediaRange,
    ModelName,
    Name,
    TaskName,
)
from runtime.declaration.sections import (
    AutoscalingSpec,
    BatchingSpec,
    CaptureSpec,
    LimitsSpec,
    ResourcesSpec,
    SequencesSpec,
    SloSpec,
)
from runtime.declaration.stage_spec import DeploymentSpec, StageSpec
from runtime.declaration.validation import JsonObject, KeyPath, StrictModel, validation_error


class CalleeSpec(StrictModel):
    """What a caller knows of a function that its stages call. Written by ``wakeful up`` and
    ``wakeful export`` when they read a file (``runtime.graph.resolve``).
    """

    route_prefix: str = Field(description="Where it is called.")
    also_at: list[str] = Field(
        default_factory=list,
        description="Other prefixes where it may be, while an update moves it.",
    )
    args: JsonObject = Field(description="Its declaration.")
    takes: dict[str, JsonObject] = Field(
        description=(
            "Its request fields: `datatype`, `shape`, `container`, and where one has it the"
            " `default`, or that it `has_default`."
        )
    )
    gives: dict[str, JsonObject] = Field(description="What it answers, likewise.")
    at_load: bool = Field(
        False,
        description=(
            "Whether a stage is given it when it is constructed: what it made with it is of that"
            " version of it."
        ),
    )

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Where it may be, the likeliest first."""
        return (self.route_prefix, *self.also_at)


__all__ = [
    "LIVE_SECTIONS",
    "AutoscalingSpec",
    "BatchingSpec",
    "CalleeSpec",
    "CaptureSpec",
    "DeploymentSpec",
    "FunctionArgs",
    "FunctionSpec",
    "LimitsSpec",
    "ResourcesSpec",
    "SequencesSpec",
    "SloSpec",
    "StageSpec",
    "hash_of",
    "live_settings",
    "version_hash",
    "with_live_settings",
]

LIVE_SECTIONS: Final = ("batching", "limits", "slo", "capture", "sequences")
"""Sections that change while a function runs."""


class FunctionArgs(StrictModel):
    """The keys under ``args``. Instead of ``graph``, a bare model may be written as ``onnx`` (and
    ``sha256``, ``weights``).
    """

    SHORT_KEYS: ClassVar[tuple[str, ...]] = ("onnx", "sha256", "weights")
    """Keys that are short for a graph of one stage, ``model``."""

    MADE_KEYS: ClassVar[tuple[str, ...]] = ("calls", "part_of", "secrets", "made_of")
    """Keys that commands write, and people do not."""

    description: str = Field(
        "",
        description=(
            "What the function does, for readers of the catalogue. Empty: the name says it."
        ),
    )
    graph: tuple[StageSpec, ...] = Field(
        (),
        strict=False,
        description=(
            "The stages, in the order of the flow: one at least. A bare model has `onnx: PATH` (and"
            " `sha256:`) instead; its stage is `model`. A model by name has `model`."
        ),
    )
    task: TaskName | None = Field(
        None,
        description=(
            "What the function does, by the name that model hubs have for it: it then takes and"
            " gives what [the task says](models.md), which is checked. Unset: it promises nothing."
        ),
    )
    model: ModelName | None = Field(
        None,
        description=(
            "A whole model by its name instead of `graph`: `hf:ORG/REPO@COMMIT`, which `wakeful"
            " add` writes, or a folder with an ONNX file and the model's configuration. With"
            " `task`; [the stages](models.md) are made of both."
        ),
    )
    quantize: Literal["int8"] | None = Field(
        None,
        description=(
            "`int8`: the model's float32 products in int8, rounded row by row, if its answers stay"
            " close to the float model's, which `wakeful models pull` measures. Unset: as it is."
        ),
    )
    accepts: tuple[MediaRange, ...] = Field(
        (),
        strict=False,
        description=(
            "Content types whose body is the function's one required field, of type `bytes`, as it"
            " is: `image/png`, `audio/*`, or `*/*` for all but JSON and forms in parts. JSON, forms"
            " and lines of JSON are taken in any case. Unset: these alone."
        ),
    )
    batching: BatchingSpec = Field(
        BatchingSpec(),
        description="Which rows share a run of the models, or a call of a stage that takes `Rows`.",
    )
    resources: ResourcesSpec = Field(
        ResourcesSpec(), description="What a replica takes of its machine."
    )
    autoscaling: AutoscalingSpec = Field(
        AutoscalingSpec(), description="How many replicas there are."
    )
    limits: LimitsSpec = Field(
        LimitsSpec(), description="What is refused at once instead of answered late."
    )
    tier: Literal["auto", "own"] = Field(
        "auto",
        description=(
            "`auto`: in the shared host while rare, a deployment of its own while busy, which costs"
            " least. `own`: always its own."
        ),
    )
    slo: SloSpec = Field(SloSpec(), description="What the function promises.")
    capture: CaptureSpec = Field(
        CaptureSpec(), description="Which calls are recorded, to be replayed."
    )
    sequences: SequencesSpec | None = Field(
        None,
        description=(
            "Calls that belong together. Needed where a stage takes a `State`, and refused"
            " elsewhere; `{}` is the defaults."
        ),
    )
    example: JsonObject | None = Field(
        None,
        description=(
            "One request, as a caller sends it: run at warm-up, shown in the catalogue. What stands"
            " in a file is `!file sample.png`, in the place of any value. Unset: models warm up on"
            " made-up tensors, and the first answer of a function with other stages is not tried"
            " before its first call."
        ),
    )
    calls: dict[str, CalleeSpec] = Field(
        default={},
        description=(
            "What is known of the functions that stages call. `wakeful up` and `wakeful export`"
            " write it; you do not."
        ),
    )
    part_of: str = Field(
        "",
        description=(
            "The function whose stage it is, by its `deployment`: then only functions call it,"
            " no client outside. `wakeful up` and `wakeful export` write it; you do not."
        ),
    )
    secrets: dict[str, str] = Field(
        default={},
        description=(
            "The mark of each `${NAME}` in the graph, which changes with its value. `wakeful up`"
            " writes it; you do not."
        ),
    )
    made_of: dict[str, str] = Field(
        default={},
        description=(
            "Hashes of the code, the models and the files that it consists of: with another, it is"
            " another version. `wakeful up` and `wakeful export` write them; you do not."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, data: Any) -> Any:
        """Replace ``onnx: path`` by its graph."""
        if not isinstance(data, Mapping) or not any(key in data for key in cls.SHORT_KEYS):
            return data
        short = [key for key in cls.SHORT_KEYS if key in data]
        if "graph" in data:
            raise validation_error(
                f"`{short[0]}` and `graph` both stand here. Write the model as a stage of the"
                " graph.",
                (short[0],),
            )
        rest = {key: value for key, value in data.items() if key not in short}
        return {**rest, "graph": [{"stage": "model", **{key: data[key] for key in short}}]}

    @staticmethod
    def path_as_written(path: KeyPath, data: Any) -> KeyPath:
        """The path of a key of the graph in args that were written as ``onnx: path``."""
        return path[2:] if path[:2] == ("graph", 0) and "graph" not in data else path

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        size, ongoing = self.batching.max_batch_size, self.limits.max_ongoing_requests
        if size > ongoing:
            at, other = ("batching", "max_batch_size"), ("limits", "max_ongoing_requests")
            if "max_batch_size" not in self.batching.model_fields_set:
                at, other = other, at
            reason = f"{ongoing} requests of a row each never fill a batch of {size}"
            raise validation_error(
                f"`max_batch_size` above `max_ongoing_requests`: {reason}. Lower the one or raise"
                " the other.",
                at,
                also=[other],
            )
        self._check_model()
        if not self.graph and self.model is None:
            raise validation_error(
                "neither `graph` nor `onnx` nor `model` stands here. A function has at least one"
                " stage.",
                also=[("graph",), ("onnx",), ("model",)],
            )
        first: dict[str, int] = {}
        for index, stage in enumerate(self.graph):
            if stage.stage in first:
                message = (
                    f"{stage.stage!r} is also the name of graph[{first[stage.stage]}]. Give each"
                    " stage a name of its own."
                )
                raise validation_error(message, ("graph", index, "stage"))
            first[stage.stage] = index
        return self

    def _check_model(self) -> None:
        """A model by name stands for the whole graph."""
        if self.model is None:
            if self.quantize is not None:
                raise validation_error(
                    "`quantize` is about a model by name, and no `model` stands here. Delete it.",
                    ("quantize",),
                    also=[("model",)],
                )
            return
        if self.graph:
            raise validation_error(
                "`model` stands for a whole graph, and `graph` or `onnx` stands here too. Delete"
                " one of the two; `wakeful explain` shows the stages of `model`, to be copied.",
                ("model",),
            )
        if self.task is None:
            tasks = ", ".join(get_args(TaskName))
            raise validation_error(
                f"`model` needs `task`, one of {tasks}: it says which stages the model has.",
                ("model",),
                also=[("task",)],
            )


class FunctionSpec(FunctionArgs):
    """A function: its name, where it is called, and its ``args``."""

    name: Name = Field(
        description="The function's name, unique in the file: letters, digits, `.`, `_`, `-`."
    )
    route_prefix: FunctionPrefix = Field(
        description="Where it is called, unique in the file; `/v2/models/NAME` by convention."
    )

    @property
    def called_functions(self) -> dict[str, CalleeSpec]:
        """The functions that its stages call, by name, without its own split stages."""
        return {
            name: called
            for name, called in self.calls.items()
            if called.args.get("part_of") != self.name
        }

    @property
    def is_tried(self) -> bool:
        """Whether an answer is computed before the function is ready: to the example, or, where
        all stages are models, to made-up values.
        """
        return self.example is not None or all(stage.onnx is not None for stage in self.graph)

    @classmethod
    def from_args(cls, name: str, route_prefix: str, args: Mapping[str, Any]) -> FunctionSpec:
        """The function that an application's ``args`` declare.

        Raises:
            pydantic.ValidationError: an unknown key, a wrong value, or values that exclude each
                other.
        """
        # so that a name among the args is an unknown key
        FunctionArgs.model_validate(args, by_alias=True, by_name=False)
        return cls.model_validate(
            {**args, "name": name, "route_prefix": route_prefix}, by_alias=True, by_name=False
        )

    def to_args(self) -> dict[str, Any]:
        """The ``args`` that declare this function, with every default; plain JSON data."""
        return self.model_dump(
            mode="json", by_alias=True, exclude={"name", "route_prefix"}, exclude_none=True
        )


def version_hash(spec: FunctionSpec) -> str:
    """A hash of what a running replica cannot change: its graph and resources, what it is made of,
    and the interfaces of the functions that it calls; where they are called may change. Stable
    across processes and machines.
    """
    args = spec.to_args()
    callees = {name: [callee.takes, callee.gives] for name, callee in spec.calls.items()}
    own = {key: args[key] for key in ("graph", "resources", "secrets", "accepts", "made_of")}
    return hash_of([own, callees])


def hash_of(data: Any) -> str:
    """A short hash of plain JSON data, the same on every machine."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def live_settings(spec: FunctionSpec) -> dict[str, Any]:
    """What changes while a function runs, as plain JSON data."""
    args = spec.to_args()
    return {section: args[section] for section in LIVE_SECTIONS if section in args}


def with_live_settings(spec: FunctionSpec, changed: Mapping[str, Any]) -> FunctionSpec:
    """The function with other live settings; sections that are not given stay.

    Raises:
        ValueError: a section that needs a restart; a ``pydantic.ValidationError``, which is one,
            for wrong values.
    """
    if fixed := set(changed) - set(LIVE_SECTIONS):
        raise ValueError(
            f"{', '.join(sorted(fixed))} cannot change while a function runs;"
            f" {', '.join(LIVE_SECTIONS)} can."
        )
    return FunctionSpec.from_args(spec.name, spec.route_prefix, {**spec.to_args(), **changed})
