"""The worker threads of a process, shared fairly by the functions that are loaded in it.

A worker asks which function is next (``fair_queue``), lets that function's batcher choose a batch
(``policy``), runs it, and asks again.

Theory of operation: one lock guards the bookkeeping of the workers and of every batcher on them;
stages run outside it. An idle worker waits on a lock of its own, in one of two stacks, ordinary and
spare; the last to become idle is woken first, since its caches are warm. No worker is woken for
rows that a busy worker will check anyway, so three rules keep rows from being forgotten:

a. Rows that begin to wait wake as many idle workers as may serve them, and a spare one if no other
   worker serves the function or was woken for it.
b. A worker that takes a batch of one function may leave rows of another: of the function that it
   served before, that it was woken for, or whose batch it waited for. It wakes an idle worker for
   each of them.
c. A spare worker that finds no batch does so too, since ordinary workers may serve functions that a
   spare one may not.

A worker that does not come back from a batch is *given up* (``runtime.batching.health`` decides
when): a new thread takes its place among the workers and in its function's share, and it ends
itself when it comes back after all.

What would break it: an idle worker that keeps a reference to the function it served, which could
then never be freed; so all that a worker holds is in its ``_WorkerState``, and is dropped before
the worker waits.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from runtime.batching.calls import Call, Row
from runtime.batching.fair_queue import FairQueue, FunctionShare, fair_workers
from runtime.batching.health.function_health import FunctionHealth, Renewal
from runtime.batching.health.hangs import (
    LOOK_S,
    MOST_ABANDONED_IN_ALL,
    construct_fix,
    late_fix,
)
from runtime.batching.health.stacks import frames_of
from runtime.batching.health.watchdog import RunningBatch, Watchdog
from runtime.batching.policy import WaitUntil
from runtime.system.crash import CrashRecorder
from runtime.system.function_context import CURRENT_FUNCTION

Batch = tuple[int, list[Row], float]
"""The segment's index, the rows, and the seconds they are expected to take."""


