"""The way of a row through the segments: which it skips (``when``), where it becomes many (``each``), where these become one again.

A segment that runs over ``each`` gets *inner* rows, one an element, which wait and share batches like any other. Consecutive segments
over the same value have the same inner rows. After the last of them what they gave is gathered, in order, as lists in the outer row,
which goes on when the last of its inner rows has arrived. An inner row that fails, fails its outer row; the others are then moot.

Theory of operation: a row is in one place at a time, so whoever ran it moves it on without a lock. Only ``Row.left``, the inner rows of
an outer one that are still under way, is counted by several threads, under the lock given. What would break it: a row that is moved on
twice.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from runtime.batching.rows import Row
from runtime.branch import Condition
from runtime.errors import RequestError

MAX_FAN_OUT = 1024
"""Elements a row, unless ``limits.max_fan_out`` says otherwise."""


class Passage(Protocol):
    """What must be known of a segment.

    Attributes:
        each: the value that it runs over; None: outer rows.
        when: which rows it is for; None: all of them.
        gives: names of the values that its stages give.
    """

    @property
    def each(self) -> str | None: ...
    @property
    def when(self) -> Condition | None: ...
    @property
    def gives(self) -> Sequence[str]: ...


class Way:
    """Leads rows from segment to segment.

    Args:
        segments: in order.
        lock: guards ``Row.left``.

    Attributes:
        max_fan_out: a row with more elements fails.
        is_straight: no segment fans out or branches, so that every row goes from one to the next.
        factor: inner rows an outer row, smoothed, one a segment; 1 where rows are outer.

    Mutable state: ``factor``, written without a lock: workers do not wait for each other for an estimate.
    """

    def __init__(self, segments: Sequence[Passage], lock: threading.Lock) -> None:
        self._segments = tuple(segments)
        self._lock = lock
        self.max_fan_out = MAX_FAN_OUT
        self.is_straight = all(segment.each is None and segment.when is None for segment in segments)
        self.factor = [1.0] * len(segments)
        self._runs = [self._run_of(index) for index in range(len(segments))]
        self._before = [
            {name for earlier in segments[:index] if earlier.each == segment.each for name in earlier.gives}
            for index, segment in enumerate(segments)
        ]

    def onward(self, index: int, rows: Sequence[Row]) -> tuple[dict[int, list[Row]], list[Row]]:
        """Where rows go that have been through a segment; -1 for those that have been through none.

        Returns:
            Rows by the segment that they go to next, and outer rows that are done, with an answer or an error.
        """
        if self.is_straight and index + 1 < len(self._segments):
            well, failed = [row for row in rows if row.error is None], [row for row in rows if row.error is not None]
            return {index + 1: well} if well else {}, failed
        onward: defaultdict[int, list[Row]] = defaultdict(list)
        done: list[Row] = []
        todo = [(index, row) for row in reversed(rows)]
        while todo:
            at, row = todo.pop()
            if row.error is not None:
                self._ended(row, todo, done)
                continue
            at += 1
            if row.parent is not None and at == row.until:
                self._ended(row, todo, done)
            elif at == len(self._segments):
                done.append(row)
            elif (each := self._segments[at].each) is not None and row.parent is None:
                self._fan_out(at, each, row, todo)
            elif (when := self._segments[at].when) is None or when.holds(row.values):
                onward[at].append(row)
            else:
                todo.append((at, row))
        return onward, done

    def _run_of(self, index: int) -> range:
        """The segments around one that follow one another over the same value."""
        each, first, end = self._segments[index].each, index, index + 1
        while first and self._segments[first - 1].each == each:
            first -= 1
        while end < len(self._segments) and self._segments[end].each == each:
            end += 1
        return range(first, end)

    def _ended(self, row: Row, todo: list[tuple[int, Row]], done: list[Row]) -> None:
        """A row that failed, or an inner row behind the last segment for it."""
        parent = row.parent
        if parent is None:
            done.append(row)
            return
        with self._lock:
            if parent.error is None:
                parent.error = row.error
            parent.left -= 1
            if parent.left:
                return
        if parent.error is None:
            self._gather(row.until, parent)
        parent.inner = ()
        todo.append((row.until - 1, parent))

    def _fan_out(self, index: int, each: str, row: Row, todo: list[tuple[int, Row]]) -> None:
        """Inner rows in place of the row; one without elements goes on at once."""
        elements, run = row.values[each], self._runs[index]
        count = len(elements)
        for at in run:
            self.factor[at] += 0.1 * (count - self.factor[at])
        if count > self.max_fan_out:
            told = f"the row has {count} elements in {each!r}, and limits.max_fan_out is {self.max_fan_out}. Send less in a row."
            row.error = RequestError(told)
            todo.append((index, row))
            return
        known = [name for name in self._before[index] if name in row.values]
        row.inner = tuple(Row(row.call, row.index, {**row.values, each: element}) for element in elements)
        row.left = count
        for number, one in enumerate(row.inner):
            one.parent, one.until, one.alone = row, run.stop, row.alone
            for name in known:
                one.values[name] = row.values[name][number]
        if not count:
            self._gather(run.stop, row)
            todo.append((run.stop - 1, row))
        todo.extend((index - 1, one) for one in reversed(row.inner))

    def _gather(self, until: int, row: Row) -> None:
        """What the run before ``until`` gave, as lists of the outer row: one value an inner row, None where it skipped what gives it."""
        for at in self._runs[until - 1]:
            for name in self._segments[at].gives:
                row.values[name] = [one.values.get(name) for one in row.inner]
