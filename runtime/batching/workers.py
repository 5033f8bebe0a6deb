"""The worker threads of a process, shared fairly by the functions that are loaded in it.

A worker asks which function is next (``FairQueue``), lets that function's batcher choose a batch
(``policy``), runs it, and asks again.

``FairQueue`` shares worker seconds evenly between functions, by start-time fair queueing:

1. Every function has a *virtual time*: the worker seconds that it was given. Of the functions that
   wait, the one with the least virtual time goes first.
2. The clock is the largest virtual time that a batch has begun with. A function that begins to wait
   again is brought up to the clock: it does not save up time that it did not ask for, so it cannot
   keep the others waiting later.
3. A function is charged the expected time of a batch when the batch begins, and the difference when
   it ends; so two workers that ask while a long batch runs do not both serve the same function.
4. A function that may not have more workers (``max_workers``) is passed over. What it falls behind
   by that is forgotten beyond ``CREDIT_S``.
5. A spare worker only serves a function that has no worker: a rarely called function starts at
   once, however busy the others are.

So two functions that both wait all the time, on one worker, differ by no more than a longest batch
of each (Goyal, Vin and Cheng, *Start-time fair queueing*, 1996).

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

What would break it: an idle worker that keeps a reference to the function it served, which could
then never be freed; so all that a worker holds is in its ``_WorkerState``, and is dropped before
the worker waits.

``FailureDetector`` and ``is_hung`` decide when a loaded function is no longer trusted. One failed
batch proves nothing: its rows may be at fault, and a client may send a thousand such rows. So
several batches in a row without an answer are a reason to *test* the function on what it answered
before it was ready, and only that test decides that it is broken.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.batching.calls import Row
from runtime.batching.policy import WaitUntil
from runtime.system.crash import CrashRecorder
from runtime.system.function_context import CURRENT_FUNCTION

CREDIT_S = 1.0
"""How far a function may fall behind the clock, in worker seconds. A second: what happened longer
ago gives no right to a worker.
"""

UNKNOWN_S = 0.001
"""What a batch is charged at its beginning when nothing is known of its function yet."""


@dataclass(slots=True, eq=False)
class FunctionShare:
    """One function's share of the workers; changed by ``FairQueue`` and ``Workers`` only, under the
    workers' lock.

    Attributes:
        max_workers: that run it at once.
        active: workers that run it now.
        waking: workers that were woken for it and do not run yet.
        done_s: worker seconds of batches that have ended.
        began_s: the sum of the times at which the running batches began.
        virtual_time: see rule 1 of the module.
        is_waiting: rows of it wait for a worker.
    """

    max_workers: int
    active: int = 0
    waking: int = 0
    done_s: float = 0.0
    began_s: float = 0.0
    virtual_time: float = 0.0
    is_waiting: bool = False

    def busy_s(self, now: float) -> float:
        """Worker seconds spent on it until now, running batches included; never falls."""
        return self.done_s + self.active * now - self.began_s


class FairQueue:
    """The clock of rule 2 of the module, and what moves it."""

    __slots__ = ("clock",)

    def __init__(self) -> None:
        self.clock = 0.0

    def order(
        self, waiting: Sequence[BatchSource], *, is_spare: bool = False
    ) -> Sequence[BatchSource]:
        """The functions that a worker may serve: least virtual time first, then in order of
        arrival.
        """
        if len(waiting) == 1:
            return waiting if _may(waiting[0].share, is_spare) else ()
        return sorted(
            (source for source in waiting if _may(source.share, is_spare)),
            key=lambda source: source.share.virtual_time,
        )

    def join(self, share: FunctionShare) -> None:
        """Rows of the function begin to wait."""
        share.virtual_time = max(share.virtual_time, self.clock)

    def begin(self, share: FunctionShare, expected_s: float, now: float) -> float:
        """A worker takes a batch; returns the seconds that were charged, for ``end``."""
        charged = expected_s or UNKNOWN_S
        self.clock = max(self.clock, share.virtual_time)
        share.virtual_time = max(share.virtual_time, self.clock - CREDIT_S) + charged
        share.active += 1
        share.began_s += now
        return charged

    def end(self, share: FunctionShare, charged_s: float, began: float, now: float) -> None:
        """The batch that was taken at ``began`` has ended."""
        share.virtual_time += now - began - charged_s
        share.done_s += now - began
        share.active -= 1
        share.began_s = share.began_s - began if share.active else 0.0


def fair_workers(count: int, most: int, others: Sequence[int]) -> float:
    """How many of ``count`` workers a function has on average that may have ``most``, while others
    want so many each: none has more than an equal part unless others leave it.
    """
    left, functions = float(count), len(others) + 1
    for want in sorted(others):
        if want >= left / functions:
            break
        left -= want
        functions -= 1
    return min(most, left / functions)


def _may(share: FunctionShare, is_spare: bool) -> bool:
    return share.active < (1 if is_spare else share.max_workers)


Batch = tuple[int, list[Row], float]
"""The segment's index, the rows, and the seconds they are expected to take."""


