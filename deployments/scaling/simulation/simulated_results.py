"""What is seen of the calls of one function in a simulation: by its policies while it runs, and at
its end.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from deployments.scaling.demand import WorkCounter
from runtime.library.function_report import UsageSample

LATEST = 200
"""Calls that the p95 is computed from."""

NO_TIERS: Final = {"host": 0.0, "own": 0.0, "asleep": 0.0}


@dataclass(slots=True)
class SimulatedUsage:
    """What policies see of a function.

    Attributes:
        busy_s, calls, last_used: counters as of ``runtime.execution.function.Function``.
        row_s: seconds that a row takes, smoothed as a batcher smooths them.
        samples: for ``tier_policy``, the latest ones.
    """

    busy_s: float = 0.0
    calls: int = 0
    last_used: float = 0.0
    row_s: float = 0.0
    samples: deque[UsageSample] = field(default_factory=lambda: deque(maxlen=600))
    _latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    _seen_calls: int = 0
    _done: WorkCounter = field(default_factory=WorkCounter)

    def on_call(self, now: float) -> None:
        """A call is accepted."""
        self.calls += 1
        self.last_used = now

    def on_finished(self, now: float, latencies_s: Sequence[float], seconds: float) -> None:
        """A batch is answered, which has kept a worker for so long.

        Args:
            latencies_s: of its calls.
        """
        self.busy_s += seconds
        row_s = seconds / len(latencies_s)
        self.row_s = row_s if self.row_s == 0 else self.row_s + 0.1 * (row_s - self.row_s)
        self.last_used = now
        self._latencies_s.extend(latencies_s)

    def take_work(self, now: float, window_s: float) -> tuple[float, bool]:
        """Workers that its calls keep busy, over so many seconds; and whether calls have come since
        the last time.
        """
        self._done = self._done.after(now, self.busy_s, self.calls, window_s)
        is_used, self._seen_calls = self.calls > self._seen_calls, self.calls
        return self._done.work, is_used

    def p95_ms(self) -> float | None:
        """The 95th percentile of the latest latencies in milliseconds; None: there is none."""
        ordered = sorted(self._latencies_s)
        return 1000 * ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


@dataclass(slots=True)
class SimulatedResults:
    """What became of a function and its calls, since the simulation began or results were
    forgotten.

    Attributes:
        accepted, refused: calls.
        expired: calls that were not answered before their deadline.
        since: calls that came before it are none of ``expired``.
        waits_s: of every call that a worker took.
        answers: of every call that was answered: when it came, and its latency.
        cold_starts: loads that calls waited for.
        cold_at: when calls came that found it not loaded.
        batches, batch_rows: that were run, and their rows.
        work_s: worker seconds of them.
        most_replicas: at once.
        most_missing: replicas that were wanted and did not fit.
        replica_s: seconds of all its replicas.
        tier_s: seconds in the host, in its own tier, and asleep.
        places: when the number of places that serve it changed, and to what: its replicas, or 1 in
            the host.
        decisions: when they were made, and why.
    """

    accepted: int = 0
    refused: int = 0
    expired: int = 0
    since: float = 0.0
    waits_s: array[float] = field(default_factory=lambda: array("d"))
    answers: array[float] = field(default_factory=lambda: array("d"))
    cold_starts: int = 0
    cold_at: array[float] = field(default_factory=lambda: array("d"))
    batches: int = 0
    batch_rows: int = 0
    work_s: float = 0.0
    most_replicas: int = 0
    most_missing: int = 0
    replica_s: float = 0.0
    tier_s: dict[str, float] = field(default_factory=lambda: dict(NO_TIERS))
    places: list[tuple[float, int]] = field(default_factory=list)
    decisions: list[tuple[float, str]] = field(default_factory=list)
