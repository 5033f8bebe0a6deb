"""The rows of one function that run on the event loop: a task for each, or for those of one call
that go to another function together, until the call's deadline.

The deadline cancels the task. If it does not end then, it is abandoned, and its rows leave with an
error.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from types import FrameType
from typing import Final

from runtime.batching.calls import Call, Row, RowFlow, deadline_error
from runtime.batching.health.failure_detector import FailureWatch
from runtime.batching.health.function_health import FunctionHealth
from runtime.batching.health.hangs import call_fix, late_fix
from runtime.batching.queues import SegmentProtocol
from runtime.batching.service_times import LoopTime
from runtime.system.crash import CrashRecorder
from runtime.system.function_context import CURRENT_FUNCTION, contain

logger = logging.getLogger("wakeful.batcher")

GRACE_S: Final = 1.0
"""How long coroutines may take to end after their deadline."""

REPEAT_S: Final = 60.0
"""One record of coroutines that do not end in so many seconds."""


class LoopTasks:
    """The tasks of one function. Used on its event loop, but for ``add``, the properties and
    ``stage_on_loop``.

    Args:
        name, label: of the function; the label names it in crash reports.
        segments: in order; those that are ``on_loop`` are run here.
        flow: has the rows before and after.
        loop: the event loop.
        times: what rows take on the loop, by segment; told of each.
        health: of the function; knows the longest that a call waits.
        failures: told of rows without an answer.
        crash_recorder: records that the function has work on the loop.

    Attributes:
        name, label, timeout_s, loop, loop_thread: as of
        ``runtime.batching.health.loop_watch.LoopUser``.

    Mutable state: ``_tasks`` (what runs), ``_mark`` (of the crash recorder); ``_logged`` (when a
    task that did not end was logged) and ``_more`` (how many were not since).
    """

    def __init__(
        self,
        name: str,
        label: str,
        segments: Sequence[SegmentProtocol],
        *,
        flow: RowFlow,
        loop: asyncio.AbstractEventLoop,
        times: Sequence[LoopTime],
        health: FunctionHealth,
        failures: FailureWatch,
        crash_recorder: CrashRecorder | None,
    ) -> None:
        self.name = name
        self.label = label
        self.loop = loop
        self.loop_thread = threading.get_ident()
        self._segments = segments
        self._flow = flow
        self._times = times
        self._health = health
        self._failures = failures
        self._crash_recorder = crash_recorder
        self._tasks: dict[asyncio.Task[None], _Task] = {}
        self._mark: int | None = None
        self._logged = float("-inf")
        self._more = 0
        contain(loop)

    @property
    def timeout_s(self) -> float:
        """The longest that a call waits."""
        return self._health.timeout_s

    @property
    def has_tasks(self) -> bool:
        """Whether rows run on the loop."""
        return bool(self._tasks)

    def __len__(self) -> int:
        """How many run."""
        return len(self._tasks)

    def counts(self) -> list[int]:
        """Rows that run, by segment."""
        counts = [0] * len(self._segments)
        for task in self._tasks.values():
            counts[task.index] += len(task.rows)
        return counts

    def stage_on_loop(self, frames: Sequence[FrameType]) -> str:
        """The stage that stands in these frames of the loop's thread, or nothing."""
        on_loop = (segment for segment in self._segments if segment.on_loop)
        return next(filter(None, (segment.stage_in(frames) for segment in on_loop)), "")

    def add(self, index: int, rows: Sequence[Row]) -> None:
        """Rows begin to run at a segment, in any thread: each by itself, or those of each call
        together.
        """
        groups = by_call(rows) if self._segments[index].by_call else [[row] for row in rows]
        self.loop.call_soon_threadsafe(self._start, index, groups)

    def _start(self, index: int, groups: Sequence[list[Row]]) -> None:
        """Begins a task for each group of rows, which are one call's."""
        for rows in groups:
            try:
                now = time.monotonic()
                if live := self._flow.drop_over(index, rows, now):
                    self._begin(index, live, now)
            except Exception:  # our bug, as in a worker
                self._flow.fail(index, rows)

    def _begin(self, index: int, rows: list[Row], now: float) -> None:
        if self._crash_recorder is not None and not self._tasks:
            self._mark = self._crash_recorder.mark(self.label)
        before = CURRENT_FUNCTION.set(self.name)  # the task begins with a copy of what is set here
        task = self.loop.create_task(self._segments[index].run_on_loop(rows))
        CURRENT_FUNCTION.reset(before)
        timer = self.loop.call_later(max(0.0, rows[0].call.deadline - now), self._expire, task)
        self._tasks[task] = _Task(index, rows, timer, now)
        task.add_done_callback(self._on_task_done)

    def late_fixes(self, now: float) -> dict[Call, str]:
        """As of ``Batcher.late_fixes``, of calls with rows in a stage on the loop."""
        return {task.rows[0].call: self._late_fix(task, now) for task in self._tasks.values()}

    def _late_fix(self, task: _Task, now: float) -> str:
        segment, ran_s = self._segments[task.index], now - task.began
        if segment.calls:  # the other function's error may come in time, and says more
            return call_fix(segment.name, ran_s)
        return late_fix(segment.name, ran_s, is_own=True, is_overdue=False)

    def _expire(self, task: asyncio.Task[None]) -> None:
        """The deadline of the task's call has passed: cancels the task."""
        if task.done():
            return
        entry = self._tasks[task]
        error = deadline_error(entry.rows[0].call, self._late_fix(entry, time.monotonic()))
        for row in entry.rows:
            row.error = row.error or error
        task.cancel()
        entry.timer = self.loop.call_later(GRACE_S, self._abandon, task)

    def _abandon(self, task: asyncio.Task[None]) -> None:
        """The task was cancelled and goes on: its rows leave without it."""
        entry = self._tasks[task]
        now = time.monotonic()
        if now - self._logged < REPEAT_S:
            self._more += 1
        else:
            logger.warning(
                "%s: stage %r goes on though it was cancelled at its deadline%s",
                self.name,
                self._segments[entry.index].name,
                f"; so did {self._more} more since the last line" if self._more else "",
            )
            self._logged, self._more = now, 0
        entry.is_abandoned = True
        self._end(entry.index, entry.rows, None)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        entry = self._tasks.pop(task)
        entry.timer.cancel()
        if self._mark is not None and self._crash_recorder is not None and not self._tasks:
            self._crash_recorder.unmark(self._mark)
            self._mark = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not entry.is_abandoned:
            self._times[entry.index].record(time.monotonic() - entry.began)
            self._end(entry.index, entry.rows, error)

    def _end(self, index: int, rows: list[Row], error: BaseException | None) -> None:
        """The rows of a task go on. Where it ended with an error that they do not have, each gets
        one.
        """
        try:
            if error is not None and not all(row.error for row in rows):
                raise error
            self._failures.record(index, rows, time.monotonic())
            self._flow.advance(index, rows)
        except BaseException:  # as in a worker
            self._flow.fail(index, rows)


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


def by_call(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows, those of each call together."""
    found: defaultdict[Call, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.call].append(row)
    return list(found.values())
