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

Each segment runs in one of three places, which are all given rows in the same way: in the workers
(``ThreadBatches``), in threads of its own where its stage waits (``StageThreads``), or on the event
loop (``LoopTasks``). There each row has a task of its own; the rows of one call that go to another
function share one. So no row waits there for a row of another call.

A worker that does not come back from a batch is given up (``Workers``): its rows leave then
(``FunctionHealth``), and what comes of the batch later is dropped.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from runtime.batching.calls import Call, Row, cancelled_row_error
from runtime.batching.fan_out import RowRouter, run_around
from runtime.batching.health.failure_detector import FailureWatch
from runtime.batching.health.failure_log import log_counts
from runtime.batching.health.function_health import FunctionHealth
from runtime.batching.loop_tasks import LoopTasks
from runtime.batching.queues import SegmentProtocol
from runtime.batching.service_times import ServiceTimes, WorkAhead
from runtime.batching.streams.elements import choose_window
from runtime.batching.streams.open_streams import OpenStreams
from runtime.batching.thread_batches import StageThreads, ThreadBatches
from runtime.batching.workers import Workers
from runtime.errors import Draining, FunctionError
from runtime.system.telemetry.counters import FunctionCounters

logger = logging.getLogger("wakeful.batcher")


class Runner(Protocol):
    """Where a segment runs. ``add``, in any thread: rows begin to wait there, or to run."""

    def add(self, index: int, rows: list[Row]) -> None: ...


