"""One function in a simulation: where it is served, which calls wait for it, what it has done."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from deployments.scaling.demand import (
    LoadSample,
    ScalingLimits,
    WorkCounter,
    declared_limits,
    work_window_s,
)
from deployments.scaling.replica_policy import ReplicaState
from deployments.scaling.tier_policy import Tier, UsageSample
from runtime.declaration.function_spec import FunctionSpec

LATEST = 200
"""Calls that the p95 is computed from."""

SimulatedStep = Literal["", "waking", "starting", "returning"]
"""What is under way: the host loads it, its deployment starts, or the host loads it because it is
demoted.
"""


@dataclass(slots=True)
class SimulatedCall:
    """A call: when it came and how long it keeps a worker, seconds."""

    at: float
    service_s: float


@dataclass(slots=True)
class SimulatedFunction:
    """A simulated function.

    Attributes:
        workers: worker threads of a replica; in the host it uses at most as many.
        is_always_own: it has a deployment of its own from the start.
        is_loaded: the host has it.
        target, ready: replicas of its own that are decided, and those of them that run.
        queue, running: calls that wait for a worker, and those that have one, in its tier.
        leaving: calls that the previous tier still runs.
        busy_s, calls, last_used: counters as of ``runtime.execution.function.Function``.
        since: when the tier began.
        waits_s: of every call that a worker took.
        tier_s: seconds in the host, in its own tier, and asleep.
    """

    spec: FunctionSpec
    workers: int
    is_always_own: bool
    tier: Tier
    step: SimulatedStep = ""
    is_loaded: bool = False
    target: int = 0
    ready: int = 0
    queue: deque[SimulatedCall] = field(default_factory=deque)
    running: int = 0
    leaving: int = 0
    busy_s: float = 0.0
    calls: int = 0
    seen_calls: int = 0
    last_used: float = 0.0
    since: float = 0.0
    row_s: float = 0.0
    samples: deque[UsageSample] = field(default_factory=lambda: deque(maxlen=600))
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    done: WorkCounter = field(default_factory=WorkCounter)
    scaling: ReplicaState | None = None
    missing: int = 0
    waits_s: list[float] = field(default_factory=list)
    refused: int = 0
    cold_starts: int = 0
    most_replicas: int = 0
    replica_s: float = 0.0
    tier_s: dict[str, float] = field(
        default_factory=lambda: {"host": 0.0, "own": 0.0, "asleep": 0.0}
    )
    decisions: list[tuple[float, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The function's."""
        return self.spec.name

    @property
    def in_flight(self) -> int:
        """Calls accepted and not answered."""
        return len(self.queue) + self.running + self.leaving

    @property
    def is_awake(self) -> bool:
        """Whether it holds memory or calls, or a step is under way."""
        return self.is_loaded or self.target > 0 or bool(self.step) or self.in_flight > 0

    @property
    def capacity(self) -> int:
        """Calls that are accepted at once."""
        limits = self.spec.limits
        return (limits.max_ongoing_requests + limits.max_queued_requests) * max(1, self.ready)

    @property
    def limits(self) -> ScalingLimits:
        """For ``replica_policy``; a promoted function keeps one replica, since it is demoted
        instead of scaled to zero.
        """
        scaling = self.spec.autoscaling
        return ScalingLimits(
            scaling.min_replicas if self.is_always_own else max(1, scaling.min_replicas),
            scaling.max_replicas,
            **declared_limits(self.spec, self.workers),
        )

    def on_finished(self, now: float, call: SimulatedCall) -> None:
        """A call is answered."""
        self.busy_s += call.service_s
        self.row_s = (
            call.service_s if self.row_s == 0 else self.row_s + 0.1 * (call.service_s - self.row_s)
        )
        self.last_used = now
        self.latencies_s.append(now - call.at)

    def take_load_sample(self, now: float) -> LoadSample:
        """For ``replica_policy``; the seconds of a row are smoothed as a batcher smooths them."""
        self.done = self.done.after(
            now, self.busy_s, self.calls, work_window_s(self.limits, self.row_s)
        )
        used, self.seen_calls = self.calls > self.seen_calls, self.calls
        return LoadSample(now, self.in_flight, len(self.queue), self.done.work, self.row_s, used)

    def take_usage_sample(self, now: float) -> UsageSample:
        """For ``tier_policy``."""
        ordered = sorted(self.latencies_s)
        p95_ms = 1000 * ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None
        return UsageSample(
            now,
            self.busy_s,
            self.calls,
            self.in_flight,
            len(self.queue),
            now - self.last_used,
            p95_ms,
        )

    def pass_time(self, seconds: float) -> None:
        """Counts time in the present state."""
        self.replica_s += self.target * seconds
        self.tier_s[self.tier if self.is_loaded or self.target else "asleep"] += seconds
        self.most_replicas = max(self.most_replicas, self.target)

    def record_decision(self, now: float, why: str) -> None:
        """Keeps a decision."""
        self.decisions.append((now, why))
