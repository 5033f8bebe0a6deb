"""One function in a replay: where it is served, what waits for it, what it has done."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from runtime.demand import Bounds, Done, Look, work_window_s
from runtime.scaling import State
from runtime.spec import FunctionSpec
from runtime.tiers import Tier, Use

LATEST = 200
"""Calls that a p95 is of."""

Step = Literal["", "waking", "starting", "returning"]
"""What is under way: the host loads it, its deployment starts, or the host loads it to take it back."""


@dataclass(slots=True)
class Call:
    """A call that waits: when it came and what it takes, seconds."""

    at: float
    service_s: float


@dataclass(slots=True)
class Seat:
    """A function.

    Attributes:
        workers: worker threads of a replica, and its share of the host's.
        fixed: it has a deployment of its own from the start.
        is_loaded: the host has it.
        target, ready: replicas of its own that are decided, and those of them that answer.
        queue, running: calls that wait for a worker and those that have one, in its tier.
        leaving: calls that the former tier still runs.
        busy_s, calls, last_used: counters as of ``runtime.function.Function``.
        since: when the tier began.
        waits_s: of every call that was begun.
        tier_s: seconds in the host, in its own tier, and asleep.
    """

    spec: FunctionSpec
    workers: int
    fixed: bool
    tier: Tier
    step: Step = ""
    is_loaded: bool = False
    target: int = 0
    ready: int = 0
    queue: deque[Call] = field(default_factory=deque)
    running: int = 0
    leaving: int = 0
    busy_s: float = 0.0
    calls: int = 0
    seen_calls: int = 0
    last_used: float = 0.0
    since: float = 0.0
    row_s: float = 0.0
    looks: deque[Use] = field(default_factory=lambda: deque(maxlen=600))
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    done: Done = field(default_factory=Done)
    scaling: State | None = None
    missing: int = 0
    waits_s: list[float] = field(default_factory=list)
    refused: int = 0
    cold_starts: int = 0
    most_replicas: int = 0
    replica_s: float = 0.0
    tier_s: dict[str, float] = field(default_factory=lambda: {"host": 0.0, "own": 0.0, "asleep": 0.0})
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
        """Whether it holds anything, or something is under way."""
        return self.is_loaded or self.target > 0 or bool(self.step) or self.in_flight > 0

    @property
    def capacity(self) -> int:
        """Calls that are accepted at once."""
        limits = self.spec.limits
        return (limits.max_ongoing_requests + limits.max_queued_requests) * max(1, self.ready)

    @property
    def bounds(self) -> Bounds:
        """What scaling knows of it; promoted from the host it keeps one replica, since it goes back instead of to nothing."""
        scaling, limits = self.spec.autoscaling, self.spec.limits
        return Bounds(
            scaling.min_replicas if self.fixed else max(1, scaling.min_replicas),
            scaling.max_replicas,
            self.workers,
            limits.max_ongoing_requests,
            self.spec.batching.max_batch_size,
            scaling.target_ongoing_requests,
            self.spec.slo.latency_p95_ms,
            scaling.upscale_delay_s,
            scaling.downscale_delay_s,
            scaling.downscale_to_zero_delay_s,
        )

    def finished(self, now: float, call: Call) -> None:
        """A call was answered."""
        self.busy_s += call.service_s
        self.row_s = call.service_s if self.row_s == 0 else self.row_s + 0.1 * (call.service_s - self.row_s)
        self.last_used = now
        self.latencies_s.append(now - call.at)

    def look(self, now: float) -> Look:
        """As the scaling policy sees it; the seconds of a row are smoothed as a batcher smooths them."""
        self.done = self.done.after(now, self.busy_s, self.calls, work_window_s(self.bounds, self.row_s))
        used, self.seen_calls = self.calls > self.seen_calls, self.calls
        return Look(now, self.in_flight, len(self.queue), self.done.work, self.row_s, used)

    def use(self, now: float) -> Use:
        """As the owner of placement sees it."""
        ordered = sorted(self.latencies_s)
        p95_ms = 1000 * ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None
        return Use(now, self.busy_s, self.calls, self.in_flight, len(self.queue), now - self.last_used, p95_ms)

    def pass_time(self, seconds: float) -> None:
        """Time spent as it is."""
        self.replica_s += self.target * seconds
        self.tier_s[self.tier if self.is_loaded or self.target else "asleep"] += seconds
        self.most_replicas = max(self.most_replicas, self.target)

    def decided(self, now: float, why: str) -> None:
        """Keeps a decision in words."""
        self.decisions.append((now, why))
