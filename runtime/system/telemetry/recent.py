"""How often a function was called in the last minute, how long that took, and how many calls were
answered with an error: differences of counts that only grow (``counters``), of which a process
keeps one copy each five seconds.

Latencies are read from the buckets of ``SECONDS``, so a percentile is right within the bucket that
it falls into.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from runtime.system.telemetry.counters import SECONDS, FunctionCounters, ProcessCounters

WINDOW_S: Final = 60.0

STEP_S: Final = 5.0
"""Between two copies: the window is up to so much longer."""

SHORTEST_S: Final = 1.0
"""Of a process that has just begun: two calls in its first 10 ms are not 200 a second."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The calls of one function in the last minute.

    Attributes:
        calls_per_s: that ended.
        calls, errors: how many, and how many of them were answered with an error.
        counts: of their seconds, by bucket of ``SECONDS``; the last is of what is above all.
    """

    calls_per_s: float = 0.0
    calls: int = 0
    errors: int = 0
    counts: tuple[int, ...] = ()

    @property
    def p95_s(self) -> float | None:
        """Seconds within which 95 % of them were answered; None where there was no call."""
        return quantile(self.counts, 0.95)

    def to_dict(self) -> dict[str, Any]:
        """As ``wakeful status --json`` shows it."""
        p50_s, p95_s = quantile(self.counts, 0.5), self.p95_s
        return {
            "calls": self.calls,
            "calls_per_s": round(self.calls_per_s, 3),
            "errors": self.errors,
            "p50_ms": None if p50_s is None else round(p50_s * 1000, 1),
            "p95_ms": None if p95_s is None else round(p95_s * 1000, 1),
        }

    def to_wire(self) -> list[Any]:
        """Plain data for a report; empty where there was no call."""
        return [self.calls_per_s, self.calls, self.errors, list(self.counts)] if self.calls else []

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> Traffic:
        """What ``to_wire`` wrote."""
        if not data:
            return cls()
        rate, calls, errors, counts = data
        return cls(rate, calls, errors, tuple(counts))


def merge_traffic(parts: Iterable[Traffic]) -> Traffic:
    """The calls of a function in all processes that serve it."""
    rate, calls, errors, counts = 0.0, 0, 0, [0] * (len(SECONDS) + 1)
    for part in parts:
        rate, calls, errors = rate + part.calls_per_s, calls + part.calls, errors + part.errors
        for bucket, count in enumerate(part.counts):
            counts[bucket] += count
    return Traffic(rate, calls, errors, tuple(counts) if calls else ())


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds below which that share of the counted values lies, on a line through the bucket
    that it falls into; None where nothing was counted. What is above all bounds counts as the last.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    seen = 0
    for (low, high), count in zip(pairwise((0.0, *SECONDS)), counts, strict=False):
        if count and seen + count >= wanted:
            return low + (high - low) * (wanted - seen) / count
        seen += count
    return SECONDS[-1]


@dataclass(frozen=True, slots=True)
class _Copy:
    """The counts of a function at one time."""

    calls: int
    errors: int
    counts: tuple[int, ...]


_NOTHING: Final = _Copy(0, 0, (0,) * (len(SECONDS) + 1))


def _copy_of(counters: FunctionCounters) -> _Copy:
    return _Copy(
        sum(counters.calls.total_s.counts),
        sum(counters.calls.errors.values()),
        tuple(counters.calls.total_s.counts),
    )


class RecentCalls:
    """The last minute of a process's functions.

    Args:
        now: seconds of ``time.monotonic`` at which the counters had nothing.

    Mutable state: ``_copies``, times with the counts of each function that had any, oldest first.
    """

    def __init__(self, counters: ProcessCounters, now: float) -> None:
        self._counters = counters
        self._copies: deque[tuple[float, dict[str, _Copy]]] = deque([(now, {})])

    def look(self, now: float) -> None:
        """Keep a copy, where the last one is old enough; called each second or so."""
        at, last = self._copies[-1]
        if now < at + STEP_S:
            return
        copied: dict[str, _Copy] = {}
        for counters in self._counters:
            before = last.get(counters.name)
            is_same = before is not None and before.calls == sum(counters.calls.total_s.counts)
            copied[counters.name] = before if before and is_same else _copy_of(counters)
        self._copies.append((now, copied))
        while len(self._copies) > 1 and self._copies[1][0] <= now - WINDOW_S:
            self._copies.popleft()

    def of(self, counters: FunctionCounters, now: float) -> Traffic:
        """The calls of one function in the last minute, or since the process began."""
        began, copies = self._copies[0]
        before, after = copies.get(counters.name, _NOTHING), _copy_of(counters)
        calls = after.calls - before.calls
        if calls <= 0:
            return Traffic()
        counts = zip(after.counts, before.counts, strict=True)
        return Traffic(
            calls / max(now - began, SHORTEST_S),
            calls,
            after.errors - before.errors,
            tuple(count - earlier for count, earlier in counts),
        )
