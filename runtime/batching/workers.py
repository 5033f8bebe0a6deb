"""The worker threads of a process, shared fairly by the functions that are loaded in it.

A worker asks whose turn it is (``turns``), lets that function's batcher choose a batch (``policy``), runs it, and asks again.

Theory of operation: one lock guards the bookkeeping of the workers and of every batcher on them; stages run outside it. A worker
without work rests on a bell of its own in one of two stacks, ordinary and spare; the last to rest is woken first, its caches are
warm. Nobody is woken for what a busy worker will look at anyway, so three rules keep rows from being forgotten:

1. Rows that begin to wait wake as many resting workers as may serve them; a spare one if nobody else has or will have a look.
2. A worker that leaves something behind - the function it just served, the one it was woken for, one whose batch it waited to be
   due - because it was another's turn, wakes a resting worker for that.
3. A spare worker that finds nothing does so too, since ordinary ones may do what it may not.

What would break it: a resting worker that keeps a reference to the function it served, which could then never be freed; so whatever
a worker holds hangs on its seat and is dropped before it rests.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from runtime.batching.doubt import is_hung
from runtime.batching.policy import Wait
from runtime.batching.rows import Row
from runtime.batching.turns import Lane, Turns
from runtime.speaker import SPEAKER
from runtime.witness import Witness

Batch = tuple[int, list[Row], float]
"""The segment's index, the rows, and the seconds they are expected to take."""


