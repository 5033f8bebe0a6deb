"""The rows of one function that wait, in one queue a segment, and which of them leave next.

Everything here happens under the workers' lock, but for ``learn``: a worker that has run a batch tells what it learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runtime.batching.ceiling import Ceiling
from runtime.batching.policy import NOTHING, BatchLimits, Release, Wait, choose, few, is_full
from runtime.batching.rows import Row


class Gathers(Protocol):
    """What a queue must know of its segment.

    Attributes:
        limits: how rows are gathered; None when a few milliseconds' worth are taken at a time.
        streams: its rows come back after every item.
    """

    @property
    def limits(self) -> BatchLimits | None: ...
    @property
    def streams(self) -> bool: ...


class Queues:
    """Queues of rows, in the order of the segments.

    Mutable state: ``_queues``, ``waiting`` (rows in all of them), ``row_s`` (smoothed seconds a row, one a segment), ``_ceilings`` (what
    memory had no room for, one a segment).
    """

    __slots__ = ("_ceilings", "_queues", "_segments", "row_s", "waiting")

    def __init__(self, segments: Sequence[Gathers]) -> None:
        self._segments = segments
        self._queues: list[list[Row]] = [[] for _ in segments]
        self._ceilings: list[Ceiling | None] = [None] * len(segments)
        self.row_s = [0.0] * len(segments)
        self.waiting = 0

    def lengths(self) -> list[int]:
        """Rows that wait, by segment."""
        return [len(queue) for queue in self._queues]

    def add(self, index: int, rows: Sequence[Row]) -> None:
        """They wait at this segment from now on."""
        self._queues[index].extend(rows)
        self.waiting += len(rows)

    def take(self, now: float, idle_workers: int) -> tuple[int, list[Row]] | Wait:
        """The segment and the rows that leave for it now, or when the next may.

        A full batch goes first, then new rows (they may fill one), then of the models the one whose oldest row has waited longest: what a
        row becomes waits while earlier rows are on their way to the same place, and goes on with what they become (lines of 8 pages: 4.5
        a run, where going on with each page at once makes 2.1, in the same processor time a page). Streams, whose rows
        always wait, go by age: first when nobody has waited longer, otherwise last; neither they nor new rows can starve the other.
        """
        waiting = [i for i, queue in enumerate(self._queues) if queue]
        if len(waiting) > 1:
            waiting.sort(key=self._urgency)
        soonest = NOTHING
        for i in waiting:
            decision = choose(self._queues[i], self._limits(i, now), now, idle_workers=idle_workers)
            if isinstance(decision, Release):
                return i, self._pop(i, decision.positions)
            if decision.until < soonest.until:
                soonest = decision
        return soonest

    def learn(self, index: int, row_s: float, ceiling: Ceiling | None, now: float) -> None:
        """What a row of a batch took, and what memory had no room for. Workers do not wait for each other here: one may be lost."""
        self.row_s[index] += 0.1 * (row_s - self.row_s[index])
        if ceiling is not None:
            self._ceilings[index] = ceiling.lowered(self._ceilings[index], now)

    def _limits(self, index: int, now: float) -> BatchLimits:
        limits, ceiling = self._segments[index].limits or few(self.row_s[index]), self._ceilings[index]
        return limits if ceiling is None else ceiling.cut(limits, now)

    def _urgency(self, index: int) -> tuple[int, float]:
        limits = self._segments[index].limits
        if self._segments[index].streams:
            since = self._queues[index][0].since
            return (-1 if all(since <= queue[0].since for queue in self._queues if queue) else 3), -index
        if limits is None:
            return 1, -index
        return (0, -index) if is_full(self._queues[index], limits) else (2, self._queues[index][0].since)

    def _pop(self, index: int, positions: Sequence[int]) -> list[Row]:
        queue = self._queues[index]
        self.waiting -= len(positions)
        rows = [queue[i] for i in positions]
        if len(positions) == len(queue):
            queue.clear()
        elif isinstance(positions, range):
            del queue[: len(positions)]
        else:
            gone = set(positions)
            queue[:] = [row for i, row in enumerate(queue) if i not in gone]
        return rows
