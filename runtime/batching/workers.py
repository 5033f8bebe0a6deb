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

A worker that does not come back from a batch is *given up* (``WorkerThreads``): a new thread takes
its place among the workers and in its function's share, and it ends itself when it comes back after
all.

What would break it: an idle worker that keeps a reference to the function it served, which could
then never be freed; so all that a worker holds is in its ``WorkerState``, and is dropped before the
worker waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

from runtime.batching.calls import Row
from runtime.batching.fair_queue import FairQueue, fair_workers
from runtime.batching.health.watchdog import Watchdog
from runtime.batching.health.worker_threads import BatchSource, WorkerState, WorkerThreads
from runtime.batching.policy import WaitUntil
from runtime.system.crash import CrashRecorder
from runtime.system.function_context import CURRENT_FUNCTION


class Workers:
    """Threads that run batches of any function.

    Args:
        count: threads that run the function that is next; the CPUs that there are for computing.
        spare: threads that only run a function which has no worker at the moment, so that a rarely
            called one does not wait for a busy one's batch.
        crash_recorder: records what each thread runs, for the report if the process crashes; with
            ``runtime.batching.health.worker_threads.slots_of`` these threads.
        is_watched: False: another watchdog looks after them (``Watchdog.watch_threads``).

    Attributes:
        threads: which there are, and where each is.
        watchdog: looks after them.

    Mutable state, all under ``lock``: ``_ready`` (functions whose rows wait), ``_fair_queue``,
    ``_idle`` and ``_idle_spares`` (states of threads without work), ``_waking`` (ordinary threads
    that were woken and do not run yet), ``_running`` (threads that have not ended), ``_closed``.
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
        self._idle: list[WorkerState] = []
        self._idle_spares: list[WorkerState] = []
        self._waking = 0
        self._running = count + spare
        self._closed = False
        self.threads = WorkerThreads(
            count,
            spare,
            lock=self.lock,
            work=self._work,
            has_waiting=lambda: any(source.queues.waiting for source in self._ready),
            crash_recorder=crash_recorder,
        )
        self.threads.start()
        self.watchdog = Watchdog(self.threads)
        if is_watched:
            self.watchdog.start()

    def __repr__(self) -> str:
        spare = self.threads.thread_count - self.count
        rows = sum(source.queues.waiting for source in list(self._ready))
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
        return self.watchdog.find_hang() or self.threads.ended_thread

    @property
    def is_closed(self) -> bool:
        """Whether no new rows are taken."""
        return self._closed

    def available(self, source: BatchSource) -> float:
        """Under ``lock``: how many workers the function has while the others whose rows wait now
        have their part. Spare ones count: each serves a function that has no other.
        """
        others = [one.share.max_workers for one in self._ready if one is not source]
        return fair_workers(self.threads.thread_count, source.share.max_workers, others)

    def add(self, source: BatchSource, index: int, rows: Sequence[Row]) -> bool:
        """Rows of the function begin to wait at a segment. Returns whether they may: they may not
        once all threads have ended.
        """
        with self.lock:
            if not self._running:
                return False
            source.queues.add(index, rows)
            if not source.share.is_waiting:
                source.share.is_waiting = True
                self._ready.append(source)
                self._fair_queue.join(source.share)
            if self._idle or self._idle_spares:
                self._wake_workers(source, len(rows))
            return True

    def close(self, timeout_s: float) -> None:
        """Runs the rows that wait, then ends the threads; blocks for at most ``timeout_s``.
        Batchers are closed first. Idempotent.
        """
        self.watchdog.stop()
        with self.lock:
            self._closed = self.threads.is_closed = True
            for idle in (self._idle, self._idle_spares):
                while idle:
                    self._wake(idle, None)
        self.threads.join(timeout_s)

    def _work(self, state: WorkerState) -> None:
        if state.source is not None:
            CURRENT_FUNCTION.set(state.source.name)
            assert state.renewal is not None
            state.source.health.renew(state.renewal)
        while self._next(state):
            self._run(state)

    def _run(self, state: WorkerState) -> None:
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

    def _next(self, state: WorkerState) -> bool:
        """Finishes the last batch and waits for the next one; false when closed and no rows
        wait.
        """
        with self.lock:
            if state.is_abandoned:
                self.threads.come_back(state)
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

    def _finish_batch(self, state: WorkerState, now: float) -> None:
        source = state.source
        if source is not None:
            self._fair_queue.end(source.share, state.charged_s, state.began, now)
            if source.queues.waiting:
                state.recheck.append(source)
            state.source = state.batch = None

    def _take_batch(self, state: WorkerState, now: float) -> float | None:
        """Gives the worker a batch and returns None; or returns when to check again, infinity where
        the worker will be woken.
        """
        due, not_due = math.inf, []
        for source in self._fair_queue.order(self._ready, is_spare=state.is_spare):
            share = source.share
            found = source.queues.take(
                now, min(len(self._idle) + self._waking, share.max_workers - share.active - 1)
            )
            if isinstance(found, WaitUntil):
                due = min(due, found.until)
                not_due.append(source)
                continue
            if not source.queues.waiting:
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
            if source.queues.waiting and not source.share.waking:
                self._wake_workers(source, 1)

    def _wake_workers(self, source: BatchSource, rows: int) -> None:
        """Wakes at most ``rows`` idle workers for the function (rule a of the module)."""
        share = source.share
        for _ in range(min(rows, share.max_workers - share.active - share.waking, len(self._idle))):
            self._wake(self._idle, source)
        if self._idle_spares and not share.active and not share.waking:
            self._wake(self._idle_spares, source)

    def _wake(self, idle: list[WorkerState], source: BatchSource | None) -> None:
        state = idle.pop()
        state.is_woken, state.woken_for = True, source
        if source is not None:
            source.share.waking += 1
        if not state.is_spare:
            self._waking += 1
        state.wake_lock.release()

    def _wait(self, state: WorkerState, seconds: float) -> None:
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
