"""Takes the rows of one function through its segments: they wait in one queue a segment, and
workers run the batches that the policy chooses.

A function's stages are cut into *segments* (``runtime.execution.segments``): each begins where rows
should be batched again, at the request or at a batched model. A worker runs a segment on a batch
from its first stage to its last, puts the rows into the queue of the segment that is next for them
(``RowRouter``), and asks for the next batch. So a call costs one hop into a worker thread and one
back, however many stages it has.

Theory of operation: all queues, counts and the closed flag change under the workers' lock, held
only for bookkeeping. Stages run outside it. A row leaves the batcher exactly once, through
``_finish``: answered, failed, or dropped because its call is over; when the last row of a call
leaves, its ``on_done`` is called on the event loop. Any exception of a stage becomes the error of
its rows.

On the event loop each row has a task of its own; the rows of one call that go to another function
share one. So no row waits there for a row of another call. The call's deadline cancels the task; if
the task does not end, it is abandoned, and its rows leave with an error.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from runtime.batching.calls import Call, Row, cancelled_row_error, deadline_error
from runtime.batching.failure_log import log_counts
from runtime.batching.fan_out import RowRouter
from runtime.batching.open_streams import OpenStreams
from runtime.batching.policy import WaitUntil
from runtime.batching.queues import SegmentProtocol, SegmentQueues
from runtime.batching.service_times import ServiceTimes
from runtime.batching.workers import Batch, FailureDetector, FunctionShare, Workers
from runtime.errors import DeviceLost, Draining, FunctionError
from runtime.system.function_context import CURRENT_FUNCTION, contain
from runtime.system.telemetry.counters import FunctionCounters
from runtime.system.telemetry.trace import Part

logger = logging.getLogger("wakeful.batcher")


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


class Batcher:
    """The queues of one function, served by workers that other functions may share.

    Args:
        name: the function's, for logs.
        segments: in order; rows go from one to the next.
        workers: the threads; they are not ended by ``close``.
        share: how many of them run this function at once, one for each CPU that it declares.
        loop: the event loop that calls are submitted from and answered on.
        counters: of the function, which count its rows and batches; None: they are not told.

    Attributes:
        label: its name in crash reports; the function's name until the function sets it.
        share: its share of the workers.
        timeout_s: the longest that a call waits; a batch that takes much longer hangs.
        on_suspected_failure: called on the event loop when several batches have answered no row:
            with the reason, if it is sure that none will; with an empty one if that is to be
            tested.

    Mutable state, all under the workers' lock: ``_queues``, ``_inside`` (rows submitted that have
    not left), ``_closed``, ``share``. ``_detectors`` (one a segment) belong to the thread that runs
    a batch of the segment. ``_arrived`` (rows submitted in this turn of the event loop, by call),
    ``_tasks`` (what runs on it) and ``_mark`` belong to the event loop.
    """

    def __init__(
        self,
        name: str,
        segments: Sequence[SegmentProtocol],
        *,
        workers: Workers,
        share: int,
        loop: asyncio.AbstractEventLoop,
        counters: FunctionCounters | None = None,
    ) -> None:
        self.name = self.label = name
        self.share = FunctionShare(share)
        self.timeout_s = math.inf
        self.on_suspected_failure: Callable[[str], None] = _no_callback
        self._segments = tuple(segments)
        self._workers = workers
        self._loop = loop
        self._lock = workers.lock
        self._router = RowRouter(self._segments, self._lock)
        self._times = ServiceTimes(self._router.factor, self._router.taken)
        self._queues = SegmentQueues(self._segments, self._times)
        self._streams = OpenStreams(self._router.factor) if segments[-1].streams else None
        self._detectors = [FailureDetector() for _ in segments]
        self._counters = counters = counters or FunctionCounters(name)
        counters.declare_stages([one.name for one in segments if one.batch_limits is not None])
        self._stage_counters = [counters.stages.get(segment.name) for segment in segments]
        self._arrived: list[list[Row]] = []
        self._inside = 0
        self._closed = False
        self._is_empty = threading.Event()
        if any(segment.on_loop for segment in segments):
            contain(loop)
        self._tasks: dict[asyncio.Task[None], _Task] = {}
        self._mark: int | None = None

    def __repr__(self) -> str:
        waiting = ", ".join(
            f"{rows} at {segment.name}"
            for rows, segment in zip(self._queues.lengths(), self._segments, strict=True)
        )
        return (
            f"<Batcher {self.name}: {waiting}; {self.share.active} of {self.share.max_workers} "
            f"workers, {self.busy_s:.3f} s busy>"
        )

    @property
    def trouble(self) -> str:
        """Why it cannot answer: a worker thread has died or hangs; empty when all is well."""
        return self._workers.trouble

    @property
    def waiting(self) -> int:
        """Rows that wait for a worker."""
        return self._queues.waiting

    @property
    def row_seconds(self) -> float:
        """Seconds of one worker that a row takes through all segments, smoothed."""
        return self._times.row_s

    @property
    def queued_row_s(self) -> float:
        """The same among many rows that wait, which share batches; 0 when not known yet."""
        return self._times.left_s(self._queues.batch_sizes())[0][0]

    def work_ahead(self) -> WorkAhead:
        """What a new row waits for. Used on the event loop; takes microseconds for each task that
        runs there.
        """
        on_loop = [0] * len(self._segments)
        for task in self._tasks.values():
            on_loop[task.index] += len(task.rows)
        with self._lock:
            waiting = self._queues.lengths()
            active = self.share.active
            running_s = active * time.monotonic() - self.share.began_s
            workers = self._workers.available(self)
        work_s = self._times.work_s(self._queues.batch_sizes(), waiting, on_loop)
        # nothing waits for what runs beside an idle worker
        is_busy = active and active >= int(workers)
        left_s = max(0.0, active * self._times.longest_batch_s() - running_s) if is_busy else 0.0
        return WorkAhead(work_s + left_s, workers, self._times.latency_s())

    @property
    def max_fan_out(self) -> int:
        """A row with more elements to run over fails."""
        return self._router.max_fan_out

    @max_fan_out.setter
    def max_fan_out(self, most: int) -> None:
        self._router.max_fan_out = most

    @property
    def busy_s(self) -> float:
        """Worker seconds spent on it so far, running batches included; never falls."""
        with self._lock:
            return self.share.busy_s(time.monotonic())

    def submit(self, call: Call, on_done: Callable[[Call], None]) -> None:
        """Takes a call. ``on_done`` is called once on the event loop, when each row has values or
        an error.

        Raises:
            Draining: after ``close``.
        """
        call.on_done = on_done
        with self._lock:
            self._accept(call)
        if not self._arrived:
            self._loop.call_soon(self._enqueue_arrived)
        self._arrived.append(call.rows)

    def _enqueue_arrived(self) -> None:
        """Let rows of this turn of the event loop begin to wait, all at once. The loop gives the
        interpreter's lock away between two sockets: a worker that was woken for the first of eight
        calls took it there, and a trivial call cost 70 us instead of 40.
        """
        calls, self._arrived = self._arrived, []
        is_queued = self._router.is_straight and not self._segments[0].on_loop
        together: list[Row] = []
        for rows in calls:
            try:
                if is_queued:
                    self._measure(0, rows)
                    together += rows
                else:
                    self._advance(-1, rows)
            except Exception:  # our bug, as in a worker; the other calls have no part in it
                self._fail(0, rows)
        if together:
            self._add(0, together)

    def close(self, timeout_s: float) -> None:
        """Takes no more calls and blocks until the submitted ones are answered, for at most
        ``timeout_s``. Idempotent.
        """
        with self._lock:
            self._closed = True
            if not self._inside:
                self._is_empty.set()
        if not self._is_empty.wait(timeout_s) and self._streams is not None:
            self._loop.call_soon_threadsafe(self._streams.close_all)
            self._is_empty.wait(GRACE_S)

    def take(self, now: float, idle_workers: int) -> Batch | WaitUntil:
        """Called by a worker under the lock: the batch that leaves now, or when the next one
        may.
        """
        found = self._queues.take(now, idle_workers)
        if isinstance(found, WaitUntil):
            return found
        index, rows = found
        return index, rows, self._times.segments[index].row_s * len(rows)

    def run(self, batch: Batch) -> None:
        """Runs the batch through its segment, in a worker thread."""
        index, rows, _ = batch
        try:
            began = time.monotonic()
            live = self._drop_cancelled(index, rows, began)
            if not live:
                return
            cap = self._segments[index].run(live)
            now = time.monotonic()
            self._queues.record_batch(index, len(live), now - began, cap, now)
            self._counters.record_batch(self._stage_counters[index], live, now - began)
            if self._counters.begin_trace is not None:
                self._trace(index, live, began, now)
            if live[0].error is not None or self._detectors[index].failing:
                self._record_batch(index, live, now)
            self._advance(index, live)
        # our bug, or a stage's SystemExit, ends no thread and leaves no call without an answer
        except BaseException:
            self._fail(index, rows)

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

    def _accept(self, call: Call) -> None:
        """Under the lock: from here on ``close`` waits for the call's rows."""
        if self._closed or self._workers.is_closed:
            raise _draining_error()
        self._inside += len(call.rows)
        self._counters.rows += len(call.rows)
        if self._streams is not None:
            self._streams.add(call)

    def _enqueue(self, index: int, rows: list[Row]) -> None:
        """Puts rows into a segment's queue, or starts them at once where they run on the event
        loop.
        """
        segment = self._segments[index]
        self._measure(index, rows)
        if segment.on_loop:
            self._loop.call_soon_threadsafe(
                self._start, index, _by_call(rows) if segment.by_call else [[row] for row in rows]
            )
            return
        self._add(index, rows)

    def _measure(self, index: int, rows: list[Row]) -> None:
        segment, now = self._segments[index], time.monotonic()
        for row in rows:
            row.since = now
            segment.measure(row)

    def _add(self, index: int, rows: list[Row]) -> None:
        with self._lock:
            if is_taken := self._workers.enter(self, len(rows)):
                self._queues.add(index, rows)
        if not is_taken:
            for row in rows:
                row.error = _draining_error()
            self._advance(index, rows)

    def _start(self, index: int, groups: Sequence[list[Row]]) -> None:
        """On the event loop: begins a task for each group of rows, which are one call's."""
        for rows in groups:
            try:
                now = time.monotonic()
                if live := self._drop_cancelled(index, rows, now):
                    self._begin(index, live, now)
            except Exception:  # as in a worker
                self._fail(index, rows)

    def _begin(self, index: int, rows: list[Row], now: float) -> None:
        witness = self._workers.witness
        if witness is not None and not self._tasks:
            self._mark = witness.mark(self.label)
        before = CURRENT_FUNCTION.set(self.name)  # the task begins with a copy of what is set here
        task = self._loop.create_task(self._segments[index].run_on_loop(rows))
        CURRENT_FUNCTION.reset(before)
        timer = self._loop.call_later(max(0.0, rows[0].call.deadline - now), self._expire, task)
        self._tasks[task] = _Task(index, rows, timer, now)
        task.add_done_callback(self._on_task_done)

    def _expire(self, task: asyncio.Task[None]) -> None:
        """The deadline of the task's call has passed: cancels the task."""
        if task.done():
            return
        entry = self._tasks[task]
        for row in entry.rows:
            row.error = row.error or deadline_error(row.call)
        task.cancel()
        entry.timer = self._loop.call_later(GRACE_S, self._abandon, task)

    def _abandon(self, task: asyncio.Task[None]) -> None:
        """The task was cancelled and goes on: its rows leave without it."""
        entry = self._tasks[task]
        logger.warning(
            "%s: segment %s goes on though it was cancelled at its deadline",
            self.name,
            self._segments[entry.index].name,
        )
        entry.is_abandoned = True
        self._finish_task(entry, None)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        entry = self._tasks.pop(task)
        entry.timer.cancel()
        if self._mark is not None and self._workers.witness is not None and not self._tasks:
            self._workers.witness.unmark(self._mark)
            self._mark = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not entry.is_abandoned:
            self._times.on_loop[entry.index].record(time.monotonic() - entry.began)
            self._finish_task(entry, error)

    def _finish_task(self, entry: _Task, error: BaseException | None) -> None:
        """The task's rows go on. Where it ended with an error that its rows do not have, each row
        gets one.
        """
        try:
            if error is not None and not all(row.error for row in entry.rows):
                raise error
            self._record_batch(entry.index, entry.rows, time.monotonic())
            self._advance(entry.index, entry.rows)
        except BaseException:  # as in a worker
            self._fail(entry.index, entry.rows)

    def _record_batch(self, index: int, rows: Sequence[Row], now: float) -> None:
        """Reports a suspected failure of the function if these rows, which have been run, are a
        reason.
        """
        lost = next((row.error.message for row in rows if isinstance(row.error, DeviceLost)), "")
        answered = not all(isinstance(row.error, FunctionError) for row in rows)
        if self._detectors[index].record_batch(answered, now) or lost:
            self._loop.call_soon_threadsafe(self.on_suspected_failure, lost)

    def _fail(self, index: int, rows: Sequence[Row]) -> None:
        """While an exception is handled: logs it, and every row that is still inside leaves with an
        error.
        """
        logger.exception(
            "%s: segment %s failed outside its stages", self.name, self._segments[index].name
        )
        for row in rows:
            row.error = row.error or FunctionError(
                "the function failed; its log has the reason under the request id."
            )
            if row.parent is not None:
                row.parent.error = row.parent.error or row.error
        self._record_batch(index, rows, time.monotonic())
        self._finish([row.parent or row for row in rows])

    def _drop_cancelled(self, index: int, rows: list[Row], now: float) -> list[Row]:
        """The rows whose call still waits for an answer. The others leave here, before they cost
        compute.
        """
        live, takes_s = [], self._times.segments[index].row_s
        for row in rows:
            call, whole = row.call, row.parent
            if call.has_no_time(now, takes_s) or (whole is not None and whole.error is not None):
                row.error = cancelled_row_error(row)
            else:
                call.timings["queue"] += (now - row.since) / (
                    len(call.rows) if whole is None else row.share
                )
                live.append(row)
        if len(live) < len(rows):
            self._advance(index, [row for row in rows if row.error is not None])
        return live

    def _advance(self, index: int, rows: list[Row]) -> None:
        """Sends rows that have been through a segment, or through none (-1), or failed, to their
        next segments; rows that are done leave.
        """
        if self._streams is not None and index == len(self._segments) - 1:
            again, done = self._streams.requeue(rows, functools.partial(self._enqueue, index))
            if done:
                self._finish(done)
            if again:
                self._enqueue(index, again)
            return
        if self._router.is_straight and index + 1 == len(self._segments):
            self._finish(rows)
            return
        routed, done = self._router.route(index, rows)
        if done:
            self._finish(done)
        for at, waiting in routed.items():
            self._enqueue(at, waiting)

    def _finish(self, rows: Sequence[Row]) -> None:
        if self._streams is not None:
            self._streams.remove(rows)
        done: list[Call] = []
        with self._lock:
            for row in rows:
                if row.has_left:
                    continue
                row.has_left = True
                self._inside -= 1
                row.call.pending -= 1
                if not row.call.pending:
                    done.append(row.call)
            if self._closed and not self._inside:
                self._is_empty.set()
        if done:
            self._loop.call_soon_threadsafe(_call_on_done, done)


class _Task:
    """A task on the event loop: the rows of one call that it runs, and the timer of their deadline.
    ``began``: when, seconds of ``time.monotonic``. ``is_abandoned``: the rows have left without it.
    """

    __slots__ = ("began", "index", "is_abandoned", "rows", "timer")

    def __init__(
        self, index: int, rows: list[Row], timer: asyncio.TimerHandle, began: float
    ) -> None:
        self.began = began
        self.index = index
        self.rows = rows
        self.timer = timer
        self.is_abandoned = False


def _draining_error() -> Draining:
    return Draining(
        "the function is shutting down; call again, another replica answers.", retry_after_s=1
    )


def _by_call(rows: Sequence[Row]) -> list[list[Row]]:
    found: defaultdict[Call, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.call].append(row)
    return list(found.values())


def _no_callback(*_: object) -> None:
    """Default callback: does nothing."""


def _call_on_done(calls: Sequence[Call]) -> None:
    for call in calls:
        on_done = call.on_done
        # a call and its rows refer to each other: that circle must not keep an unloaded function
        del call.on_done
        log_counts(call)
        on_done(call)


GRACE_S: Final = 1.0
"""How long generators may take to close when their function is closed, and coroutines to end after
their deadline.
"""
