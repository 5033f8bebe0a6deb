"""The rows of one function that run in threads, in batches: those of the process's workers
(``ThreadBatches``), or of one stage (``StageThreads``). What runs on the event loop instead is
``runtime.batching.loop_tasks``; both are given rows by ``add``, and give them to a ``RowFlow``.

A worker thread is there to compute: a function has as many as it declares CPUs. A stage that waits,
for an HTTP answer or a database, keeps one busy and needs no CPU: eight callers of a stage that
waits 0.5 s are answered after 0.5, 1.0 … 4.0 s by one worker. So such a stage may declare
``threads``: its rows wait in a queue of their own, which these threads serve and nothing else.
Their batches run like any other, so that rows are batched, dropped, measured, and sent on as
everywhere. What the threads take is not counted as the work of a CPU, but for what they really
compute.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence

from runtime.batching.calls import Row, RowFlow
from runtime.batching.fair_queue import FunctionShare
from runtime.batching.health.failure_detector import FailureWatch
from runtime.batching.health.function_health import FunctionHealth
from runtime.batching.health.wait_watch import LONG_S, WaitWatch
from runtime.batching.queues import Batch, SegmentProtocol, SegmentQueues
from runtime.batching.service_times import Running, ServiceTimes
from runtime.batching.workers import Workers
from runtime.system.crash import CrashRecorder
from runtime.system.telemetry.counters import FunctionCounters
from runtime.system.telemetry.trace import Part


class ThreadBatches:
    """The segments of one function that its workers run; a
    ``runtime.batching.health.worker_threads.BatchSource``.

    Args:
        name, label: of the function; the label names it in crash reports.
        segments: of the function, in order.
        flow: has the rows before and after.
        workers: the threads; they are not ended here.
        share: how many of them run this function at once, one for each CPU that it declares.
        times: what batches take; told of each.
        health: of the function's threads.
        failures: told of batches in which no row was answered.
        counters: count the batches.

    Attributes:
        share: its share of the workers.
        queues: the rows that wait; under the workers' lock.
    """

    def __init__(
        self,
        name: str,
        label: str,
        segments: Sequence[SegmentProtocol],
        *,
        flow: RowFlow,
        workers: Workers,
        share: int,
        times: ServiceTimes,
        health: FunctionHealth,
        failures: FailureWatch,
        counters: FunctionCounters,
    ) -> None:
        self.name = name
        self.label = label
        self.share = FunctionShare(share)
        self.queues = SegmentQueues(segments, times)
        self.health = health
        self._segments = segments
        self.flow = flow
        self._workers = workers
        self._failures = failures
        self._wait_watch = WaitWatch(name, segments)
        self._counters = counters
        counters.declare_stages([one.name for one in segments if one.batch_limits is not None])
        self._stage_counters = [counters.stages.get(one.name) for one in segments]

    def add(self, index: int, rows: Sequence[Row]) -> None:
        """Rows begin to wait at a segment, in any thread."""
        if not self._workers.add(self, index, rows):
            self.flow.refuse(index, rows)

    def run(self, batch: Batch) -> None:
        """Runs the batch through its segment, in a worker thread, and raises nothing."""
        index, rows, _ = batch
        flow = self.flow  # until the batch is over: see ``forget``
        try:
            began = time.monotonic()
            live = flow.drop_over(index, rows, began)
            if not live:
                return
            cap = self._segments[index].run(live)
            if self.health.gone and self.health.has_let_go(rows):
                return
            now = time.monotonic()
            took_s = now - began
            self.queues.record_batch(index, len(live), took_s, cap, now)
            self._counters.record_batch(self._stage_counters[index], live, took_s)
            if took_s >= LONG_S:
                self._wait_watch.record(index, took_s, self.queues.waiting)
            if self._counters.begin_trace is not None:
                self._trace(index, live, began, now)
            if live[0].error is not None or self._failures.detectors[index].failing:
                self._failures.record(index, live, now)
            flow.advance(index, live)
        # our bug, or a stage's SystemExit, ends no thread and leaves no call without an answer
        except BaseException:
            flow.fail(index, rows)

    def _trace(self, index: int, rows: Sequence[Row], began: float, now: float) -> None:
        """Keeps the batch, and the wait for it, in the traces of the calls that had rows in it."""
        name = self._segments[index].name
        recorded = {
            trace: row.since
            for row in reversed(rows)
            if (trace := row.call.trace) is not None and trace.is_sampled
        }
        for trace, waited in recorded.items():
            trace.add(Part("queue", name, waited, began))
            trace.add(Part("batch", name, began, now, len(rows)))

    def measure_running(self, now: float) -> tuple[Running, float]:
        """Under the workers' lock: the batches that run, and how many workers the function has
        while others want theirs.
        """
        active, workers = self.share.active, self._workers.available(self)
        return Running(None, active, int(workers), active * now - self.share.began_s), workers

    def busy_s(self, now: float) -> float:
        """Worker seconds spent on it until now, running batches included; never falls."""
        with self._workers.lock:
            return self.share.busy_s(now)

    def forget(self) -> None:
        """Keep the function's flow no longer; once no rows are inside."""
        self.flow = weakref.proxy(self.flow)


class StageThreads:
    """The threads of one segment, and its rows that wait for them; a ``BatchSource`` as well.

    Args:
        batches: of the function; runs the batches.
        index: of the segment.
        count: of the threads.
        crash_recorder: records that the function runs here, for the report if the process crashes.

    Attributes:
        share: of the threads.
        queues: for no other workers than these.
        workers: the threads.

    Mutable state, under the lock of ``workers``: ``queues``, ``_running`` (batches), ``_mark`` (of
    the crash recorder, while there are some), ``cpu_s`` (seconds that the threads have computed).
    """

    def __init__(
        self,
        batches: ThreadBatches,
        index: int,
        count: int,
        crash_recorder: CrashRecorder | None = None,
    ) -> None:
        self.name = batches.name
        self.label = batches.label
        self.health = batches.health
        self.share = FunctionShare(count)
        self.queues = batches.queues.beside()
        self.workers = Workers(count, is_watched=False)
        self.cpu_s = 0.0
        self._batches = batches
        self._index = index
        self._crash_recorder = crash_recorder
        self._mark: int | None = None
        self._running = 0

    def __repr__(self) -> str:
        return f"<StageThreads {self.name}: {self.queues.waiting} rows wait; {self.workers!r}>"

    def crash_slot(self) -> int | None:
        """Where the crash recorder has that the function runs here, while it does."""
        return self._mark

    def measure_running(self, now: float) -> Running:
        """The batches that run."""
        with self.workers.lock:
            active, began_s = self.share.active, self.share.began_s
        return Running(self._index, active, self.share.max_workers, active * now - began_s)

    def add(self, index: int, rows: Sequence[Row]) -> None:
        """As of ``ThreadBatches``."""
        if not self.workers.add(self, index, rows):
            self._batches.flow.refuse(index, rows)

    def run(self, batch: Batch) -> None:
        """As of ``ThreadBatches``."""
        with self.workers.lock:
            self._running += 1
            if self._running == 1 and self._crash_recorder is not None:
                self._mark = self._crash_recorder.mark(self.label)
        began = time.thread_time()
        self._batches.run(batch)
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
        self._batches = weakref.proxy(self._batches)
