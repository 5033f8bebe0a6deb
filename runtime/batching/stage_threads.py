"""Threads of one stage that waits for others, and which stages should have some.

A worker thread is there to compute: a function has as many as it declares CPUs. A stage that waits,
for an HTTP answer or a database, keeps one busy and needs no CPU: eight callers of a stage that
waits 0.5 s are answered after 0.5, 1.0 … 4.0 s by one worker. So such a stage may declare
``threads``: its rows wait in a queue of their own, which these threads serve and nothing else.

The function's ``Batcher`` runs their batches like any other, so that rows are batched, dropped,
measured, and sent on as everywhere. What the threads take is not counted as the work of a CPU, but
for what they really compute.

``WaitWatch`` finds a stage that should have declared it.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from runtime.batching.calls import Row
from runtime.batching.fair_queue import FunctionShare
from runtime.batching.health.function_health import FunctionHealth
from runtime.batching.policy import WaitUntil
from runtime.batching.queues import SegmentQueues
from runtime.batching.service_times import Running
from runtime.batching.workers import Batch, Workers
from runtime.system.crash import CrashRecorder

logger = logging.getLogger("wakeful.function")


class ThreadOwner(Protocol):
    """The function that the threads work for: its batcher.

    ``run`` runs a batch in the calling thread and raises nothing.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def health(self) -> FunctionHealth: ...
    def run(self, batch: Batch) -> None: ...


class StageThreads:
    """The threads of one segment, and its rows that wait for them; a
    ``runtime.batching.workers.BatchSource``.

    Args:
        index: of the segment.
        count: of the threads.
        queues: of the function, for no other workers than these.
        crash_recorder: records that the function runs here, for the report if the process crashes.

    Mutable state, under the lock of ``workers``: ``_queues``, ``_running`` (batches), ``_mark``
    (of the crash recorder, while there are some), ``cpu_s`` (seconds that the threads have
    computed).
    """

    def __init__(
        self,
        owner: ThreadOwner,
        index: int,
        count: int,
        queues: SegmentQueues,
        crash_recorder: CrashRecorder | None = None,
    ) -> None:
        self.share = FunctionShare(count)
        self.workers = Workers(count, is_watched=False)
        self.cpu_s = 0.0
        self._owner = owner
        self._index = index
        self._queues = queues
        self._crash_recorder = crash_recorder
        self._mark: int | None = None
        self._running = 0

    def __repr__(self) -> str:
        return f"<StageThreads {self.name}: {self.waiting} rows wait; {self.workers!r}>"

    @property
    def name(self) -> str:
        """The function's name."""
        return self._owner.name

    @property
    def label(self) -> str:
        """The function's name in crash reports."""
        return self._owner.label

    @property
    def timeout_s(self) -> float:
        """The longest that a call of the function waits."""
        return self._owner.timeout_s

    @property
    def health(self) -> FunctionHealth:
        """The one that the function's other threads report to as well."""
        return self._owner.health

    @property
    def waiting(self) -> int:
        """Rows that wait for one of the threads."""
        return self._queues.waiting

    def crash_slot(self) -> int | None:
        """Where the crash recorder has that the function runs here, while it does."""
        return self._mark

    def measure_running(self, now: float) -> Running:
        """The batches that run."""
        with self.workers.lock:
            active, began_s = self.share.active, self.share.began_s
        return Running(self._index, active, self.share.max_workers, active * now - began_s)

    def add(self, rows: Sequence[Row]) -> bool:
        """Rows begin to wait; returns whether they may: not after ``close``."""
        with self.workers.lock:
            if is_taken := self.workers.enter(self, len(rows)):
                self._queues.add(self._index, rows)
        return is_taken

    def take(self, now: float, idle_workers: int) -> Batch | WaitUntil:
        """As of ``BatchSource``."""
        found = self._queues.take(now, idle_workers)
        if isinstance(found, WaitUntil):
            return found
        index, rows = found
        return index, rows, self._queues.times.segments[index].row_s * len(rows)

    def run(self, batch: Batch) -> None:
        """As of ``BatchSource``."""
        with self.workers.lock:
            self._running += 1
            if self._running == 1 and self._crash_recorder is not None:
                self._mark = self._crash_recorder.mark(self.label)
        began = time.thread_time()
        self._owner.run(batch)
        took_s = time.thread_time() - began
        with self.workers.lock:
            self.cpu_s += took_s
            self._running -= 1
            if not self._running and self._crash_recorder is not None:
                self._crash_recorder.unmark(self._mark)
                self._mark = None

    def close(self, timeout_s: float) -> None:
        """Ends the threads, once no rows wait; blocks for at most ``timeout_s``. Idempotent."""
        self.workers.close(timeout_s)

    def forget(self) -> None:
        """Keep the function no longer; after ``close``."""
        self._owner = weakref.proxy(self._owner)


LONG_S: Final = 0.1
"""Seconds of a batch from which on it is looked at: shorter ones keep few rows waiting, and a look
takes a microsecond.
"""

COMPUTED: Final = 0.05
"""Part of a batch's time that a stage which waits computes at most. A stage that computes has less
than all of it where other threads want the CPU, or the interpreter: of sixteen, a sixteenth.
"""

SEEN: Final = 3
"""Batches that waited, after which it is said."""


class WatchedSegment(Protocol):
    """What must be known of a segment to watch it.

    Attributes:
        is_python: it has Python stages only.
        on_loop: it runs on the event loop.
        threads: of its own; 0: workers run it.
    """

    @property
    def name(self) -> str: ...
    @property
    def is_python(self) -> bool: ...
    @property
    def on_loop(self) -> bool: ...
    @property
    def threads(self) -> int: ...


class WaitWatch:
    """Says once in the log that a plain stage waits while rows wait for it.

    Mutable state: ``_left``, by segment the batches that have still to be seen; ``_cpu_s``, what a
    thread had computed when it was last looked at. Written by workers without a lock: a lost count
    delays a line of the log.
    """

    def __init__(self, function: str, segments: Iterable[WatchedSegment]) -> None:
        self._function = function
        self._names = {
            index: one.name
            for index, one in enumerate(segments)
            if one.is_python and not (one.on_loop or one.threads)
        }
        self._left = dict.fromkeys(self._names, SEEN)
        self._cpu_s: dict[int, float] = {}

    def record(self, index: int, seconds: float, behind: int) -> None:
        """In a worker thread, after a batch that took ``LONG_S`` or more.

        What the thread has computed since the last look is the most that it can have computed for
        this batch, so no other batch pays for a look at the clock.

        Args:
            behind: rows that wait for a worker.
        """
        thread, cpu_s = threading.get_ident(), time.thread_time()
        before = self._cpu_s.get(thread)
        self._cpu_s[thread] = cpu_s
        if before is None or index not in self._left:
            return
        if not is_waiting(seconds, cpu_s - before, behind):
            return
        self._left[index] -= 1
        if not self._left[index]:
            del self._left[index]
            logger.warning(
                "%s: stage %r waits: a batch took %.2f s, %.3f s of them to compute, while %d rows "
                "waited for it. With `threads: 16` on the stage so many of its rows wait at once "
                "(docs/stages.md, stages that wait).",
                self._function,
                self._names[index],
                seconds,
                cpu_s - before,
                behind,
            )


def is_waiting(seconds: float, cpu_s: float, behind: int) -> bool:
    """Whether a batch of so many seconds, of which ``cpu_s`` at most were computed, waited while
    rows waited for it.
    """
    return behind > 0 and seconds >= LONG_S and cpu_s <= COMPUTED * seconds
