"""The rows of one function on their way: they wait in one queue a segment, and a worker takes what the policy gives it.

A function's stages are cut into *segments* (``runtime/segments``): each begins where rows should be gathered anew, at the request or
at a batched model. A worker runs a segment on a batch from its first stage to its last, hands the rows to the queue of the segment
that is next for them (``fanout``), and asks again. So a call costs one hop into a worker thread and one back, however many stages it has.

Theory of operation: all queues, counts and the closed flag change under the workers' lock, held only for bookkeeping. Stages run
outside it. A row leaves the batcher exactly once, through ``_finish``: answered, failed, or dropped because its call is over; when the
last row of a call leaves, its ``on_done`` is called on the event loop. Whatever a stage raises becomes the error of its rows.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine, Sequence

from runtime.batching.doubt import Doubt
from runtime.batching.fanout import Way
from runtime.batching.policy import Wait
from runtime.batching.queues import Queues
from runtime.batching.rows import Call, Row, expired, moot
from runtime.batching.segment import Segment
from runtime.batching.streams import GRACE_S, Streams
from runtime.batching.turns import Lane
from runtime.batching.workers import Batch, Workers
from runtime.errors import DeviceLost, Draining, FunctionError
from runtime.speaker import SPEAKER

logger = logging.getLogger("wakeful.batcher")


class Batcher:
    """The queues of one function, served by workers that other functions may share.

    Args:
        name: the function's, for logs and the witness.
        segments: in order; rows go from one to the next.
        workers: the threads; they are not ended by ``close``.
        share: most of them that run this function at once, one for each CPU the function declares.
        loop: the event loop that calls are submitted from and answered on.

    Attributes:
        timeout_s: the longest that a caller waits; a batch that takes much longer hangs.
        on_doubt: called on the event loop when batches have answered nobody for a while, with the reason, if it is sure that they never
            will; with an empty one if that is to be tested.

    Mutable state, all under the workers' lock: ``_queues``, ``_inside`` (rows submitted that have not left), ``_closed``, ``lane`` (its
    turns). ``_doubts`` (one a segment) belongs to whoever runs a batch, ``_tasks`` and ``_mark`` to the event loop.
    """

    def __init__(self, name: str, segments: Sequence[Segment], *, workers: Workers, share: int, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.lane = Lane(share)
        self.timeout_s = math.inf
        self.on_doubt: Callable[[str], None] = _nobody
        self._segments = tuple(segments)
        self._workers = workers
        self._loop = loop
        self._lock = workers.lock
        self._queues = Queues(self._segments)
        self._way = Way(self._segments, self._lock)
        self._streams = Streams(self._way.factor) if segments[-1].streams else None
        self._doubts = [Doubt() for _ in segments]
        self._inside = 0
        self._closed = False
        self._is_empty = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mark: int | None = None

    def __repr__(self) -> str:
        waiting = ", ".join(f"{rows} at {segment.name}" for rows, segment in zip(self._queues.lengths(), self._segments, strict=True))
        return f"<Batcher {self.name}: {waiting}; {self.lane.active} of {self.lane.share} workers, {self.busy_s:.3f} s busy>"

    @property
    def trouble(self) -> str:
        """Why nobody can count on an answer: a worker thread has died or hangs; empty when all is well."""
        return self._workers.trouble

    @property
    def is_healthy(self) -> bool:
        """Whether there is no ``trouble``."""
        return not self.trouble

    @property
    def waiting(self) -> int:
        """Rows that wait for a worker."""
        return self._queues.waiting

    @property
    def row_seconds(self) -> float:
        """Seconds of one worker that a row takes through all segments, smoothed."""
        return sum(row_s * rows for row_s, rows in zip(self._queues.row_s, self._way.factor, strict=True))

    @property
    def max_fan_out(self) -> int:
        """A row with more elements to run over fails."""
        return self._way.max_fan_out

    @max_fan_out.setter
    def max_fan_out(self, most: int) -> None:
        self._way.max_fan_out = most

    @property
    def busy_s(self) -> float:
        """Worker seconds spent on it so far, batches under way included; never falls."""
        with self._lock:
            return self.lane.busy_s(time.monotonic())

    def submit(self, call: Call, on_done: Callable[[Call], None]) -> None:
        """Takes a call; ``on_done`` is called once on the event loop when each of its rows has values or an error.

        Raises:
            Draining: after ``close``.
        """
        call.on_done = on_done
        if self._way.is_straight and not self._segments[0].on_loop:
            self._hand_to(0, call.rows, accept=call)  # one turn of the lock instead of two
            return
        with self._lock:
            self._accept(call)
        self._move_on(-1, call.rows)

    def close(self, timeout_s: float) -> None:
        """Takes nothing more and blocks until what was submitted is answered, for at most ``timeout_s``. Idempotent."""
        with self._lock:
            self._closed = True
            if not self._inside:
                self._is_empty.set()
        if not self._is_empty.wait(timeout_s) and self._streams is not None:
            self._loop.call_soon_threadsafe(self._streams.end)
            self._is_empty.wait(GRACE_S)

    def take(self, now: float, idle_workers: int) -> Batch | Wait:
        """For a worker, under the lock: the batch that leaves now, or when the next one may."""
        found = self._queues.take(now, idle_workers)
        if isinstance(found, Wait):
            return found
        index, rows = found
        return index, rows, self._queues.row_s[index] * len(rows)

    def run(self, batch: Batch) -> None:
        """In a worker thread: the batch through its segment."""
        index, rows, _ = batch
        try:
            began = time.monotonic()
            live = self._living(index, rows, began)
            if not live:
                return
            ceiling = self._segments[index].run(live)
            now = time.monotonic()
            self._queues.learn(index, (now - began) / len(live), ceiling, now)
            if live[0].error is not None or self._doubts[index].failing:
                self._judge(index, live, now)
            self._move_on(index, live)
        except BaseException:  # a fault of ours, or a stage that raises SystemExit, ends no thread and leaves no caller without an answer
            self._fail(index, rows)

    def _accept(self, call: Call) -> None:
        """Under the lock: from here on ``close`` waits for the call's rows."""
        if self._closed or self._workers.is_closed:
            raise Draining("the function is shutting down; call again, another replica answers.", retry_after_s=1)
        self._inside += len(call.rows)
        if self._streams is not None:
            self._streams.open(call)

    def _hand_to(self, index: int, rows: list[Row], *, accept: Call | None = None) -> None:
        """Rows begin to wait at a segment, or start at once where they run on the event loop."""
        segment, now = self._segments[index], time.monotonic()
        for row in rows:
            row.since = now
            segment.measure(row)
        if segment.on_loop:
            for some in [[row] for row in rows] if segment.streams else (rows,):  # a long stream does not hold the end of others
                self._loop.call_soon_threadsafe(self._start, self._run_on_loop(index, some))
            return
        with self._lock:
            if accept is not None:
                self._accept(accept)
            self._queues.add(index, rows)
            self._workers.enter(self, len(rows))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        witness = self._workers.witness
        if witness is not None and not self._tasks:
            self._mark = witness.mark(self.name)
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._mark is not None and self._workers.witness is not None and not self._tasks:
            self._workers.witness.unmark(self._mark)
            self._mark = None

    async def _run_on_loop(self, index: int, rows: list[Row]) -> None:
        live = self._living(index, rows, time.monotonic())
        if not live:
            return
        SPEAKER.set(self.name)
        try:
            async with asyncio.timeout(max(row.call.deadline for row in live) - time.monotonic()):
                await self._segments[index].run_on_loop(live)
        except TimeoutError:
            for row in live:
                row.error = row.error or expired(row.call)
        except Exception:  # as in a worker
            self._fail(index, live)
            return
        self._judge(index, live, time.monotonic())
        self._move_on(index, live)

    def _judge(self, index: int, rows: Sequence[Row], now: float) -> None:
        """Whether these rows, which have been run, are a reason to doubt the function."""
        lost = next((row.error.message for row in rows if isinstance(row.error, DeviceLost)), "")
        answered = not all(isinstance(row.error, FunctionError) for row in rows)
        if self._doubts[index].hears(answered, now) or lost:
            self._loop.call_soon_threadsafe(self.on_doubt, lost)

    def _fail(self, index: int, rows: Sequence[Row]) -> None:
        """While an exception is handled: it is told to the log, and every row that is still inside leaves with an error."""
        logger.exception("%s: segment %s failed outside its stages", self.name, self._segments[index].name)
        for row in rows:
            row.error = row.error or FunctionError("the function failed; its log has the reason under the request id.")
            if row.parent is not None:
                row.parent.error = row.parent.error or row.error
        self._judge(index, rows, time.monotonic())
        self._finish([row.parent or row for row in rows])

    def _living(self, index: int, rows: list[Row], now: float) -> list[Row]:
        """The rows whose call still wants an answer; the others are finished here, before they cost anything."""
        live = []
        for row in rows:
            call, whole = row.call, row.parent
            if call.is_over(now) or (whole is not None and whole.error is not None):
                row.error = moot(row)
            else:
                call.timings["queue"] += (now - row.since) / (len(call.rows) if whole is None else row.share)
                live.append(row)
        if len(live) < len(rows):
            self._move_on(index, [row for row in rows if row.error is not None])
        return live

    def _move_on(self, index: int, rows: list[Row]) -> None:
        """Rows that have been through a segment, or through none (-1), or failed: each goes to the next that is for it, or is finished."""
        if self._streams is not None and index == len(self._segments) - 1:
            again, done = self._streams.turns(rows, functools.partial(self._hand_to, index))
            if done:
                self._finish(done)
            if again:
                self._hand_to(index, again)
            return
        if self._way.is_straight and index + 1 == len(self._segments):
            self._finish(rows)
            return
        onward, done = self._way.onward(index, rows)
        if done:
            self._finish(done)
        for at, of in onward.items():
            self._hand_to(at, of)

    def _finish(self, rows: Sequence[Row]) -> None:
        if self._streams is not None:
            self._streams.close(rows)
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
            self._loop.call_soon_threadsafe(_tell, done)


def _nobody(reason: str) -> None:
    """Who is told before anybody asked to be."""


def _tell(calls: Sequence[Call]) -> None:
    for call in calls:
        on_done = call.on_done
        del call.on_done  # a call and its rows refer to each other: an unloaded function must not hang on that circle
        on_done(call)
