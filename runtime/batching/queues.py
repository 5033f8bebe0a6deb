"""The waiting rows of one function, in one queue a segment, and the choice of those that leave
next.

Everything here happens under the workers' lock, but for ``record_batch``, which a worker calls
after a batch.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from types import FrameType
from typing import Any, Protocol

from runtime.batching.bisection import BatchSizeCap
from runtime.batching.calls import Row
from runtime.batching.fan_out import SegmentRouting
from runtime.batching.policy import (
    NOTHING_DUE,
    BatchLimits,
    Run,
    WaitUntil,
    choose,
    is_full,
    python_batch_limits,
)
from runtime.batching.service_times import ServiceTimes

Batch = tuple[int, list[Row], float]
"""The segment's index, the rows, and the seconds they are expected to take."""


class QueueSegment(Protocol):
    """What a queue needs of its segment.

    Attributes:
        batch_limits: how rows are batched; None: a few are taken at a time
            (``python_batch_limits``).
        streams: its rows come back after every item.
    """

    @property
    def batch_limits(self) -> BatchLimits | None: ...
    @property
    def streams(self) -> bool: ...


class SegmentQueues:
    """Queues of rows, in the order of the segments.

    Args:
        times: what batches of the segments take; told of each.

    Mutable state: ``_queues``, ``waiting`` (rows in all of them), ``times``, ``_caps`` (found when
    memory ran out, one a segment).
    """

    __slots__ = ("_caps", "_queues", "_segments", "times", "waiting")

    def __init__(self, segments: Sequence[QueueSegment], times: ServiceTimes) -> None:
        self._segments = segments
        self._queues: list[list[Row]] = [[] for _ in segments]
        self._caps: list[BatchSizeCap | None] = [None] * len(segments)
        self.times = times
        self.waiting = 0

    def beside(self) -> SegmentQueues:
        """Empty queues of the same segments, for other workers and under their lock. What batches
        show is known to both.
        """
        queues = SegmentQueues(self._segments, self.times)
        queues._caps = self._caps
        return queues

    def lengths(self) -> list[int]:
        """Rows that wait, by segment."""
        return [len(queue) for queue in self._queues]

    def add(self, index: int, rows: Sequence[Row]) -> None:
        """Rows begin to wait at this segment."""
        self._queues[index].extend(rows)
        self.waiting += len(rows)

    def take(self, now: float, idle_workers: int) -> Batch | WaitUntil:
        """The batch that leaves now, or when the next one may.

        First goes a batch whose rows would be too late otherwise (they lack a model, and new rows
        that came first would take the time that they have left), then a full batch, then new rows
        (they may fill one), then Python stages that take all rows (for the same reason), then of
        the models the one whose oldest row has waited longest.
        So the inner rows of a row wait while earlier rows come to the same segment, and share a
        batch with theirs (lines of 8 pages: 4.5 a run, where going on with each page at once makes
        2.1, in the same processor time a page). Streams, whose rows always wait, go by age: first
        when no row has waited longer, otherwise last; neither they nor new rows can starve the
        other.
        """
        waiting = [i for i, queue in enumerate(self._queues) if queue]
        if len(waiting) > 1:
            waiting.sort(key=lambda index: self._urgency(index, now))
        soonest = NOTHING_DUE
        for i in waiting:
            decision = choose(self._queues[i], self._limits(i, now), now, idle_workers=idle_workers)
            if isinstance(decision, Run):
                rows = self._pop(i, decision.positions)
                return i, rows, self.times.segments[i].row_s * len(rows)
            if decision.until < soonest.until:
                soonest = decision
        return soonest

    def record_batch(
        self, index: int, rows: int, seconds: float, cap: BatchSizeCap | None, now: float
    ) -> None:
        """Records the seconds that a batch of so many rows took, and the cap if memory ran out.
        Workers take no lock for it: one record may be lost.
        """
        self.times.segments[index].record(rows, seconds)
        if cap is not None:
            self._caps[index] = cap.min_with(self._caps[index], now)

    def _limits(self, index: int, now: float) -> BatchLimits:
        limits, cap = (
            self._segments[index].batch_limits
            or python_batch_limits(self.times.segments[index].row_s),
            self._caps[index],
        )
        return limits if cap is None else cap.cut(limits, now)

    def batch_sizes(self) -> list[int]:
        """The most rows of a batch, by segment, as declared; 1 where a row takes as long in any."""
        return [
            1 if one.batch_limits is None else one.batch_limits.max_batch_size
            for one in self._segments
        ]

    def _urgency(self, index: int, now: float) -> tuple[int, float]:
        limits = self._segments[index].batch_limits
        if self._segments[index].streams:
            since = self._queues[index][0].since
            return (
                -1 if all(since <= queue[0].since for queue in self._queues if queue) else 4
            ), -index
        if limits is None:
            return 1, -index
        if is_full(self._queues[index], limits):
            return 0, -index
        since = self._queues[index][0].since
        if self._is_nearly_late(index, now):
            return -1, since
        return 2 if limits.before_models else 3, since

    def _is_nearly_late(self, index: int, now: float) -> bool:
        """Whether a row of a batch that is not full has no time to wait for more. A loop over at
        most ``max_batch_size`` rows: there are fewer.
        """
        due = min(row.call.deadline for row in self._queues[index])
        return due - now < self.times.slack_s(index)

    def _pop(self, index: int, positions: Sequence[int]) -> list[Row]:
        queue, limits = self._queues[index], self._segments[index].batch_limits
        self.waiting -= len(positions)
        if limits is not None and len(queue) > limits.max_batch_size:
            self.times.segments[index].record_full(len(positions))
        rows = [queue[i] for i in positions]
        if len(positions) == len(queue):
            queue.clear()
        elif isinstance(positions, range):
            del queue[: len(positions)]
        else:
            gone, end = set(positions), max(positions) + 1
            queue[:end] = [queue[i] for i in range(end) if i not in gone]
        return rows


