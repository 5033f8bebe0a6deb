"""How long rows take: measured by segment, batch after batch, and what that says of the rows that
wait.

Rules:

1. Seconds are divided by rows, both smoothed: where quick rows share batches and slow ones do not,
   the mean of each batch's seconds a row would be that of the slow ones.
2. A model's batch is taken to cost a fixed part and a part for each row, as a line through the
   batches that were seen: after a quiet time of single rows that of a full one is not known, and
   a row of it is taken to cost the least that is possible, the batch divided by its rows. A full
   batch or two later the line is known.
3. A batch's size is ``max_batch_size``, or what batches came to while more rows waited: rows of
   unlike shapes do not fill one.
4. Rows that run on the event loop take no worker, and time: their mean, and twice what they stray
   from it.
5. The first batch does not count once there is a second: it pays for what is made lazily. A segment
   with fewer than ``LEAST_BATCHES`` costs nothing: nothing is refused by what is not known.

6. A segment with threads of its own (``runtime.batching.thread_batches``) keeps no worker busy. Its
   seconds count as a worker's by what the threads get done meanwhile: of 16 threads beside one
   worker, a sixteenth.

What would break it: seconds in ``SegmentTime`` that are not a thread's (a coroutine that waits).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MEMORY_ROWS: Final = 100
"""Rows that what is smoothed goes by. Where one row in twenty takes twenty times as long as the
others, fewer say more of the last such row than of the next ones."""

LEAST_WEIGHT: Final = 0.02
MOST_WEIGHT: Final = 0.1
"""Of one batch: batches of many rows vary less, and are seldomer."""

LEAST_BATCHES: Final = 8
"""Batches after which a segment's time is known."""

LEAST_S: Final = 5.0
"""Or so many seconds of them: eight batches of ten seconds are more than any deadline."""