class BatchSource(Protocol):
    """Where batches come from: a function's batcher.

    ``take`` and ``waiting`` are used under ``Workers.lock``. ``run`` is called outside it and
    raises nothing. ``timeout_s`` is the longest that a call waits; ``health`` knows what becomes of
    a batch that a worker does not come back from.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def share(self) -> FunctionShare: ...
    @property
    def waiting(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    def take(self, now: float, idle_workers: int) -> Batch | WaitUntil: ...
    def run(self, batch: Batch) -> None: ...
    @property
    def health(self) -> FunctionHealth: ...


class _WorkerState:
    """The state of one worker thread.

    Attributes:
        wake_lock: held while the worker is idle; released to wake it.
        woken_for: the function that it was woken for.
        recheck: functions that another worker must check if this one does not serve them.
        source: the function that it runs a batch of; None while it is idle.
        batch: None beside a source: it makes the source ready for other batches than one that
            another worker does not come back from.
        renewal: what it constructs for that.
        is_abandoned: it was given up, and ends when it comes back.
    """

    __slots__ = (
        "batch",
        "began",
        "charged_s",
        "index",
        "is_abandoned",
        "is_spare",
        "is_woken",
        "recheck",
        "renewal",
        "source",
        "thread",
        "wake_lock",
        "woken_for",
    )

    def __init__(self, index: int, *, is_spare: bool) -> None:
        self.index = index
        self.is_spare = is_spare
        self.wake_lock = threading.Lock()
        self.wake_lock.acquire()
        self.is_woken = self.is_abandoned = False
        self.thread: threading.Thread | None = None
        self.woken_for: BatchSource | None = None
        self.recheck: list[BatchSource] = []
        self.source: BatchSource | None = None
        self.batch: Batch | None = None
        self.renewal: Renewal | None = None
        self.charged_s = 0.0
        self.began = 0.0


def slots_of(count: int, spare: int = 0) -> int:
    """Slots of a crash recorder for so many threads: one each, and one for each thread that takes
    the place of one that hangs.
    """
    return count + spare + MOST_ABANDONED_IN_ALL


class Workers:
    """Threads that run batches of any function.

    Args:
        count: threads that run the function that is next; the CPUs that there are for computing.
        spare: threads that only run a function which has no worker at the moment, so that a rarely
            called one does not wait for a busy one's batch.
        crash_recorder: records what each thread runs, for the report if the process crashes; with
            ``slots_of`` these threads.
        is_watched: False: another watchdog looks after them (``Watchdog.watch_threads``).

    Attributes:
        watchdog: looks after them.

    Mutable state, all under ``lock``: ``_ready`` (functions whose rows wait), ``_fair_queue``,
    ``_idle`` and ``_idle_spares`` (states of threads without work), ``_waking`` (ordinary threads
    that were woken and do not run yet), ``_running`` (threads that have not ended), ``_closed``;
    ``_states`` (of the threads that are relied on), ``_abandoned`` (of those that are not),
    ``_free`` (indexes of threads to come).
    """

    def __init__(
        self,
        count: int,
        *,
        spare: int = 0,
        crash_recorder: CrashRecorder | None = None,
        is_watched: bool = True,
    ) -> None:
        self.count = count
        self.crash_recorder = crash_recorder
        self.lock = threading.Lock()
        self._fair_queue = FairQueue()
        self._ready: list[BatchSource] = []
        self._idle: list[_WorkerState] = []
        self._idle_spares: list[_WorkerState] = []
        self._waking = 0
        self._running = count + spare
        self._closed = False
        self._abandoned: list[_WorkerState] = []
        self._free = list(range(count + spare, slots_of(count, spare)))
        self._states = [
            _WorkerState(index, is_spare=index >= count) for index in range(count + spare)
        ]
        for state in self._states:
            self._start(state)
        self.watchdog = Watchdog(self)
        if is_watched:
            self.watchdog.start()

    def __repr__(self) -> str:
        spare = len(self._states) - self.count
        rows = sum(source.waiting for source in list(self._ready))
        return (
            f"<Workers: {len(self._idle)} of {self.count} idle, "
            f"{len(self._idle_spares)} of {spare} spare idle; "
            f"{rows} rows of {len(self._ready)} functions wait>"
        )

    @property
    def trouble(self) -> str:
        """Why these threads cannot be relied on: a function has no worker left, since all that it
        may have hang, or a thread has ended. Empty when all is well.
        """
        return self.watchdog.find_hang() or self.ended_thread

    @property
    def ended_thread(self) -> str:
        """Which thread has ended, though it is relied on; empty when all is well."""
        for state in list(self._states):
            if state.thread is not None and not state.thread.is_alive():
                return f"the thread {state.thread.name} has ended."
        return ""

    @property
    def is_closed(self) -> bool:
        """Whether no new rows are taken."""
        return self._closed

    def available(self, source: BatchSource) -> float:
        """Under ``lock``: how many workers the function has while the others whose rows wait now
        have their part. Spare ones count: each serves a function that has no other.
        """
        others = [one.share.max_workers for one in self._ready if one is not source]
        return fair_workers(len(self._states), source.share.max_workers, others)

    def enter(self, source: BatchSource, rows: int) -> bool:
        """Under ``lock``: ``rows`` rows of the function begin to wait. Returns whether they may:
        they may not once all threads have ended.
        """
        if not self._running:
            return False
        if not source.share.is_waiting:
            source.share.is_waiting = True
            self._ready.append(source)
            self._fair_queue.join(source.share)
        if self._idle or self._idle_spares:
            self._wake_workers(source, rows)
        return True

    def close(self, timeout_s: float) -> None:
        """Runs the rows that wait, then ends the threads; blocks for at most ``timeout_s``.
        Batchers are closed first. Idempotent.
        """
        self.watchdog.stop()
        with self.lock:
            self._closed = True
            for idle in (self._idle, self._idle_spares):
                while idle:
                    self._wake(idle, None)
        until = time.monotonic() + timeout_s
        for state in self._states:
            if state.thread is not None:
                state.thread.join(max(0.0, until - time.monotonic()))

    def late_fixes(self, source: BatchSource, now: float) -> tuple[dict[Call, str], str]:
        """What callers of late calls are told to do (``late_fix``): of those that are in a stage,
        and of all others of the function.
        """

        with self.lock:
            running = [
                (state.batch, state.renewal, state.thread, now - state.began)
                for state in self._states
                if state.source is source
            ]

        def name_of(batch: Batch, thread: threading.Thread | None) -> str:
            frames = [] if thread is None else frames_of(thread.ident or 0)
            return source.health.renewal(batch, frames).name

        own: dict[Call, str] = {}
        for batch, _, thread, ran_s in running:
            # where batches are short, calls may be late, and none for its stage
            if batch is not None and ran_s > LOOK_S:
                fix = late_fix(name_of(batch, thread), ran_s, is_own=True, is_overdue=False)
                own.update((row.call, fix) for row in batch[1])
        is_full = len(running) >= min(source.share.max_workers, len(self._states))
        is_held = all(
            ran_s > (LOOK_S if batch is None else source.timeout_s)
            for batch, _, _, ran_s in running
        )
        if not (running and is_full and is_held):
            return own, ""
        batch, renewal, thread, ran_s = max(running, key=lambda one: one[3])
        if batch is not None:
            name = name_of(batch, thread)
            return own, late_fix(name, ran_s, is_own=False, is_overdue=True)
        return own, "" if renewal is None else construct_fix(renewal.name, ran_s)

    # For the watchdog; see ``WatchedWorkers``.

    @property
    def thread_count(self) -> int:
        """Threads that run any function, or spare ones."""
        return len(self._states)

    @property
    def abandoned_count(self) -> int:
        """Threads that were given up and have not come back."""
        return len(self._abandoned)

    def running(self, now: float) -> tuple[list[RunningBatch], bool]:
        """The workers that are in a batch, and whether rows wait."""
        with self.lock:
            busy = [
                (state, state.thread, state.source, state.batch, state.began, state.renewal)
                for state in self._states
                if state.source is not None and state.thread is not None
            ]
            has_waiting = any(source.waiting for source in self._ready)
        return [
            RunningBatch(
                state,
                source,
                batch,
                thread.ident or 0,
                began,
                # without a batch it makes the source ready for others
                batch is not None and not all(row.call.is_over(now) for row in batch[1]),
                renewal if batch is None else None,
            )
            for state, thread, source, batch, began, renewal in busy
        ], has_waiting

    def replace(self, batch: RunningBatch) -> bool:
        """Give a worker up: another thread takes its place once it has made the function ready."""
        state: _WorkerState = batch.worker
        renewal = batch.find_renewal()
        with self.lock:
            source = state.source
            if source is None or state.began != batch.began or self._closed:
                return False
            now = time.monotonic()
            self._fair_queue.hand_over(source.share, state.began, now)
            source.share.abandoned += 1
            state.is_abandoned = True
            self._abandoned.append(state)
            other = _WorkerState(self._free.pop(0), is_spare=state.is_spare)
            other.source, other.charged_s, other.began = source, state.charged_s, now
            other.renewal = renewal
            self._states[self._states.index(state)] = other
        self._start(other)
        return True

    def _come_back(self, state: _WorkerState) -> None:
        """Under ``lock``: a worker that was given up has come back, and ends."""
        source = state.source
        assert source is not None
        source.share.abandoned -= 1
        self._abandoned.remove(state)
        state.is_abandoned = False
        self._free.append(state.index)
        if self.crash_recorder is not None:
            self.crash_recorder.forget(state.index)
        state.source = state.batch = None

    def _start(self, state: _WorkerState) -> None:
        thread = threading.Thread(
            target=self._work,
            args=(state,),
            name=f"wakeful-{'spare' if state.is_spare else 'worker'}-{state.index}",
            daemon=True,
        )
        thread.start()
        state.thread = thread

    def _work(self, state: _WorkerState) -> None:
        if state.source is not None:
            CURRENT_FUNCTION.set(state.source.name)
            assert state.renewal is not None
            state.source.health.renew(state.renewal)
        while self._next(state):
            self._run(state)

    def _run(self, state: _WorkerState) -> None:
        source, batch, crash_recorder = state.source, state.batch, self.crash_recorder
        assert source is not None
        assert batch is not None
        CURRENT_FUNCTION.set(source.name)
        if crash_recorder is None:
            source.run(batch)
            return
        crash_recorder.begin(
            state.index, source.label, [row.row_id for row in batch[1] if row.call.fingerprint]
        )
        source.run(batch)
        crash_recorder.end(state.index)

    def _next(self, state: _WorkerState) -> bool:
        """Finishes the last batch and waits for the next one; false when closed and no rows
        wait.
        """
        with self.lock:
            if state.is_abandoned:
                self._come_back(state)
                return False
            now = time.monotonic()
            self._finish_batch(state, now)
            while True:
                due = self._take_batch(state, now)
                if due is None:
                    return True
                if self._closed and due == math.inf:
                    self._running -= 1
                    return False
                self._wait(state, due - now)
                now = time.monotonic()

    def _finish_batch(self, state: _WorkerState, now: float) -> None:
        source = state.source
        if source is not None:
            self._fair_queue.end(source.share, state.charged_s, state.began, now)
            if source.waiting:
                state.recheck.append(source)
            state.source = state.batch = None

    def _take_batch(self, state: _WorkerState, now: float) -> float | None:
        """Gives the worker a batch and returns None; or returns when to check again, infinity where
        the worker will be woken.
        """
        due, not_due = math.inf, []
        for source in self._fair_queue.order(self._ready, is_spare=state.is_spare):
            share = source.share
            found = source.take(
                now, min(len(self._idle) + self._waking, share.max_workers - share.active - 1)
            )
            if isinstance(found, WaitUntil):
                due = min(due, found.until)
                not_due.append(source)
                continue
            if not source.waiting:
                share.is_waiting = False
                self._ready.remove(source)
            state.source, state.batch, state.began = source, found, now
            state.charged_s = self._fair_queue.begin(share, found[2], now)
            if self._idle or self._idle_spares:
                self._wake_for_remaining((*state.recheck, source))
            state.recheck.clear()
            return None
        if state.is_spare and self._idle:
            self._wake_for_remaining(state.recheck)
        state.recheck = not_due
        return due

    def _wake_for_remaining(self, sources: tuple[BatchSource, ...] | list[BatchSource]) -> None:
        """Wakes an idle worker for each function whose rows this worker is not going to run (rules
        b and c of the module).
        """
        for source in sources:
            if source.waiting and not source.share.waking:
                self._wake_workers(source, 1)

    def _wake_workers(self, source: BatchSource, rows: int) -> None:
        """Wakes at most ``rows`` idle workers for the function (rule a of the module)."""
        share = source.share
        for _ in range(min(rows, share.max_workers - share.active - share.waking, len(self._idle))):
            self._wake(self._idle, source)
        if self._idle_spares and not share.active and not share.waking:
            self._wake(self._idle_spares, source)

    def _wake(self, idle: list[_WorkerState], source: BatchSource | None) -> None:
        state = idle.pop()
        state.is_woken, state.woken_for = True, source
        if source is not None:
            source.share.waking += 1
        if not state.is_spare:
            self._waking += 1
        state.wake_lock.release()

    def _wait(self, state: _WorkerState, seconds: float) -> None:
        """Releases the lock until the worker is woken or ``seconds`` are over."""
        idle = self._idle_spares if state.is_spare else self._idle
        idle.append(state)
        self.lock.release()
        try:
            was_woken = state.wake_lock.acquire(
                timeout=-1 if seconds == math.inf else max(0.0, seconds)
            )
        finally:
            self.lock.acquire()
        if not state.is_woken:
            idle.remove(state)
            return
        if not was_woken:  # woken between the end of the wait and here
            state.wake_lock.acquire()
        state.is_woken = False
        if not state.is_spare:
            self._waking -= 1
        if state.woken_for is not None:
            state.woken_for.share.waking -= 1
            state.recheck.append(state.woken_for)
            state.woken_for = None
