"""What the placement controller knows of one function: its declaration, what it was seen doing,
what was decided, which transition is under way, and which crashes it caused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, Literal

from deployments.control.declarations import FunctionDeclaration
from deployments.placement.crash_history import CrashHistory
from deployments.placement.function_usage import FunctionUsage
from deployments.placement.order_ledger import RayOrder
from deployments.scaling.tier_policy import Tier
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import NotFound
from runtime.system.messages import did_you_mean, known_names

Transition = Literal[
    "steady",
    "starting",
    "adding_route",
    "updating",
    "loading_in_host",
    "removing_route",
    "deleting",
]
"""What is under way. Up: a deployment of its own starts without a prefix (``starting``) and is
given it (``adding_route``). Down: the host loads the function (``loading_in_host``), the deployment
loses its prefix (``removing_route``) and is deleted (``deleting``). ``updating``: it takes another
version."""

MAX_DECISIONS: Final = 50


@dataclass(frozen=True, slots=True)
class PlacementDecision:
    """One decision.

    Attributes:
        at: seconds since the epoch: people read it.
        why: with its numbers: ``host → own: 1.3 cores of work over 4 s``.
        kind: of what may be decided again and again while nothing changes, with other numbers;
            empty for what happens once.
    """

    at: float
    why: str
    kind: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for people."""
        return {"at": self.at, "why": self.why}


@dataclass(slots=True)
class FunctionState:
    """A declared function and where it is served. Times are seconds of the controller's clock,
    unless they say otherwise.

    Attributes:
        declaration: as ``wakeful up`` declared it last, or the version to go back to.
        ordered: the declaration that Ray was last ordered to deploy; None when there was no order,
            or it is not known.
        previous: the declaration before, during an update, to go back to.
        confirm_at: when its deployment is to be ordered once more as it is to be, which changes
            nothing where it is so: an order that failed, or was given before a restart, may have
            come about in part or late.
        mismatch_since: since when Ray has an application that should not be, or none where one
            should; None while all is right.
        update_error: why its deployment did not take the version that was declared last; empty when
            it did.
        tier: where its calls are answered now.
        tier_since: when the tier began.
        transition: what is under way.
        transition_since: when that began, or its order was carried out or refused.
        is_order_taken: Ray has carried out the order of the transition.
        unanswered: the last order about it, until Ray has answered.
        retry_at: when that is given again, since no answer came; None while one may come.
        usage: what its processes report.
        failures, failed_at: promotions that failed one after another.
        missing_resources: what a deployment of its own lacks, in words, if it has earned one; empty
            when nothing is missing.
        crashes: processes that it crashed.
    """

    declaration: FunctionDeclaration
    previous: FunctionDeclaration | None = None
    ordered: FunctionDeclaration | None = None
    confirm_at: list[float] = field(default_factory=list)
    mismatch_since: float | None = None
    update_error: str = ""
    tier: Tier = "host"
    tier_since: float = 0.0
    transition: Transition = "steady"
    transition_since: float = 0.0
    is_order_taken: bool = False
    unanswered: RayOrder | None = None
    retry_at: float | None = None
    usage: FunctionUsage = field(default_factory=FunctionUsage)
    decisions: deque[PlacementDecision] = field(default_factory=lambda: deque(maxlen=MAX_DECISIONS))
    failures: int = 0
    failed_at: float = 0.0
    missing_resources: str = ""
    crashes: CrashHistory = field(default_factory=CrashHistory)

    @property
    def name(self) -> str:
        """Its name, and its application's."""
        return self.declaration.name

    @property
    def spec(self) -> FunctionSpec:
        """Its parsed declaration."""
        return self.declaration.spec

    @property
    def is_always_own(self) -> bool:
        """Whether it has a deployment of its own from the start and for good."""
        return self.declaration.is_always_own

    @property
    def is_asleep(self) -> bool:
        """Whether no process reports it and nothing is to be done about it."""
        is_hosted = self.tier == "host" and self.transition == "steady"
        return is_hosted and not (self.usage.by_process or self.crashes.records)

    @property
    def is_outdated(self) -> bool:
        """Whether its declaration has changed since its deployment was ordered."""
        if self.ordered is None:
            return True
        is_same = self.ordered is self.declaration or self.ordered.hash == self.declaration.hash
        return not is_same

    def record_decision(self, why: str, wall: float, kind: str = "") -> None:
        """Keeps a decision; one that is repeated is kept once, with its last time and numbers.

        Repeated is what has a ``kind`` and was decided since something happened that has none (it
        was promoted, crashed a process); else what says the same as the last one.

        Args:
            wall: seconds since the epoch.
        """
        before: list[PlacementDecision] = []
        if kind:
            since = takewhile(lambda one: one.kind, reversed(self.decisions))
            before = [one for one in since if one.kind == kind]
        elif self.decisions and self.decisions[-1].why == why:
            before = [self.decisions[-1]]
        for one in before:
            self.decisions.remove(one)
        self.decisions.append(PlacementDecision(wall, why, kind))

    def enter(self, transition: Transition, now: float) -> None:
        """Begins a transition, or ends one (``steady``)."""
        self.transition, self.transition_since, self.is_order_taken = transition, now, False
        self.retry_at = None

    def on_order_taken(self, now: float) -> None:
        """Ray has carried out the order of the transition under way; what it does about it begins
        now.
        """
        if self.transition != "steady":
            self.transition_since, self.is_order_taken = now, True

    def set_tier(self, tier: Tier, now: float) -> None:
        """Another tier answers its calls from now on."""
        self.tier, self.tier_since = tier, now


def require_state(states: Mapping[str, FunctionState], name: str) -> FunctionState:
    """The state of a function that a client names.

    Raises:
        NotFound: no such function is declared.
    """
    if name not in states:
        near = did_you_mean(name, known_names(states)) or "."
        raise NotFound(f"no function is named so{near}")
    return states[name]


def missing_resources(state: FunctionState, free: Mapping[str, float]) -> str:
    """What a replica of its own lacks, in words; empty when it has room.

    Args:
        free: free resources of the cluster, by Ray's names.
    """
    resources = state.spec.resources
    needs = {
        "CPU": resources.num_cpus,
        "GPU": resources.num_gpus,
        "memory": (resources.memory_mb or 0) * 1024 * 1024,
    }
    return " and ".join(
        f"{need:g} {name} are needed and {free.get(name, 0):g} free"
        for name, need in needs.items()
        if need > free.get(name, 0)
    )