class SegmentTime:
    """What the batches of one segment took, smoothed.

    Attributes:
        row_s: seconds a row; 0 when not known yet.
        batch_s: seconds a batch.

    Mutable state: the sums of ``record``, which workers call without a lock: one record may be
    lost; and ``_full`` (rows of a batch while more waited; 0 when that was not seen), under it.
    """

    __slots__ = (
        "_batches",
        "_full",
        "_products",
        "_rows",
        "_seconds",
        "_squares",
        "batch_s",
        "row_s",
    )

    def __init__(self) -> None:
        self.row_s = self.batch_s = 0.0
        self._batches = 0
        self._seconds = 0.0
        self._rows = self._squares = self._products = self._full = 0.0

    def record(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so many seconds of a worker."""
        self._batches = known = self._batches + 1
        # the second replaces the first; by the rows of other batches: a large one weighs no more
        weight = min(MOST_WEIGHT, max(LEAST_WEIGHT, self._rows / MEMORY_ROWS))
        if known * weight < 1:
            weight = 1 / max(1, known - 1)
        if known > 1:
            self._seconds += seconds
        self._rows += weight * (rows - self._rows)
        self.batch_s += weight * (seconds - self.batch_s)
        self._squares += weight * (rows * rows - self._squares)
        self._products += weight * (rows * seconds - self._products)
        self.row_s = self.batch_s / self._rows

    def record_full(self, rows: int) -> None:
        """So many rows left in a batch that more rows than fill one waited for."""
        self._full += 0.2 * (rows - self._full) if self._full else rows

    @property
    def is_known(self) -> bool:
        """Whether enough batches were seen."""
        return self._batches > LEAST_BATCHES or self._seconds > LEAST_S

    def queued_row_s(self, max_batch_size: int) -> float:
        """Seconds that a row takes among many that wait; 0 when not known yet. Never more than
        ``row_s``: batches make no row dearer.
        """
        if not self.is_known:
            return 0.0
        rows = self._full or max_batch_size
        if rows <= self._rows:
            return self.row_s
        spread = self._squares - self._rows * self._rows
        slope = (self._products - self._rows * self.batch_s) / spread if spread > 1e-6 else 0.0
        slope = min(max(slope, 0.0), self.row_s)
        return min(self.row_s, slope + (self.batch_s - slope * self._rows) / rows)


class LoopTime:
    """What rows take that run on the event loop, smoothed: most of them no longer than ``most_s``,
    seconds; 0 when not known yet.

    Mutable state: what ``record`` smooths, on the event loop.
    """

    __slots__ = ("_deviation_s", "_known", "_mean_s")

    def __init__(self) -> None:
        self._known = 0
        self._mean_s = self._deviation_s = 0.0

    def record(self, seconds: float) -> None:
        """A row, or those of a call together, took so long."""
        self._known += 1
        weight = max(LEAST_WEIGHT, 1 / self._known)
        away = abs(seconds - self._mean_s) if self._known > 1 else 0.0
        self._deviation_s += weight * (away - self._deviation_s)
        self._mean_s += weight * (seconds - self._mean_s)

    @property
    def most_s(self) -> float:
        """See the class."""
        known = self._known > LEAST_BATCHES
        return self._mean_s + 2 * self._deviation_s if known else 0.0


class WorkAhead(NamedTuple):
    """What a function's rows still take.

    Attributes:
        seconds: of one worker.
        workers: that work for it while other functions want theirs; a fraction where they share.
        latency_s: seconds that a row is on its way while no other one waits.
    """

    seconds: float
    workers: float
    latency_s: float


class Running(NamedTuple):
    """Batches that run now.

    Attributes:
        segment: whose threads run them; None: the function's workers.
        batches: how many.
        most: how many at once.
        seconds: the sum of what has passed since each began.
    """

    segment: int | None
    batches: int
    most: int
    seconds: float


class ServiceTimes:
    """The times of a function's segments.

    Args:
        factor: inner rows an outer row, smoothed, one a segment (``runtime.batching.fan_out``);
            read, not changed.
        taken: share of the rows that come to a segment and run it, likewise.
        threads: of its own that a segment has; 0, or none given: workers run it.
        workers: of the function.

    Attributes:
        segments: in order.
        on_loop: of those that run on the event loop, likewise; the others' stay 0.
    """

    __slots__ = ("_factor", "_scale", "_shared", "_taken", "on_loop", "segments")

    def __init__(
        self,
        factor: Sequence[float],
        taken: Sequence[float],
        threads: Sequence[int] = (),
        workers: int = 1,
    ) -> None:
        self.segments = [SegmentTime() for _ in factor]
        self.on_loop = [LoopTime() for _ in factor]
        self._factor = factor
        self._taken = taken
        own = threads or [0] * len(factor)
        self._scale = [workers / count if count else 1.0 for count in own]
        self._shared = [time for time, count in zip(self.segments, own, strict=True) if not count]

    @property
    def row_s(self) -> float:
        """Worker seconds that a row takes through all segments, as they are batched now."""
        return sum(
            time.row_s * scale * rows * share
            for time, scale, rows, share in zip(
                self.segments, self._scale, self._factor, self._taken, strict=True
            )
        )

    def left_s(self, sizes: Sequence[int]) -> tuple[list[float], list[float]]:
        """Worker seconds that a row takes among many that wait, from before each segment to the
        end, and from behind it.

        Before: a row of the function that has not come to the segment yet; the first is what a new
        row takes. Behind: a row that has been through it, an inner one with its part of what its
        outer row still takes.

        Args:
            sizes: the most rows of a batch, by segment.
        """
        count = len(self.segments)
        before, behind, rest = [0.0] * count, [0.0] * count, 0.0
        for index in reversed(range(count)):
            behind[index] = rest / max(1.0, self._factor[index])
            rows = self._factor[index] * self._taken[index]
            rest += rows * self._queued_row_s(index, sizes[index])
            before[index] = rest
        return before, behind

    def work_s(self, sizes: Sequence[int], waiting: Sequence[int], on_loop: Sequence[int]) -> float:
        """Worker seconds that these rows still take.

        Args:
            sizes: the most rows of a batch, by segment.
            waiting: rows in each segment's queue.
            on_loop: rows that run on the event loop, by segment.
        """
        _, behind = self.left_s(sizes)
        return sum(
            (rows and rows * (self._queued_row_s(index, size) + after)) + running * after
            for index, (size, after, rows, running) in enumerate(
                zip(sizes, behind, waiting, on_loop, strict=True)
            )
        )

    def running_s(self, running: Iterable[Running]) -> float:
        """Worker seconds that running batches still take. Nothing waits for what runs beside an
        idle worker, or thread.
        """
        left_s = 0.0
        for segment, batches, most, seconds in running:
            if batches and batches >= most:
                if segment is None:
                    batch_s, scale = self.longest_batch_s(), 1.0
                else:
                    batch_s, scale = self.segments[segment].batch_s, self._scale[segment]
                left_s += scale * max(0.0, batches * batch_s - seconds)
        return left_s

    def _queued_row_s(self, index: int, size: int) -> float:
        return self._scale[index] * self.segments[index].queued_row_s(size)

    def longest_batch_s(self) -> float:
        """Seconds a batch of the segment whose batches keep a worker longest."""
        return max([time.batch_s for time in self._shared], default=0.0)

    def latency_s(self) -> float:
        """Seconds that a row is on its way while no other one waits: a batch of each segment; for
        each but the first, the longest batch besides, which a worker may just have begun; and what
        it takes on the event loop.
        """
        batches = [time.batch_s for time in self._shared if time.batch_s]
        waits_s = (len(batches) - 1) * max(batches) if batches else 0.0
        return (
            sum(time.batch_s for time in self.segments)
            + waits_s
            + sum(time.most_s for time in self.on_loop)
        )

    def slack_s(self, index: int) -> float:
        """Seconds before its deadline at which a row that waits at this segment has to go: as long
        as its batches to the end, and two of the longest, since a worker may just have begun one
        and they vary.
        """
        rest = self.segments[index:], self.on_loop[index:]
        return (
            2 * self.longest_batch_s()
            + sum(time.batch_s for time in rest[0])
            + sum(time.most_s for time in rest[1])
        )
