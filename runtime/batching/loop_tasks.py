"""The rows of one function that run on the event loop: a task for each, or for those of one call
that go to another function together, until the call's deadline.

The deadline cancels the task. If it does not end then, it is abandoned, and its rows leave with an
error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from runtime.batching.calls import Call, Row, deadline_error
from runtime.batching.queues import SegmentProtocol
from runtime.batching.service_times import LoopTime
from runtime.system.crash import CrashRecorder
from runtime.system.function_context import CURRENT_FUNCTION, contain

logger = logging.getLogger("wakeful.batcher")

GRACE_S: Final = 1.0
"""How long coroutines may take to end after their deadline."""


class LoopOwner(Protocol):
    """The batcher whose rows they are; attributes as of ``Batcher``."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...


class LoopTasks:
    """The tasks of one function. Used on its event loop.

    Args:
        owner: the batcher.
        segments: in order; those that are ``on_loop`` are run here.
        times: what rows take on the loop, by segment; told of each.
        witness: records that the function has work on the loop.
        on_end: called when rows have been through a segment, with its index, the rows, and the
            error of the task, or None.

    Mutable state: ``_tasks`` (what runs), ``_mark`` (of the witness).
    """

    def __init__(
        self,
        owner: LoopOwner,
        segments: Sequence[SegmentProtocol],
        loop: asyncio.AbstractEventLoop,
        times: Sequence[LoopTime],
        witness: CrashRecorder | None,
        on_end: Callable[[int, list[Row], BaseException | None], None],
    ) -> None:
        self.loop = loop
        self._owner = owner
        self._segments = segments
        self._times = times
        self._witness = witness
        self._on_end = on_end
        self._tasks: dict[asyncio.Task[None], _Task] = {}
        self._mark: int | None = None
        contain(loop)

    def __len__(self) -> int:
        """How many run."""
        return len(self._tasks)

    def counts(self) -> list[int]:
        """Rows that run, by segment."""
        counts = [0] * len(self._segments)
        for task in self._tasks.values():
            counts[task.index] += len(task.rows)
        return counts

    def begin(self, index: int, rows: list[Row], now: float) -> None:
        """Runs rows of one call through a segment from now on, together."""
        if self._witness is not None and not self._tasks:
            self._mark = self._witness.mark(self._owner.label)
        # the task begins with a copy of what is set here
        before = CURRENT_FUNCTION.set(self._owner.name)
        task = self.loop.create_task(self._segments[index].run_on_loop(rows))
        CURRENT_FUNCTION.reset(before)
        timer = self.loop.call_later(max(0.0, rows[0].call.deadline - now), self._expire, task)
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
        entry.timer = self.loop.call_later(GRACE_S, self._abandon, task)

    def _abandon(self, task: asyncio.Task[None]) -> None:
        """The task was cancelled and goes on: its rows leave without it."""
        entry = self._tasks[task]
        logger.warning(
            "%s: segment %s goes on though it was cancelled at its deadline",
            self._owner.name,
            self._segments[entry.index].name,
        )
        entry.is_abandoned = True
        self._on_end(entry.index, entry.rows, None)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        entry = self._tasks.pop(task)
        entry.timer.cancel()
        if self._mark is not None and self._witness is not None and not self._tasks:
            self._witness.unmark(self._mark)
            self._mark = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not entry.is_abandoned:
            self._times[entry.index].record(time.monotonic() - entry.began)
            self._on_end(entry.index, entry.rows, error)


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
