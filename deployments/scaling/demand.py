"""What a function needs by its samples: calls that a replica should have in flight, calls that
there are, replicas that the work needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runtime.declaration.function_spec import DeclaredSpec

GOAL_S: Final = 0.25
"""Without an SLO, what is in flight should be answered in a quarter of a second: a person does not
notice it yet.
"""

START_S: Final = 2.0
"""From a decision to the first answer of a new replica; a queue that is shorter is gone before."""

BUSY: Final = 0.8
"""Largest share of its workers' time that a replica is busy after a step down; above it queues grow
fast."""

STEADY: Final = 0.8
"""Share of a worker's time that one client fills which calls again and again; the rest is spent in
the client and the network.
"""

ROWS: Final = 30
"""Rows that work is measured over. A row counts when it is done, so a window may contain one more
than it should: a thirtieth of a worker.
"""


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """The declared numbers that scaling decides by.

    Attributes:
        workers: worker threads of a replica.
        max_ongoing_requests, max_batch_size: bound the computed target.
        target_ongoing_requests: the target, where declared.
    """

    min_replicas: int
    max_replicas: int
    workers: int = 1
    max_ongoing_requests: int = 128
    max_batch_size: int = 32
    target_ongoing_requests: float | None = None
    slo_p95_ms: float | None = None
    upscale_delay_s: float = 0.0
    downscale_delay_s: float = 60.0
    downscale_to_zero_delay_s: float = 60.0

    @property
    def panic_s(self) -> float:
        """The short window: a tenth of the long one, as Knative's, and at most its 6 s; at least 2
        s, ten ticks of the controller.
        """
        return min(6.0, max(2.0, self.downscale_delay_s / 10))

    @property
    def stable_s(self) -> float:
        """The long window."""
        return max(self.downscale_delay_s, self.panic_s)


def declared_limits(spec: DeclaredSpec, workers: int) -> dict[str, Any]:
    """The fields of ``ScalingLimits`` that a function declares, as plain data. The numbers of
    replicas come from Ray, or from the simulator.
    """
    scaling, limits = spec.autoscaling, spec.limits
    return {
        "workers": workers,
        "max_ongoing_requests": limits.max_ongoing_requests,
        "max_batch_size": spec.batching.max_batch_size,
        "target_ongoing_requests": scaling.target_ongoing_requests,
        "slo_p95_ms": spec.slo.latency_p95_ms,
        "upscale_delay_s": scaling.upscale_delay_s,
        "downscale_delay_s": scaling.downscale_delay_s,
        "downscale_to_zero_delay_s": scaling.downscale_to_zero_delay_s,
    }


@dataclass(frozen=True, slots=True)
class LoadSample:
    """All replicas of a function, at one moment.

    Attributes:
        at: seconds of the clock of ``now``.
        in_flight: calls accepted and not answered, and those that wait for a replica.
        waiting_rows: rows that wait for a worker.
        work: cores of work, seconds of worker threads a second, over the last ``work_window_s``.
        row_s: seconds of a worker that a row takes; 0 when not known.
        is_used: whether a call came since the sample before.
        is_settled: whether ``work`` has all the work of that window; not for a while after a
            replica has ended.
        sequences: live ones; their state is lost with their replica.
    """

    at: float
    in_flight: float
    waiting_rows: float = 0.0
    work: float = 0.0
    row_s: float = 0.0
    is_used: bool = True
    is_settled: bool = True
    sequences: int = 0


@dataclass(frozen=True, slots=True)
class WorkCounter:
    """What one replica has done: its count of calls, and points (time, busy seconds) of the last
    window, oldest first.
    """

    calls: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    @property
    def work(self) -> float:
        """Its cores of work over the window."""
        span = self.points[-1][0] - self.points[0][0] if self.points else 0.0
        return (self.points[-1][1] - self.points[0][1]) / span if span > 0 else 0.0

    def after(self, at: float, busy_s: float, calls: float, window_s: float) -> WorkCounter:
        """With one more point; the same if the point is known. The point at which the window begins
        is kept.
        """
        if self.points and at <= self.points[-1][0]:
            return WorkCounter(calls, self.points)
        begins = [index for index, (seen, _) in enumerate(self.points) if seen <= at - window_s]
        return WorkCounter(calls, (*self.points[begins[-1] if begins else 0 :], (at, busy_s)))


def target_in_flight(limits: ScalingLimits, row_s: float) -> float:
    """Calls that a replica should have in flight.

    Args:
        row_s: seconds of a worker that a row takes; 0 when not known, which is a full batch for
            each worker.
    """
    if limits.target_ongoing_requests is not None:
        return limits.target_ongoing_requests
    promised = limits.slo_p95_ms is not None
    # of 100 calls, 95 wait less than about twice the mean
    goal_s = (limits.slo_p95_ms or 0.0) / 2000 if promised else GOAL_S
    # one at work and one that waits; where a wait breaks the promise, none waits
    least = 1 if promised else 2
    per_worker = goal_s / row_s if row_s > 0 else limits.max_batch_size
    return limits.workers * min(
        max(least, per_worker), max(least, limits.max_ongoing_requests / 2 / limits.workers)
    )


def _demand(sample: LoadSample, limits: ScalingLimits) -> float:
    """Calls in flight, or waiting rows where there are more; a declared target counts calls."""
    return (
        sample.in_flight
        if limits.target_ongoing_requests is not None
        else max(sample.in_flight, sample.waiting_rows)
    )


def measure_load(
    samples: Sequence[LoadSample], limits: ScalingLimits, row_s: float, current: int
) -> float:
    """Calls to answer: the mean of the panic window, or all that there are now if their queue
    outlasts a start.
    """
    now, mean = (
        _demand(samples[-1], limits),
        sum(_demand(sample, limits) for sample in samples) / len(samples),
    )
    queue_s = samples[-1].waiting_rows * row_s / (limits.workers * max(1, current))
    return max(now, mean) if queue_s > START_S else mean


def replicas_by_work(
    samples: Sequence[LoadSample], limits: ScalingLimits, row_s: float, current: int
) -> float:
    """Replicas that the work needs when their workers are only so busy that the queue stays within
    the target.

    Exception: a client that calls again and again keeps a worker busy all the time without a queue.
    So where the work is between ``STEADY`` of n workers and n workers, n are enough. Independent
    calls leave that band at some moment of the stable window, and the largest number counts. While
    the work is not measured whole (``is_settled``), the smaller number counts.
    """
    target, sample = target_in_flight(limits, row_s), samples[-1]
    # a queue of ``target`` is what a worker makes that is busy target / (target + 1)
    busy = min(BUSY, 0.9 * target / (target + limits.workers))
    needed = sample.work / busy / limits.workers
    waiting = sum(one.waiting_rows for one in samples) / len(samples)
    lumps = current * row_s / work_window_s(limits, row_s)
    enough = math.ceil(max(0.0, sample.work + waiting - lumps) / limits.workers)
    return (
        min(needed, enough)
        if not sample.is_settled or sample.work >= STEADY * enough * limits.workers
        else needed
    )


def work_window_s(limits: ScalingLimits, row_s: float) -> float:
    """Seconds over which ``LoadSample.work`` is measured: the panic window, or ``ROWS`` rows."""
    return min(limits.stable_s, max(limits.panic_s, ROWS * row_s))
