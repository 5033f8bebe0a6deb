"""The threads of a process's workers: which of them are relied on, where each is, and which were
given up because they do not come back from a batch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from runtime.batching.calls import Call
from runtime.batching.health.function_health import Renewal
from runtime.batching.health.hangs import (
    LOOK_S,
    MOST_ABANDONED_IN_ALL,
    construct_fix,
    late_fix,
)
from runtime.batching.health.stacks import frames_of
from runtime.batching.health.watchdog import HangingFunction, RunningBatch
from runtime.batching.queues import Batch, SegmentQueues
from runtime.system.crash import CrashRecorder


class BatchSource(HangingFunction, Protocol):
    """Where batches come from: the rows of one function, or of one of its stages.

    ``queues`` is used under ``Workers.lock``. ``run`` is called outside it and raises nothing.
    ``health`` knows what becomes of a batch that a worker does not come back from.
    """

    @property
    def queues(self) -> SegmentQueues: ...
    def run(self, batch: Batch) -> None: ...


class WorkerState:
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


class WorkerThreads:
    """The threads of ``Workers``; implements ``runtime.batching.health.watchdog.WatchedWorkers``.

    Args:
        count, spare, crash_recorder: as of ``Workers``.
        lock: of the workers.
        work: what a thread does until it ends.
        has_waiting: under ``lock``: whether rows wait for a worker.

    Attributes:
        is_closed: no thread is given up any more.

    Mutable state, under ``lock``: ``is_closed``, ``_states`` (of the threads that are relied on),
    ``_abandoned`` (of those that are not), ``_free`` (indexes of threads to come).
    """

    def __init__(
        self,
        count: int,
        spare: int,
        *,
        lock: threading.Lock,
        work: Callable[[WorkerState], None],
        has_waiting: Callable[[], bool],
        crash_recorder: CrashRecorder | None,
    ) -> None:
        self.crash_recorder = crash_recorder
        self.is_closed = False
        self._lock = lock
        self._work = work
        self._has_waiting = has_waiting
        self._abandoned: list[WorkerState] = []
        self._free = list(range(count + spare, slots_of(count, spare)))
        self._states = [
            WorkerState(index, is_spare=index >= count) for index in range(count + spare)
        ]

    def start(self) -> None:
        """Start all of them."""
        for state in self._states:
            self._start(state)

    def join(self, timeout_s: float) -> None:
        """Wait for the end of those that are relied on, for at most ``timeout_s``."""
        until = time.monotonic() + timeout_s
        for state in self._states:
            if state.thread is not None:
                state.thread.join(max(0.0, until - time.monotonic()))

    @property
    def thread_count(self) -> int:
        """Threads that run any function, or spare ones."""
        return len(self._states)

    @property
    def abandoned_count(self) -> int:
        """Threads that were given up and have not come back."""
        return len(self._abandoned)

    @property
    def ended_thread(self) -> str:
        """Which thread has ended, though it is relied on; empty when all is well."""
        for state in list(self._states):
            if state.thread is not None and not state.thread.is_alive():
                return f"the thread {state.thread.name} has ended."
        return ""

    def running(self, now: float) -> tuple[list[RunningBatch], bool]:
        """The workers that are in a batch, and whether rows wait."""
        with self._lock:
            busy = [
                (state, state.thread, state.source, state.batch, state.began, state.renewal)
                for state in self._states
                if state.source is not None and state.thread is not None
            ]
            has_waiting = self._has_waiting()
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
        state: WorkerState = batch.worker
        renewal = batch.find_renewal()
        with self._lock:
            source = state.source
            if source is None or state.began != batch.began or self.is_closed:
                return False
            now = time.monotonic()
            source.share.hand_over(state.began, now)
            source.share.abandoned += 1
            state.is_abandoned = True
            self._abandoned.append(state)
            other = WorkerState(self._free.pop(0), is_spare=state.is_spare)
            other.source, other.charged_s, other.began = source, state.charged_s, now
            other.renewal = renewal
            self._states[self._states.index(state)] = other
        self._start(other)
        return True

    def come_back(self, state: WorkerState) -> None:
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

    def _start(self, state: WorkerState) -> None:
        thread = threading.Thread(
            target=self._work,
            args=(state,),
            name=f"wakeful-{'spare' if state.is_spare else 'worker'}-{state.index}",
            daemon=True,
        )
        thread.start()
        state.thread = thread

    def late_fixes(self, source: BatchSource, now: float) -> tuple[dict[Call, str], str]:
        """What callers of late calls are told to do (``late_fix``): of those that are in a stage,
        and of all others of the function.
        """
        with self._lock:
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
            ran_s > (LOOK_S if batch is None else source.health.timeout_s)
            for batch, _, _, ran_s in running
        )
        if not (running and is_full and is_held):
            return own, ""
        batch, renewal, thread, ran_s = max(running, key=lambda one: one[3])
        if batch is not None:
            name = name_of(batch, thread)
            return own, late_fix(name, ran_s, is_own=False, is_overdue=True)
        return own, "" if renewal is None else construct_fix(renewal.name, ran_s)