class BatchSource(Protocol):
    """Where batches come from: a function's batcher.

    ``take`` and ``waiting`` are used under ``Workers.lock``. ``run`` is called outside it and
    raises nothing. ``timeout_s`` is the longest that a call waits.
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


class _WorkerState:
    """The state of one worker thread.

    Attributes:
        wake_lock: held while the worker is idle; released to wake it.
        woken_for: the function that it was woken for.
        recheck: functions that another worker must check if this one does not serve them.
        source: the function that it runs a batch of; None while it is idle.
    """

    __slots__ = (
        "batch",
        "began",
        "charged_s",
        "index",
        "is_spare",
        "is_woken",
        "recheck",
        "source",
        "wake_lock",
        "woken_for",
    )

    def __init__(self, index: int, *, is_spare: bool) -> None:
        self.index = index
        self.is_spare = is_spare
        self.wake_lock = threading.Lock()
        self.wake_lock.acquire()
        self.is_woken = False
        self.woken_for: BatchSource | None = None
        self.recheck: list[BatchSource] = []
        self.source: BatchSource | None = None
        self.batch: Batch | None = None
        self.charged_s = 0.0
        self.began = 0.0


class Workers:
    """Threads that run batches of any function.

    Args:
        count: threads that run the function that is next; the CPUs that there are for computing.
        spare: threads that only run a function which has no worker at the moment, so that a rarely
            called one does not wait for a busy one's batch.
        witness: records what each thread runs, for the report if the process crashes.

    Mutable state, all under ``lock``: ``_ready`` (functions whose rows wait), ``_fair_queue``,
    ``_idle`` and ``_idle_spares`` (states of threads without work), ``_waking`` (ordinary threads
    that were woken and do not run yet), ``_running`` (threads that have not ended), ``_closed``.
    """

    def __init__(self, count: int, *, spare: int = 0, witness: CrashRecorder | None = None) -> None:
        self.count = count
        self.witness = witness
        self.lock = threading.Lock()
        self._fair_queue = FairQueue()
        self._ready: list[BatchSource] = []
        self._idle: list[_WorkerState] = []
        self._idle_spares: list[_WorkerState] = []
        self._waking = 0
        self._running = count + spare
        self._closed = False
        self._states = states = [
            _WorkerState(index, is_spare=index >= count) for index in range(count + spare)
        ]
        self._threads = [
            threading.Thread(
                target=self._work,
                args=(state,),
                name=f"wakeful-{'spare' if state.is_spare else 'worker'}-{state.index}",
                daemon=True,
            )
            for state in states
        ]
        for thread in self._threads:
            thread.start()

    def __repr__(self) -> str:
        spare = len(self._threads) - self.count
        rows = sum(source.waiting for source in list(self._ready))
        return (
            f"<Workers: {len(self._idle)} of {self.count} idle, "
            f"{len(self._idle_spares)} of {spare} spare idle; "
            f"{rows} rows of {len(self._ready)} functions wait>"
        )

    @property
    def trouble(self) -> str:
        """Why these threads cannot be relied on: one has ended, or hangs in a batch; empty when all
        is well.
        """
        for thread in self._threads:
            if not thread.is_alive():
                return f"the thread {thread.name} has ended."
        now = time.monotonic()
        with self.lock:
            running = [
                (state.source, state.began) for state in self._states if state.source is not None
            ]
        for source, began in running:
            if is_hung(began, source.timeout_s, now):
                return (
                    f"a worker has been in one batch of {source.name!r} for {now - began:.0f} s; "
                    "its stages do not come back."
                )
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
        return fair_workers(len(self._threads), source.share.max_workers, others)

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
        with self.lock:
            self._closed = True
            for idle in (self._idle, self._idle_spares):
                while idle:
                    self._wake(idle, None)
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, state: _WorkerState) -> None:
        while self._next(state):
            self._run(state)

    def _run(self, state: _WorkerState) -> None:
        source, batch, witness = state.source, state.batch, self.witness
        assert source is not None
        assert batch is not None
        CURRENT_FUNCTION.set(source.name)
        if witness is None:
            source.run(batch)
            return
        witness.begin(
            state.index, source.label, [row.row_id for row in batch[1] if row.call.fingerprint]
        )
        source.run(batch)
        witness.end(state.index)

    def _next(self, state: _WorkerState) -> bool:
        """Finishes the last batch and waits for the next one; false when closed and no rows
        wait.
        """
        with self.lock:
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


FAILING = 5
"""Batches in a row without an answer, after which the function is tested. Not fewer: poisoned rows
come in groups.
"""

RETEST_S = 10.0
"""Time between two tests: a client that sends only poisoned rows makes the function run one row
more in ten seconds.
"""

HUNG_S = 30.0
"""A worker that ends its batch within this time is slow and does not hang; calls may ask for less
time than their function is allowed.
"""


class FailureDetector:
    """Counts the batches of one segment in which no row was answered.

    Mutable state: ``failing`` (how many in a row), ``_tested`` (when the last test was due).
    Workers that share a function write both without a lock: a lost count delays a test by one
    batch.
    """

    __slots__ = ("_tested", "failing")

    def __init__(self) -> None:
        self.failing = 0
        self._tested = -math.inf

    def record_batch(self, answered: bool, now: float) -> bool:
        """Counts a batch; returns whether the function is to be tested after it."""
        self.failing = 0 if answered else self.failing + 1
        if self.failing < FAILING or now - self._tested < RETEST_S:
            return False
        self.failing, self._tested = 0, now
        return True


def is_hung(began: float, timeout_s: float, now: float) -> bool:
    """Whether a worker that took a batch at ``began`` will not come back.

    Args:
        timeout_s: ``request_timeout_s`` of the function; the deadline of each call in the batch
            has passed when twice that time is over.
    """
    return now - began > max(2 * timeout_s, HUNG_S)