class Source(Protocol):
    """Where batches come from: a function's batcher.

    ``take`` and ``waiting`` are used under ``Workers.lock``. ``run`` is called outside it and raises nothing. ``timeout_s`` is the longest
    that a caller waits.
    """

    @property
    def name(self) -> str: ...
    @property
    def lane(self) -> Lane: ...
    @property
    def waiting(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    def take(self, now: float, idle_workers: int) -> Batch | Wait: ...
    def run(self, batch: Batch) -> None: ...


class _Seat:
    """What one worker thread has in its hands.

    Attributes:
        bell: locked while the worker rests; released to wake it.
        owes: functions that somebody else must look at if this worker does not serve them.
    """

    __slots__ = ("batch", "began", "bell", "called_for", "charged_s", "index", "is_called", "is_spare", "owes", "source")

    def __init__(self, index: int, *, is_spare: bool) -> None:
        self.index = index
        self.is_spare = is_spare
        self.bell = threading.Lock()
        self.bell.acquire()
        self.is_called = False
        self.called_for: Source | None = None
        self.owes: list[Source] = []
        self.source: Source | None = None
        self.batch: Batch | None = None
        self.charged_s = 0.0
        self.began = 0.0


class Workers:
    """Threads that run batches of any function.

    Args:
        count: threads that run whatever has its turn; the CPUs that there are for computing.
        spare: threads that only run a function which has no worker at the moment, so that a rare one does not wait for a busy one's batch.
        witness: told what each thread is at, for those who ask after the process's death.

    Mutable state, all under ``lock``: ``_ready`` (functions whose rows wait), ``_turns``, ``_resting`` and ``_resting_spares`` (seats
    of threads without work), ``_coming`` (ordinary threads woken and not there yet), ``_closed``.
    """

    def __init__(self, count: int, *, spare: int = 0, witness: Witness | None = None) -> None:
        self.count = count
        self.witness = witness
        self.lock = threading.Lock()
        self._turns = Turns()
        self._ready: list[Source] = []
        self._resting: list[_Seat] = []
        self._resting_spares: list[_Seat] = []
        self._coming = 0
        self._closed = False
        self._seats = seats = [_Seat(index, is_spare=index >= count) for index in range(count + spare)]
        self._threads = [
            threading.Thread(
                target=self._work, args=(seat,), name=f"wakeful-{'spare' if seat.is_spare else 'worker'}-{seat.index}", daemon=True
            )
            for seat in seats
        ]
        for thread in self._threads:
            thread.start()

    def __repr__(self) -> str:
        spare = len(self._threads) - self.count
        rows = sum(source.waiting for source in list(self._ready))
        return (
            f"<Workers: {len(self._resting)} of {self.count} idle, {len(self._resting_spares)} of {spare} spare idle; "
            f"{rows} rows of {len(self._ready)} functions wait>"
        )

    @property
    def trouble(self) -> str:
        """Why nobody can count on these threads: one has ended, or hangs in a batch; empty when all is well."""
        for thread in self._threads:
            if not thread.is_alive():
                return f"the thread {thread.name} has ended."
        now = time.monotonic()
        with self.lock:
            at_work = [(seat.source, seat.began) for seat in self._seats if seat.source is not None]
        for source, began in at_work:
            if is_hung(began, source.timeout_s, now):
                return f"a worker has been in one batch of {source.name!r} for {now - began:.0f} s; its stages do not come back."
        return ""

    @property
    def is_healthy(self) -> bool:
        """Whether there is no ``trouble``."""
        return not self.trouble

    @property
    def is_closed(self) -> bool:
        """Whether nothing new is taken."""
        return self._closed

    def enter(self, source: Source, rows: int) -> None:
        """Under ``lock``: so many rows of the function began to wait."""
        if not source.lane.is_waiting:
            source.lane.is_waiting = True
            self._ready.append(source)
            self._turns.join(source.lane)
        if self._resting or self._resting_spares:
            self._rouse(source, rows)

    def close(self, timeout_s: float) -> None:
        """Runs what waits, then ends the threads; blocks for at most ``timeout_s``. Batchers are closed first. Idempotent."""
        with self.lock:
            self._closed = True
            for resting in (self._resting, self._resting_spares):
                while resting:
                    self._call(resting, None)
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, seat: _Seat) -> None:
        while self._next(seat):
            self._run(seat)

    def _run(self, seat: _Seat) -> None:
        source, batch, witness = seat.source, seat.batch, self.witness
        assert source is not None
        assert batch is not None
        if witness is None:
            source.run(batch)
            return
        witness.begin(seat.index, source.name, [row.mark for row in batch[1] if row.call.mark])
        SPEAKER.set(source.name)
        source.run(batch)
        witness.end(seat.index)

    def _next(self, seat: _Seat) -> bool:
        """Puts down what was run and waits for the next batch; false when closed and nothing is left."""
        with self.lock:
            now = time.monotonic()
            self._put_down(seat, now)
            while True:
                due = self._pick(seat, now)
                if due is None:
                    return True
                if self._closed and due == math.inf:
                    return False
                self._rest(seat, due - now)
                now = time.monotonic()

    def _put_down(self, seat: _Seat, now: float) -> None:
        source = seat.source
        if source is not None:
            self._turns.end(source.lane, seat.charged_s, seat.began, now)
            if source.waiting:
                seat.owes.append(source)
            seat.source = seat.batch = None

    def _pick(self, seat: _Seat, now: float) -> float | None:
        """Gives the seat a batch and returns None; or returns when to look again, infinity for when it is woken."""
        due, undue = math.inf, []
        for source in self._turns.order(self._ready, is_spare=seat.is_spare):
            lane = source.lane
            found = source.take(now, min(len(self._resting) + self._coming, lane.share - lane.active - 1))
            if isinstance(found, Wait):
                due = min(due, found.until)
                undue.append(source)
                continue
            if not source.waiting:
                lane.is_waiting = False
                self._ready.remove(source)
            seat.source, seat.batch, seat.began = source, found, now
            seat.charged_s = self._turns.begin(lane, found[2], now)
            if self._resting or self._resting_spares:
                self._leave_behind((*seat.owes, source))
            seat.owes.clear()
            return None
        if seat.is_spare and self._resting:
            self._leave_behind(seat.owes)
        seat.owes = undue
        return due

    def _leave_behind(self, sources: tuple[Source, ...] | list[Source]) -> None:
        """Rules 2 and 3 of the module."""
        for source in sources:
            if source.waiting and not source.lane.coming:
                self._rouse(source, 1)

    def _rouse(self, source: Source, rows: int) -> None:
        """Rule 1 of the module: wakes at most ``rows`` workers for the function."""
        lane = source.lane
        for _ in range(min(rows, lane.share - lane.active - lane.coming, len(self._resting))):
            self._call(self._resting, source)
        if self._resting_spares and not lane.active and not lane.coming:
            self._call(self._resting_spares, source)

    def _call(self, resting: list[_Seat], source: Source | None) -> None:
        seat = resting.pop()
        seat.is_called, seat.called_for = True, source
        if source is not None:
            source.lane.coming += 1
        if not seat.is_spare:
            self._coming += 1
        seat.bell.release()

    def _rest(self, seat: _Seat, seconds: float) -> None:
        """Lets go of the lock until called or until so many seconds are over."""
        resting = self._resting_spares if seat.is_spare else self._resting
        resting.append(seat)
        self.lock.release()
        try:
            rang = seat.bell.acquire(timeout=-1 if seconds == math.inf else max(0.0, seconds))
        finally:
            self.lock.acquire()
        if not seat.is_called:
            resting.remove(seat)
            return
        if not rang:  # called between the end of the wait and here
            seat.bell.acquire()
        seat.is_called = False
        if not seat.is_spare:
            self._coming -= 1
        if seat.called_for is not None:
            seat.called_for.lane.coming -= 1
            seat.owes.append(seat.called_for)
            seat.called_for = None