class SegmentProtocol(QueueSegment, SegmentRouting, Protocol):
    """Stages that run on one batch without a pause; made by ``runtime.execution.segments``.

    Attributes:
        name: of its first stage.
        on_loop: its stages are coroutines, or it is another function; its rows run on the event
            loop, each by itself.
        by_call: its rows on the event loop run together, all rows of a call: they go to another
            function.
        streams: it gives one item of a row at a time (``stream``), or on the event loop all of
            them; only the last segment may.
        calls: it is another function.
        threads: that run it and nothing else (``runtime.batching.thread_batches``); 0: the
            function's workers do.
        is_python: it has Python stages only.

    ``measure`` sets a waiting row's key, shapes and padded size. ``run`` (in a worker) and
    ``run_on_loop`` give each row its values or its error and do not raise for a fault of one row;
    rows on the event loop are one call's. ``run`` returns the cap of later batches if memory ran
    out for these rows together. ``stage_in`` returns the name of its stage that stands in the
    frames of a thread, innermost first, or nothing. ``renew`` gives the stage of this name a new
    object if it is a class, and all of its stages where the name is empty; blocking.
    """

    @property
    def name(self) -> str: ...
    @property
    def on_loop(self) -> bool: ...
    @property
    def by_call(self) -> bool: ...
    @property
    def streams(self) -> bool: ...
    @property
    def calls(self) -> bool: ...
    @property
    def threads(self) -> int: ...
    @property
    def is_python(self) -> bool: ...
    def measure(self, row: Row) -> None: ...
    def run(self, rows: Sequence[Row]) -> BatchSizeCap | None: ...
    def run_on_loop(self, rows: Sequence[Row]) -> Coroutine[Any, Any, None]: ...
    def stage_in(self, frames: Sequence[FrameType]) -> str: ...
    def renew(self, stage: str) -> None: ...
