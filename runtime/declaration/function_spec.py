"""A function as it is served, which is another type than what a user declares.

``DeclaredSpec`` is what a user writes (``declared_spec``). ``FunctionSpec`` is the same with
``DeployedFacts``, which commands find out and add. ``graph.resolve`` adds the functions that stages
call and whose stage it is, ``rollout.prepare`` what it is made of and its secrets; on the way to
another process it is the key ``deployed`` of its ``args``, which no file may have.

A function knows those that it calls by the digests of their declarations. Each declaration stands
once in ``DeployedFacts.declarations``, however many call it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import Field

from runtime.declaration.declared_spec import DEPLOYED, AnySpec, DeclaredSpec, FunctionArgs
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
from runtime.declaration.validation import JsonObject, StrictModel

__all__ = [
    "DEPLOYED",
    "LIVE_SECTIONS",
    "AnySpec",
    "AutoscalingSpec",
    "BatchingSpec",
    "CalleeSpec",
    "CaptureSpec",
    "DeclaredSpec",
    "DeployedFacts",
    "DeploymentSpec",
    "FunctionArgs",
    "FunctionSpec",
    "LimitsSpec",
    "ResourcesSpec",
    "SequencesSpec",
    "SloSpec",
    "StageSpec",
    "added_to",
    "hash_of",
    "live_settings",
    "unpack_args",
    "version_hash",
    "with_live_settings",
]

LIVE_SECTIONS: Final = ("batching", "limits", "slo", "capture", "sequences")
"""Sections that change while a function runs."""


class CalleeSpec(StrictModel):
    """What a caller knows of a function that its stages call."""

    route_prefix: str = Field(description="Where it is called.")
    also_at: list[str] = Field(
        default_factory=list,
        description="Other prefixes where it may be, while an update moves it.",
    )
    digest: str = Field(description="Of its declaration, which stands in `declarations`.")
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


class DeployedFacts(StrictModel):
    """What commands add to a declared function."""

    calls: dict[str, CalleeSpec] = Field(
        default={}, description="What is known of the functions that stages call, by name."
    )
    declarations: dict[str, dict[str, Any]] = Field(
        default={},
        description=(
            "The declarations of the functions that it calls, and of those that these call, by"
            " digest: `args`, without this key."
        ),
    )
    part_of: str = Field(
        "",
        description=(
            "The function whose stage it is, by its `deployment`: then only functions call it, no"
            " client outside."
        ),
    )
    secrets: dict[str, str] = Field(
        default={},
        description="The mark of each `${NAME}` in the graph, which changes with its value.",
    )
    made_of: dict[str, str] = Field(
        default={},
        description=(
            "Hashes of the code, the models and the files that it consists of: with another, it is"
            " another version."
        ),
    )


class FunctionSpec(DeclaredSpec):
    """A function as it is served: what the user declared, and what commands added."""

    ADDED_KEYS: ClassVar[tuple[str, ...]] = (DEPLOYED,)

    deployed: DeployedFacts = Field(DeployedFacts(), description="What commands add.")

    @classmethod
    def of(cls, declared: DeclaredSpec, *, part_of: str = "") -> FunctionSpec:
        """A declared function, of which nothing else is known yet.

        Args:
            part_of: see ``DeployedFacts``.
        """
        if isinstance(declared, FunctionSpec):
            return declared
        values = {name: getattr(declared, name) for name in type(declared).model_fields}
        return cls.model_construct(
            _fields_set=set(declared.model_fields_set),
            deployed=DeployedFacts(part_of=part_of),
            **values,
        )

    def with_deployed(self, **added: Any) -> Self:
        """The function with other values of ``DeployedFacts``."""
        return self.model_copy(update={DEPLOYED: self.deployed.model_copy(update=added)})

    def to_args(self) -> dict[str, Any]:
        """The ``args`` that declare this function, with every default and with what was added;
        plain JSON data. The declarations in it are the function's own: do not change them.
        """
        left_out: Any = {"name": True, "route_prefix": True, DEPLOYED: {"declarations"}}
        args = self.model_dump(mode="json", by_alias=True, exclude=left_out, exclude_none=True)
        args[DEPLOYED]["declarations"] = self.deployed.declarations
        return args

    def declaration_of(self, name: str) -> Mapping[str, Any]:
        """The ``args`` of a function that its stages call, as they were when the file was read;
        without ``declarations``.

        Raises:
            KeyError: they do not call it.
        """
        return self.deployed.declarations[self.deployed.calls[name].digest]

    def called(self, name: str) -> FunctionSpec:
        """A function that its stages call, as it was declared when the file was read.

        Raises:
            KeyError: they do not call it.
        """
        args = unpack_args(self.declaration_of(name), self.deployed.declarations)
        return FunctionSpec.from_args(name, self.deployed.calls[name].route_prefix, args)

    @property
    def called_functions(self) -> dict[str, CalleeSpec]:
        """The functions that its stages call, by name, without its own split stages."""
        return {
            name: callee
            for name, callee in self.deployed.calls.items()
            if self.declaration_of(name)[DEPLOYED]["part_of"] != self.name
        }

    @property
    def all_called(self) -> frozenset[str]:
        """The names of the functions that its stages call, and of those that these call."""
        below = (one[DEPLOYED]["calls"] for one in self.deployed.declarations.values())
        return frozenset(name for calls in (self.deployed.calls, *below) for name in calls)

    @property
    def declaration(self) -> tuple[str, dict[str, Any]]:
        """How callers name it: the digest of its declaration, and that, as one of
        ``DeployedFacts.declarations``. What it is made of is not in it: a caller is no other one
        where only that changes.
        """
        args = self.to_args()
        args[DEPLOYED] = {key: args[DEPLOYED][key] for key in ("calls", "part_of")}
        return hash_of(args), args


def added_to(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """What commands have added to ``args`` (``DeployedFacts`` as plain data); empty: nothing."""
    added: Mapping[str, Any] = args.get(DEPLOYED, {})
    return added


def unpack_args(args: Mapping[str, Any], declarations: Mapping[str, Any]) -> dict[str, Any]:
    """The ``args`` of a function with those of the declarations that it needs. Args that have
    theirs, or to which nothing was added, stay as they are.
    """
    if DEPLOYED not in args or "declarations" in args[DEPLOYED]:
        return dict(args)
    found = called_declarations(args[DEPLOYED].get("calls", {}), declarations)
    return {**args, DEPLOYED: {**args[DEPLOYED], "declarations": found}}


def called_declarations(
    calls: Mapping[str, Any], declarations: Mapping[str, Any]
) -> dict[str, Any]:
    """The declarations of the functions of ``calls`` (``CalleeSpec`` as plain data, by name), and
    of those that these call; by digest.
    """
    found: dict[str, Any] = {}
    waiting = [callee["digest"] for callee in calls.values()]
    while waiting:
        digest = waiting.pop()
        if digest not in found and digest in declarations:
            found[digest] = declarations[digest]
            waiting += (one["digest"] for one in found[digest][DEPLOYED]["calls"].values())
    return found


def version_hash(spec: FunctionSpec) -> str:
    """A hash of what a running replica cannot change: its graph and resources, what it is made of,
    and the interfaces of the functions that it calls; where they are called may change. Stable
    across processes and machines.
    """
    deployed = spec.deployed
    own = spec.model_dump(
        mode="json", by_alias=True, include={"graph", "resources", "accepts"}, exclude_none=True
    )
    own |= {"secrets": deployed.secrets, "made_of": deployed.made_of}
    callees = {name: [callee.takes, callee.gives] for name, callee in deployed.calls.items()}
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
