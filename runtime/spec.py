"""A function as declared: everything under ``args`` of its application, and the name and prefix beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from runtime.declaration.called import CalledSpec
from runtime.declaration.complaints import refusal
from runtime.declaration.declared import Declared, JsonObject
from runtime.declaration.grammar import FunctionPrefix, MediaRange, Name
from runtime.declaration.parts import AutoscalingSpec, BatchingSpec, LimitsSpec, ResourcesSpec, SequencesSpec, SloSpec
from runtime.declaration.place import Loc
from runtime.declaration.stage import DeploymentSpec, StageSpec

__all__ = [
    "TUNABLE",
    "ArgsSpec",
    "AutoscalingSpec",
    "BatchingSpec",
    "CalledSpec",
    "DeploymentSpec",
    "FunctionSpec",
    "LimitsSpec",
    "ResourcesSpec",
    "SequencesSpec",
    "SloSpec",
    "StageSpec",
    "from_tunables",
    "identity",
    "tunables",
]

TUNABLE: Final = ("batching", "limits", "slo", "sequences")
"""Sections that change while a function runs."""


class ArgsSpec(Declared):
    """What stands under ``args``. Instead of ``graph``, a bare model may be written as ``onnx`` (and ``sha256``)."""

    SHORT_KEYS: ClassVar[tuple[str, ...]] = ("onnx", "sha256")
    """Keys that stand for a graph of one stage, ``model``."""

    description: str = Field(
        "", description="What the function does, for the people who find it in the catalogue. Empty: the name says it."
    )
    graph: tuple[StageSpec, ...] = Field(
        (),
        strict=False,
        description="The stages, in the order of the flow. For a bare model, `onnx: PATH` (and `sha256:`) instead; its stage is `model`.",
    )
    accepts: tuple[MediaRange, ...] = Field(
        (),
        strict=False,
        description="Content types whose body is the function's one required field, of type `bytes`, as it is: `image/png`, `audio/*`, "
        "or `*/*` for all but JSON. Others are 415. Unset: JSON alone, in which bytes are base64 text.",
    )
    batching: BatchingSpec = Field(BatchingSpec(), description="Which rows share a run of the models.")
    resources: ResourcesSpec = Field(ResourcesSpec(), description="What a replica takes of its machine.")
    autoscaling: AutoscalingSpec = Field(AutoscalingSpec(), description="How many replicas there are.")
    limits: LimitsSpec = Field(LimitsSpec(), description="What is refused at once instead of answered late.")
    tier: Literal["auto", "own"] = Field(
        "auto",
        description="`auto`: in the shared host while rare, a deployment of its own while busy, which costs least. `own`: always its own.",
    )
    slo: SloSpec = Field(SloSpec(), description="What the function promises.")
    sequences: SequencesSpec | None = Field(
        None, description="Calls that belong together. Needed where a stage takes a `State`, and refused elsewhere; `{}` is the defaults."
    )
    example: JsonObject | None = Field(
        None,
        description="One request, as a caller sends it: run at warm-up, shown in the catalogue. Unset: models warm up on made-up tensors.",
    )
    calls: dict[str, CalledSpec] = Field(
        default={},
        description="What is known of the functions that stages call. `wakeful up` and `wakeful export` write it; you do not.",
    )
    secrets: dict[str, str] = Field(
        default={},
        description="The mark of each `${NAME}` in the graph, which changes with its value. `wakeful up` writes it; you do not.",
    )
    made_of: dict[str, str] = Field(
        default={},
        description="Hashes of the code, the models and the files that it consists of: with another, it is another version. `wakeful up` "
        "and `wakeful export` write them; you do not.",
    )

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, data: Any) -> Any:
        """``onnx: path`` as the graph it stands for."""
        if not isinstance(data, Mapping) or not any(key in data for key in cls.SHORT_KEYS):
            return data
        short = [key for key in cls.SHORT_KEYS if key in data]
        if "graph" in data:
            raise refusal(f"`{short[0]}` and `graph` both stand here. Write the model as a stage of the graph.", (short[0],))
        rest = {key: value for key, value in data.items() if key not in short}
        return {**rest, "graph": [{"stage": "model", **{key: data[key] for key in short}}]}

    @staticmethod
    def written(loc: Loc, data: Any) -> Loc:
        """Where a place of the graph stands in args that were written as ``onnx: path``."""
        return loc[2:] if loc[:2] == ("graph", 0) and "graph" not in data else loc

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        size, ongoing = self.batching.max_batch_size, self.limits.max_ongoing_requests
        if size > ongoing:
            at, other = ("batching", "max_batch_size"), ("limits", "max_ongoing_requests")
            if "max_batch_size" not in self.batching.model_fields_set:
                at, other = other, at
            reason = f"{ongoing} requests of a row each never fill a batch of {size}"
            raise refusal(f"`max_batch_size` above `max_ongoing_requests`: {reason}. Lower the one or raise the other.", at, also=[other])
        if not self.graph:
            raise refusal("neither `graph` nor `onnx` stands here. A function has at least one stage.", also=[("graph",), ("onnx",)])
        first: dict[str, int] = {}
        for index, stage in enumerate(self.graph):
            if stage.stage in first:
                message = f"{stage.stage!r} is also the name of graph[{first[stage.stage]}]. Give each stage a name of its own."
                raise refusal(message, ("graph", index, "stage"))
            first[stage.stage] = index
        return self


class FunctionSpec(ArgsSpec):
    """A function: its name, where it is called, and its ``args``."""

    name: Name = Field(description="The function's name, unique in the file: letters, digits, `.`, `_`, `-`.")
    route_prefix: FunctionPrefix = Field(description="Where it is called, unique in the file; `/v2/models/NAME` by convention.")

    @classmethod
    def from_args(cls, name: str, route_prefix: str, args: Mapping[str, Any]) -> FunctionSpec:
        """The function that an application's ``args`` declare.

        Raises:
            pydantic.ValidationError: an unknown key, a wrong value, or values that exclude each other.
        """
        ArgsSpec.model_validate(args, by_alias=True, by_name=False)  # so that a name among the args is an unknown key
        return cls.model_validate({**args, "name": name, "route_prefix": route_prefix}, by_alias=True, by_name=False)

    def to_args(self) -> dict[str, Any]:
        """The ``args`` that declare this function, written out with every default; plain JSON data."""
        return self.model_dump(mode="json", by_alias=True, exclude={"name", "route_prefix"}, exclude_none=True)


def identity(spec: FunctionSpec) -> str:
    """A hash of what a running replica cannot change: its graph and resources, what it is made of, and the faces of the functions that it
    calls. Stable across processes and machines."""
    args = spec.to_args()
    callees = {name: [called.route_prefix, called.takes, called.gives] for name, called in spec.calls.items()}
    text = json.dumps([{key: args[key] for key in ("graph", "resources", "secrets", "accepts", "made_of")}, callees], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tunables(spec: FunctionSpec) -> dict[str, Any]:
    """What changes while a function runs, as plain JSON data."""
    args = spec.to_args()
    return {section: args[section] for section in TUNABLE if section in args}


def from_tunables(spec: FunctionSpec, changed: Mapping[str, Any]) -> FunctionSpec:
    """The function with other tunables; sections that are not among them stay.

    Raises:
        ValueError: a section that takes a restart; a ``pydantic.ValidationError``, which is one, for wrong values.
    """
    if fixed := set(changed) - set(TUNABLE):
        raise ValueError(f"{', '.join(sorted(fixed))} cannot change while a function runs; {', '.join(TUNABLE)} can.")
    return FunctionSpec.from_args(spec.name, spec.route_prefix, {**spec.to_args(), **changed})
