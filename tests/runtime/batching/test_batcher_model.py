"""Arrivals, leaves, deadlines, poison and rows that run solo, in any order: every call gets
exactly one outcome, the right one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from runtime.batching.batcher import Batcher
from runtime.batching.bisection import BatchSizeCap, run_bisecting
from runtime.batching.calls import Call, Row
from runtime.batching.policy import BatchLimits
from runtime.batching.workers import Workers
from runtime.errors import DeadlineExceeded, FunctionError
from runtime.types.conditions import Condition


class Doors:
    """Batches stop at one until the test lets some through."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.inside = self.allowed = 0

    def enter(self) -> None:
        """In a worker: waits for its turn."""
        with self.lock:
            self.inside += 1
            assert self.lock.wait_for(lambda: self.allowed, 20), "the test opened no door"
            self.allowed -= 1
            self.inside -= 1

    def allow(self, batches: float) -> None:
        """Lets so many through, now or later."""
        with self.lock:
            self.allowed = self.allowed + batches
            self.lock.notify_all()


class Adds:
    """A segment that adds to its rows all at once, fails as a whole on a poisoned one, and
    remembers the rows that it has begun and finished.
    """

    on_loop = False
    streams = False
    calls = False
    is_python = True
    threads = 0
    element_order = None
    each: str | None = None
    when: Condition | None = None
    gives: tuple[str, ...] = ()

    def __init__(self, name: str, limits: BatchLimits | None, doors: Doors) -> None:
        self.name, self.batch_limits, self.doors = name, limits, doors
        self.begun: set[Row] = set()
        self.finished: list[Row] = []
        self.faults: list[str] = []

    def measure(self, row: Row) -> None: ...

    def run(self, rows: Sequence[Row]) -> BatchSizeCap | None:
        """As stages do."""
        self.begun.update(rows)
        if len(rows) > 1 and any(row.run_solo for row in rows):
            self.faults.append("a row that runs solo had batch-mates")
        if self.batch_limits is not None and len(rows) > self.batch_limits.max_batch_size:
            self.faults.append("a batch was too large")
        self.doors.enter()
        return run_bisecting(rows, self._add, self.name)

    def _add(self, rows: Sequence[Row]) -> None:
        if any(row.values["poison"] == self.name for row in rows):
            raise ValueError("poisoned")
        for row in rows:
            row.values[self.name] = row.values["n"] + 1
            self.finished.append(row)


class Watched:
    """A call, its rows that had begun when it was over, and how often it was answered."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.begun_before_end: set[tuple[str, int]] | None = None
        self.answered = 0


class Batching(RuleBasedStateMachine):
    """One function on a few workers; the model is what each row must become."""

    calls = Bundle("calls")

    @initialize(workers=st.integers(1, 3), size=st.integers(1, 6))
    def begin(self, workers: int, size: int) -> None:
        """A plain segment and one that gathers."""
        logging.getLogger("wakeful.function").disabled = True  # each poisoned row is logged
        self.loop = asyncio.new_event_loop()
        self.doors = Doors()
        self.segments = [
            Adds("plain", None, self.doors),
            Adds("model", BatchLimits(max_batch_size=size), self.doors),
        ]
        self.count = workers
        self.workers = Workers(workers)
        self.batcher = Batcher(
            "f", self.segments, workers=self.workers, share=workers, loop=self.loop
        )
        self.watched: list[Watched] = []

    @rule(
        target=calls,
        poison=st.lists(st.sampled_from(["", "", "", "plain", "model"]), min_size=1, max_size=7),
        run_solo=st.sets(st.integers(0, 6)),
    )
    def arrives(self, poison: list[str], run_solo: set[int]) -> Watched:
        """A call of some rows."""
        values: list[dict[str, Any]] = [
            {"n": len(self.watched) * 100 + n, "poison": kind} for n, kind in enumerate(poison)
        ]
        watched = Watched(Call(values, request_id="", now=time.monotonic(), deadline=math.inf))
        for row in watched.call.rows:
            row.run_solo = row.index in run_solo
        self.watched.append(watched)

        def done(call: Call) -> None:
            assert call is watched.call
            watched.answered += 1

        self.batcher.submit(watched.call, done)
        self.loop_turns()
        return watched

    @rule(watched=calls, leaves=st.booleans())
    def is_over(self, watched: Watched, leaves: bool) -> None:
        """Its caller leaves, or its time is over."""
        self.settle()
        if watched.begun_before_end is None and not watched.answered:
            watched.begun_before_end = self.begun(watched)
            if leaves:
                watched.call.is_abandoned = True
            else:
                watched.call.deadline = 0.0

    @rule(batches=st.integers(1, 4))
    def should_continue(self, batches: int) -> None:
        """Some batches are let through."""
        self.doors.allow(batches)
        self.settle()

    @rule()
    def loop_turns(self) -> None:
        """The event loop takes what the workers passed it."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def settle(self) -> None:
        """Until every worker is at a door or has nothing to do, and no door that is open is
        free.
        """
        self.until(
            lambda: (
                self.batcher.on_workers.share.active == self.doors.inside
                and (
                    not self.batcher.on_workers.queues.waiting
                    or self.batcher.on_workers.share.active == self.count
                )
                and not (self.doors.allowed and self.doors.inside)
            )
        )

    def until(self, holds: Callable[[], bool]) -> None:
        """Waits."""
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end, repr(self.batcher)
            time.sleep(0.0002)

    def begun(self, watched: Watched) -> set[tuple[str, int]]:
        """Which of its rows each segment has begun."""
        return {
            (segment.name, row.index)
            for segment in self.segments
            for row in watched.call.rows
            if row in segment.begun
        }

    def teardown(self) -> None:
        """Everything is let through, and every call must have become what the model says."""
        if not hasattr(self, "batcher"):
            return
        self.doors.allow(math.inf)
        self.batcher.close(20)
        self.workers.close(20)
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        logging.getLogger("wakeful.function").disabled = False
        assert self.batcher.on_workers.queues.waiting == 0
        assert [segment.faults for segment in self.segments] == [[], []]
        for watched in self.watched:
            assert watched.answered == 1
            for row in watched.call.rows:
                self.check(watched, row)

    def check(self, watched: Watched, row: Row) -> None:
        """One row's outcome."""
        times = {segment.name: segment.finished.count(row) for segment in self.segments}
        assert max(times.values()) <= 1, "a row was computed twice"
        if watched.begun_before_end is not None:
            fresh = {
                name
                for name, index in self.begun(watched) - watched.begun_before_end
                if index == row.index
            }
            assert not fresh, "a row was begun though its call was over"
        if isinstance(row.error, DeadlineExceeded):
            assert watched.begun_before_end is not None
        elif row.values["poison"]:
            assert isinstance(row.error, FunctionError)
            assert not times["model"]
        else:
            assert row.error is None
            assert row.values["plain"] == row.values["model"] == row.values["n"] + 1


Batching.TestCase.settings = settings(max_examples=30, stateful_step_count=20)
test_any_course_of_events_gives_every_call_one_outcome = Batching.TestCase
