"""What a look at a function asks for: calls that a replica should have, calls that there are, replicas that the work needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GOAL_S: Final = 0.25
"""Without a promise, what is in flight should be answered in a quarter of a second: a person does not notice it yet."""

START_S: Final = 2.0
"""From a decision to the first answer of a new replica; a queue that is shorter is gone before."""

BUSY: Final = 0.8
"""Most of its workers' time that a step down leaves a replica with; above it queues grow fast."""

STEADY: Final = 0.8
"""Part of its worker's time that a caller fills who calls again and again; the rest is his own and the network's."""

ROWS: Final = 30
"""Rows that work is measured over. A row counts when it is done, so a window may catch one more than it should: a thirtieth of a worker."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is declared of a function.

    Attributes:
        workers: worker threads of a replica.
        max_ongoing_requests, max_batch_size: bound the target that is worked out.
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
        """The short window: a tenth of the long one, as Knative's, and at most its 6 s; at least 2 s, ten ticks of the controller."""
        return min(6.0, max(2.0, self.downscale_delay_s / 10))

    @property
    def stable_s(self) -> float:
        """The long window."""
        return max(self.downscale_delay_s, self.panic_s)


@dataclass(frozen=True, slots=True)
class Look:
    """All replicas of a function, at one moment.

    Attributes:
        at: seconds of the clock of ``now``.
        in_flight: calls accepted and not answered, and those that wait for a replica.
        waiting_rows: rows that wait for a worker.
        work: cores of work, seconds of worker threads a second, over the last ``work_window_s``.
        row_s: seconds of a worker that a row takes; 0 when not known.
        is_used: whether a call came since the look before.
        is_settled: whether all that was worked in that window is in ``work``; not for a while after a replica has ended.
        sequences: that live in them; what is kept of them goes with a replica.
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
class Done:
    """What one replica has done: its count of calls, and points (time, busy seconds) of the last window, oldest first."""

    calls: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    @property
    def work(self) -> float:
        """Its cores of work over the window."""
        span = self.points[-1][0] - self.points[0][0] if self.points else 0.0
        return (self.points[-1][1] - self.points[0][1]) / span if span > 0 else 0.0

    def after(self, at: float, busy_s: float, calls: float, window_s: float) -> Done:
        """With one more point, or the same seen again; the point at which the window begins is kept."""
        if self.points and at <= self.points[-1][0]:
            return Done(calls, self.points)
        begins = [index for index, (seen, _) in enumerate(self.points) if seen <= at - window_s]
        return Done(calls, (*self.points[begins[-1] if begins else 0 :], (at, busy_s)))


def target(bounds: Bounds, row_s: float) -> float:
    """Calls that a replica should have in flight.

    Args:
        row_s: seconds of a worker that a row takes; 0 when not known, which is a full batch for each worker.
    """
    if bounds.target_ongoing_requests is not None:
        return bounds.target_ongoing_requests
    promised = bounds.slo_p95_ms is not None
    goal_s = (bounds.slo_p95_ms or 0.0) / 2000 if promised else GOAL_S  # of 100 calls, 95 wait less than about twice the mean
    least = 1 if promised else 2  # one at work and one that waits; where a wait breaks the promise, none waits
    each = goal_s / row_s if row_s > 0 else bounds.max_batch_size
    return bounds.workers * min(max(least, each), max(least, bounds.max_ongoing_requests / 2 / bounds.workers))


def _demand(look: Look, bounds: Bounds) -> float:
    """Calls in flight, or rows where those wait by the hundred; a declared target counts requests."""
    return look.in_flight if bounds.target_ongoing_requests is not None else max(look.in_flight, look.waiting_rows)


def load_of(looks: Sequence[Look], bounds: Bounds, row_s: float, current: int) -> float:
    """What there is to answer: the mean of the panic window, or all that is there now if it outlasts a start."""
    now, mean = _demand(looks[-1], bounds), sum(_demand(look, bounds) for look in looks) / len(looks)
    queue_s = looks[-1].waiting_rows * row_s / (bounds.workers * max(1, current))
    return max(now, mean) if queue_s > START_S else mean


def by_work(looks: Sequence[Look], bounds: Bounds, row_s: float, current: int) -> float:
    """Replicas that the work needs at a busyness that keeps the queue within the target.

    A caller who calls again and again keeps a worker busy all the time, and nobody waits: where work is just short of so many workers,
    so many are enough. Independent calls leave that narrow band at some moment of the stable window, and the most of it counts. Work
    that is not all seen says nothing of the band; then only what is certain counts.
    """
    aim, look = target(bounds, row_s), looks[-1]
    busy = min(BUSY, 0.9 * aim / (aim + bounds.workers))  # a queue of ``aim`` is what a worker makes that is busy aim / (aim + 1)
    needed = look.work / busy / bounds.workers
    waiting = sum(one.waiting_rows for one in looks) / len(looks)
    lumps = current * row_s / work_window_s(bounds, row_s)
    enough = math.ceil(max(0.0, look.work + waiting - lumps) / bounds.workers)
    return min(needed, enough) if not look.is_settled or look.work >= STEADY * enough * bounds.workers else needed


def work_window_s(bounds: Bounds, row_s: float) -> float:
    """Seconds over which ``Look.work`` is measured: the panic window, or ``ROWS`` rows."""
    return min(bounds.stable_s, max(bounds.panic_s, ROWS * row_s))