class Batcher:
    """The rows of one function; the ``RowFlow`` of what runs them.

    Args:
        name: the function's, for logs.
        segments: in order; rows go from one to the next.
        workers: the threads, which other functions may share; they are not ended by ``close``.
        share: how many of them run this function at once, one for each CPU that it declares.
        loop: the event loop that calls are submitted from and answered on.
        label: the function's name in crash reports; its name if empty.
        counters: of the function, which count its rows and batches; None: they are not told.

    Attributes:
        on_workers: the segments that workers run.
        on_loop: what runs on the event loop; None where no segment does.
        health: of its threads.
        failures: tells when it is suspected to answer no more.

    Mutable state, under the workers' lock: ``_inside`` (rows submitted that have not left),
    ``_closed``. ``_arrived`` (rows submitted in this turn of the event loop, by call) belongs to
    the event loop.
    """

    def __init__(
        self,
        name: str,
        segments: Sequence[SegmentProtocol],
        *,
        workers: Workers,
        share: int,
        loop: asyncio.AbstractEventLoop,
        label: str = "",
        counters: FunctionCounters | None = None,
    ) -> None:
        self.name = name
        label = label or name
        self._segments = segments = tuple(segments)
        self._workers = workers
        self._loop = loop
        self._lock = workers.lock
        self._router = RowRouter(segments, self._lock)
        if segments[-1].element_order is not None:
            run = run_around(segments, len(segments) - 1)
            self._router.window = choose_window(segments[run.start :], share)
            self._router.on_space = self._begin_elements
        self._times = times = ServiceTimes(
            self._router.factor, self._router.taken, [one.threads for one in segments], share
        )
        self._streams = (
            OpenStreams(self._router.factor)
            if segments[-1].streams or segments[-1].element_order
            else None
        )
        self._counters = counters = counters or FunctionCounters(name)
        self._arrived: list[list[Row]] = []
        self._inside = 0
        self._closed = False
        self._is_empty = threading.Event()
        close_streams = None if self._streams is None else self._streams.close_sources
        self.health = health = FunctionHealth(name, segments, counters, self._finish, close_streams)
        self.failures = failures = FailureWatch(len(segments), loop)
        self.on_workers = ThreadBatches(
            name,
            label,
            segments,
            flow=self,
            workers=workers,
            share=share,
            times=times,
            health=health,
            failures=failures,
            counters=counters,
        )
        self._stage_threads = {
            index: StageThreads(self.on_workers, index, one.threads, workers.crash_recorder)
            for index, one in enumerate(segments)
            if one.threads
        }
        self.on_loop: LoopTasks | None = None
        if any(segment.on_loop for segment in segments):
            self.on_loop = LoopTasks(
                name,
                label,
                segments,
                flow=self,
                loop=loop,
                times=times.on_loop,
                health=health,
                failures=failures,
                crash_recorder=workers.crash_recorder,
            )
            workers.watchdog.watch_loop(self.on_loop)
        self._runners = tuple(map(self._runner_of, range(len(segments))))
        threads = [(one, one.workers.threads) for one in self._stage_threads.values()]
        health.watch([(self.on_workers, workers.threads), *threads])
        for one in self._stage_threads.values():
            workers.watchdog.watch_threads(one.workers.watchdog, one.crash_slot)

    def _runner_of(self, index: int) -> Runner:
        if self._segments[index].on_loop:
            assert self.on_loop is not None
            return self.on_loop
        return self._stage_threads.get(index, self.on_workers)

    def __repr__(self) -> str:
        waiting = ", ".join(
            f"{rows} at {segment.name}"
            for rows, segment in zip(self._lengths(), self._segments, strict=True)
        )
        share = self.on_workers.share
        return (
            f"<Batcher {self.name}: {waiting}; {share.active} of {share.max_workers} "
            f"workers, {self.busy_s:.3f} s busy>"
        )

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a worker, or for a thread of their stage."""
        waiting = sum(threads.queues.waiting for threads in self._stage_threads.values())
        return self.on_workers.queues.waiting + waiting

    @property
    def row_seconds(self) -> float:
        """Seconds of one worker that a row takes through all segments, smoothed."""
        return self._times.row_s

    @property
    def queued_row_s(self) -> float:
        """The same among many rows that wait, which share batches; 0 when not known yet."""
        return self._times.left_s(self.on_workers.queues.batch_sizes())[0][0]

    def work_ahead(self) -> WorkAhead:
        """What a new row waits for. Used on the event loop; takes microseconds for each task that
        runs there.
        """
        on_loop = self.on_loop.counts() if self.on_loop else [0] * len(self._segments)
        now = time.monotonic()
        with self._lock:
            waiting = self._lengths()
            on_workers, workers = self.on_workers.measure_running(now)
        running = [threads.measure_running(now) for threads in self._stage_threads.values()]
        work_s = self._times.work_s(self.on_workers.queues.batch_sizes(), waiting, on_loop)
        work_s += self._times.running_s([*running, on_workers])
        return WorkAhead(work_s, workers, self._times.latency_s())

    def _lengths(self) -> list[int]:
        """Rows that wait, by segment."""
        lengths = self.on_workers.queues.lengths()
        for index, threads in self._stage_threads.items():
            lengths[index] = threads.queues.waiting
        self._router.add_unbegun(lengths)
        return lengths

    @property
    def max_fan_out(self) -> int:
        """A row with more elements to run over fails."""
        return self._router.max_fan_out

    @max_fan_out.setter
    def max_fan_out(self, most: int) -> None:
        self._router.max_fan_out = most

    @property
    def busy_s(self) -> float:
        """Worker seconds spent on it so far, running batches included, and what threads of stages
        have computed; never falls.
        """
        computed_s = sum(threads.cpu_s for threads in self._stage_threads.values())
        return self.on_workers.busy_s(time.monotonic()) + computed_s

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
                    self.advance(-1, rows)
            except Exception:  # our bug, as in a worker; the other calls have no part in it
                self.fail(0, rows)
        if together:
            self._runners[0].add(0, together)

    def close(self, timeout_s: float) -> None:
        """Takes no more calls and blocks until the submitted ones are answered, for at most
        ``timeout_s``; then ends the threads of stages. Idempotent.
        """
        until = time.monotonic() + timeout_s
        self.health.close()
        with self._lock:
            self._closed = True
            if not self._inside:
                self._is_empty.set()
        if not self._is_empty.wait(timeout_s) and self._streams is not None:
            self._loop.call_soon_threadsafe(self._streams.close_all)
            self._is_empty.wait(GRACE_S)
        for threads in self._stage_threads.values():
            threads.close(max(0.0, until - time.monotonic()))
        # a worker that has given its last answer is still in the batch for microseconds, or for as
        # long as other processes have its core, and has the stages as long
        until = min(until, time.monotonic() + GRACE_S)
        while self.on_workers.share.active and time.monotonic() < until:
            time.sleep(RELEASE_POLL_S)

    def forget(self) -> None:
        """On the event loop, after ``close``: cuts what refers in circles, so that the memory of
        the stages goes back with the function, and not at a collection of garbage. Nothing happens
        while rows are inside.
        """
        if self._inside or not self._runners:
            return
        self.on_loop, self._runners = None, ()
        self._router.on_space = _no_callback
        self.health.forget()
        self.on_workers.forget()
        for threads in self._stage_threads.values():
            threads.forget()

    def _accept(self, call: Call) -> None:
        """Under the lock: from here on ``close`` waits for the call's rows."""
        if self._closed or self._workers.is_closed:
            raise _draining_error()
        self._inside += len(call.rows)
        self._counters.rows += len(call.rows)
        if self._streams is not None:
            self._streams.add(call)

    def _enqueue(self, index: int, rows: list[Row]) -> None:
        """Rows begin to wait, or to run, at a segment."""
        self._measure(index, rows)
        self._runners[index].add(index, rows)

    def _measure(self, index: int, rows: list[Row]) -> None:
        segment, now = self._segments[index], time.monotonic()
        for row in rows:
            row.since = now
            segment.measure(row)

    def late_fixes(self, now: float) -> Callable[[Call], str]:
        """As of ``FunctionHealth``, of all its calls. On the event loop."""
        return self.health.late_fixes(now, self.on_loop.late_fixes(now) if self.on_loop else {})

    # The rows before and behind each segment; as of ``RowFlow``.

    def drop_over(self, index: int, rows: list[Row], now: float) -> list[Row]:
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
            self.advance(index, [row for row in rows if row.error is not None])
        return live

    def advance(self, index: int, rows: list[Row]) -> None:
        """Sends rows that have been through a segment, or through none (-1), or failed, to their
        next segments; rows that are done leave.
        """
        is_last = index + 1 == len(self._segments)
        if is_last and self._segments[index].streams and self._streams is not None:
            again, done = self._streams.requeue(rows, functools.partial(self._enqueue, index))
            if done:
                self._finish(done)
            if again:
                self._enqueue(index, again)
        elif is_last and self._router.is_straight:
            self._finish(rows)
        else:
            self._send_on(*self._router.route(index, rows))

    def fail(self, index: int, rows: Sequence[Row]) -> None:
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
        self.failures.record(index, rows, time.monotonic())
        self._finish([row.parent or row for row in rows])

    def refuse(self, index: int, rows: Sequence[Row]) -> None:
        """Rows leave with an error: all threads have ended."""
        for row in rows:
            row.error = _draining_error()
        self.advance(index, list(rows))

    def _begin_elements(self, row: Row) -> None:
        """On the event loop: the caller has taken elements of the row, or takes no more."""
        self._send_on(*self._router.route_elements(row))

    def _send_on(self, routed: dict[int, list[Row]], done: Sequence[Row]) -> None:
        if done:
            self._finish(done)
        for at, waiting in routed.items():
            self._enqueue(at, waiting)

    def _finish(self, rows: Sequence[Row]) -> None:
        if self._streams is not None:
            self._streams.remove(rows)
            self._router.remove(rows)
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


def _draining_error() -> Draining:
    return Draining(
        "the function is shutting down; call again, another replica answers.", retry_after_s=1
    )


def _no_callback(*_: object) -> None:
    """Default callback: does nothing."""


def _call_on_done(calls: Sequence[Call]) -> None:
    for call in calls:
        on_done = call.on_done
        # a call and its rows refer to each other: that circle must not keep an unloaded function
        del call.on_done
        if call.failures is not None:
            log_counts(call)
        on_done(call)


RELEASE_POLL_S: Final = 0.001
"""How often ``close`` looks whether workers have left the last batch."""

GRACE_S: Final = 1.0
"""How long generators may take to close when their function is closed."""
