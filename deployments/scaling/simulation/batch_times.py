"""What a function's batches take on a machine, as they were measured there: the part of the machine
model that ``wakeful profile`` fills.

Between two measured points a line is drawn; beyond the last one the line of the last two goes on:
a batch costs a fixed part and a part for each row, and so does a row by its length.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Point = tuple[float, float]
"""Rows of a batch, or length of a row; and seconds."""

Spread = tuple[float, ...]
"""Values that were measured, each as likely as another."""

EVEN: Final[Spread] = (1.0,)


@dataclass(frozen=True, slots=True)
class BatchCurve:
    """Batches of rows of one length.

    Attributes:
        length: of a row: elements of its largest tensor that may be padded; 0: none may.
        points: rows of a batch and seconds of a worker, by rows.
        spreads: of each point, seconds of a batch over the point's; empty: none differs.
    """

    length: float
    points: tuple[Point, ...]
    spreads: tuple[Spread, ...] = ()

    def batch_s(self, rows: float) -> float:
        """Seconds of a worker for a batch of so many rows; where one size alone was measured, more
        rows take as much more.
        """
        if len(self.points) == 1:
            ((measured, seconds),) = self.points
            return seconds * max(1.0, rows / measured)
        return value_at(self.points, rows)

    def spread_at(self, rows: float) -> Spread:
        """That of the measured size next to it."""
        if not self.spreads:
            return EVEN
        near = min(range(len(self.points)), key=lambda at: abs(self.points[at][0] - rows))
        return self.spreads[near]


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Seconds of a worker by rows and length.

    Attributes:
        curves: by length; at least one.
    """

    curves: tuple[BatchCurve, ...]

    def batch_s(self, rows: float, length: float = 0.0) -> float:
        """Seconds of a worker for a batch of rows of this length, padded to it."""
        if len(self.curves) == 1:
            return self.curves[0].batch_s(rows)
        at = [curve.length for curve in self.curves]
        here = min(max(bisect_right(at, length), 1), len(at) - 1)
        near = self.curves[here - 1 : here + 1]
        return value_at([(curve.length, curve.batch_s(rows)) for curve in near], length)

    def spread_at(self, rows: float, length: float = 0.0) -> Spread:
        """That of the measured size and length next to them."""
        return min(self.curves, key=lambda curve: abs(curve.length - length)).spread_at(rows)


def value_at(points: Sequence[Point], at: float) -> float:
    """The value there on the line through the two points next to it; never less than 0."""
    if len(points) == 1:
        return points[0][1]
    index = min(max(bisect_right([x for x, _ in points], at), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[index - 1 : index + 1]
    if x0 == x1:  # measured twice
        return max(y0, y1)
    return max(0.0, y0 + (y1 - y0) * (at - x0) / (x1 - x0))


@dataclass(frozen=True, slots=True)
class FunctionCosts:
    """What calls of one function cost on a machine.

    Attributes:
        times: of its batches.
        served: seconds of a batch that is served, upon another one, over those in ``times``.
        idle_extra: seconds for which a worker had nothing to do, ascending, and those that its next
            batch takes longer then; beyond the last as long as there. Empty: no longer.
        crowded: seconds of a batch while all cores of its machine compute, over those alone.
        beside: seconds that a call takes beside its worker's and its wait: HTTP, its body, the
            event loop, functions that it calls.
        beside_cpu_s: processor seconds among them, which workers have to do without.
        length: of a row where the trace does not say.
        shares_runs: rows share runs of a model, by ``batching``; otherwise a few rows that are
            taken one by one share a hop, as ``python_batch_limits`` has it.
        wake_s: of a load in the host; None: the machine's.
        memory_bytes: while it is loaded; None: the machine's.
    """

    times: BatchTimes
    served: float = 1.0
    idle_extra: tuple[Point, ...] = ()
    crowded: float = 1.0
    beside: Spread = (0.0,)
    beside_cpu_s: float = 0.0
    length: float = 0.0
    shares_runs: bool = True
    wake_s: float | None = None
    memory_bytes: int | None = None

    def served_s(self, rows: float, length: float, idle_s: float) -> float:
        """Seconds of a worker for a batch that is served.

        Args:
            idle_s: for which the worker had nothing to do before.
        """
        extra_s = 0.0
        if self.idle_extra:
            extra_s = value_at(self.idle_extra, min(idle_s, self.idle_extra[-1][0]))
        return self.served * self.times.batch_s(rows, length) + extra_s


def slowdown(crowded: float, busy: float, cores: float) -> float:
    """How much longer a batch takes on a machine where so many cores are wanted, its own included:
    as far as there are cores, in a line from one to all of them; beyond, they are shared.

    Args:
        crowded: as of ``FunctionCosts``.
    """
    crowd = min(1.0, max(0.0, busy - 1) / (cores - 1)) if cores > 1 else 0.0
    return (1 + (crowded - 1) * crowd) * max(1.0, busy / cores)
