"""Routes rows through the segments: which segments a row skips (``when``), where it becomes many
(``each``), where these become one again.

A segment that runs over ``each`` gets *inner* rows, one an element, which wait and share batches
like any other. Consecutive segments over the same value have the same inner rows. After the last of
these segments the inner rows' values are gathered, in order, as lists in the outer row, which goes
on when the last of its inner rows has arrived. An inner row that fails, fails its outer row; the
others are then not needed. Where the last segments stream what their elements give, the inner rows
are begun as the caller takes (``runtime.batching.streams.elements``). A row that cannot be routed,
since its value is no list or its condition cannot be evaluated, fails by itself.

Theory of operation: a row is in one place at a time, so the thread that ran it routes it without a
lock. Only ``Row.inner_count``, the inner rows of an outer one that are not done, is counted by
several threads, under the given lock. What would break it: a row that is routed twice.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Literal, Protocol

import numpy as np

from runtime.batching.calls import Row
from runtime.batching.health.failure_log import log_failure
from runtime.batching.streams.elements import ElementStream, Window
from runtime.errors import FunctionError, RequestError
from runtime.types.conditions import Condition

MAX_FAN_OUT = 1024
"""Elements a row, unless ``limits.max_fan_out`` says otherwise."""


ElementOrder = Literal["in order", "as done"]


class SegmentRouting(Protocol):
    """What the router needs of a segment.

    Attributes:
        each: the value that it runs over; None: outer rows.
        when: which rows it is for; None: all of them.
        gives: names of the values that its stages give.
        element_order: what its elements give is sent to the caller, in order or not; None: it is
            gathered.
    """

    @property
    def each(self) -> str | None: ...
    @property
    def when(self) -> Condition | None: ...
    @property
    def gives(self) -> Sequence[str]: ...
    @property
    def element_order(self) -> ElementOrder | None: ...


class RowRouter:
    """Decides which segment each row runs next: skips segments whose ``when`` is false, expands a
    row into one inner row per element of ``each``, and gathers their values.

    Args:
        segments: in order.
        lock: guards ``Row.inner_count``.

    Attributes:
        max_fan_out: a row with more elements fails.
        is_straight: no segment fans out or branches, so that every row goes from one to the next.
        factor: inner rows an outer row that was taken, smoothed, one a segment; 1 where rows are
            outer.
        taken: share of the rows that come to a segment for which its ``when`` holds, smoothed; 1
            where there is none.
        window: of elements that are sent one by one.
        on_space: called on the event loop with a row of which more elements may be begun
            (``route_elements``).

    Mutable state: ``factor`` and ``taken``, written without a lock: workers do not wait for each
    other for an estimate; ``_streaming``, the rows whose elements are sent one by one, single
    operations on a set.
    """

    def __init__(self, segments: Sequence[SegmentRouting], lock: threading.Lock) -> None:
        self._segments = tuple(segments)
        self._lock = lock
        self.max_fan_out = MAX_FAN_OUT
        self.is_straight = all(
            segment.each is None and segment.when is None for segment in segments
        )
        self.factor = [1.0] * len(segments)
        self.taken = [1.0] * len(segments)
        self._runs = [run_around(segments, index) for index in range(len(segments))]
        self._before = [_before(segments, index) for index in range(len(segments))]
        self.window = Window(1, 1)
        self._streaming: set[Row] = set()
        self.on_space: Callable[[Row], None] = _no_callback

    def add_unbegun(self, waiting: list[int]) -> None:
        """Adds to the rows that wait, by segment, the elements that are not begun yet."""
        for row in list(self._streaming):
            if row.elements is not None:
                waiting[self._runs[-1].start] += row.elements.left

    def remove(self, rows: Iterable[Row]) -> None:
        """Rows leave the batcher."""
        self._streaming.difference_update(rows)

    def route_elements(self, row: Row) -> tuple[dict[int, list[Row]], list[Row]]:
        """As ``route``, for elements of a row that may be begun now."""
        todo: list[tuple[int, Row]] = []
        if row.elements is not None:
            self._follow(row, row.elements.begin(), todo)
        return self._route(todo)

    def route(self, index: int, rows: Sequence[Row]) -> tuple[dict[int, list[Row]], list[Row]]:
        """The next segments of rows that have been through segment ``index``; -1: through none.

        Returns:
            Rows by their next segment, and outer rows that are done, with an answer or an error.
        """
        if self.is_straight and index + 1 < len(self._segments):
            good = [row for row in rows if row.error is None]
            failed = [row for row in rows if row.error is not None]
            return {index + 1: good} if good else {}, failed
        return self._route([(index, row) for row in reversed(rows)])

    def _route(self, todo: list[tuple[int, Row]]) -> tuple[dict[int, list[Row]], list[Row]]:
        """Routes rows that have been through a segment; empties ``todo``."""
        routed: defaultdict[int, list[Row]] = defaultdict(list)
        done: list[Row] = []
        while todo:
            at, row = todo.pop()
            if row.error is not None:
                self._row_finished(row, todo, done)
                continue
            at += 1
            if row.parent is not None and at == row.until:
                self._row_finished(row, todo, done)
            elif at == len(self._segments):
                done.append(row)
            elif self._is_for(at, row, todo):
                routed[at].append(row)
        return routed, done

    def _is_for(self, at: int, row: Row, todo: list[tuple[int, Row]]) -> bool:
        """Whether the row goes to this segment now; if not, its rows to route next are added to
        ``todo``.
        """
        segment = self._segments[at]
        try:
            if segment.each is not None and row.parent is None:
                self._fan_out(at, segment.each, row, todo)
                return False
            if segment.when is None:
                return True
            holds = segment.when.holds(row.values)
            self.taken[at] += 0.02 * (holds - self.taken[at])
            if holds:
                return True
        except _NoList as error:
            row.error = FunctionError(str(error))
        # of a value that has no such comparison, or whose class is a user's
        except BaseException as error:
            what = (
                f"run over {segment.each!r}"
                if row.parent is None and segment.each is not None
                else f"ask {segment.when}"
            )
            log_failure(row, f"cannot {what}", error)
            row.error = FunctionError(
                f"the function cannot {what} for this row; "
                "its log has the reason under the request id."
            )
        todo.append((at, row))
        return False

    def _row_finished(self, row: Row, todo: list[tuple[int, Row]], done: list[Row]) -> None:
        """A row failed, or an inner row has been through the last segment for it."""
        parent = row.parent
        if parent is None:
            done.append(row)
            return
        if parent.elements is not None:
            self._follow(parent, parent.elements.finish(row), todo)
            return
        with self._lock:
            if parent.error is None:
                parent.error = row.error
            parent.inner_count -= 1
            if parent.inner_count:
                return
        if parent.error is None:
            self._gather(row.until, parent)
        parent.inner = ()
        todo.append((row.until - 1, parent))

    def _follow(self, row: Row, found: tuple[list[Row], bool], todo: list[tuple[int, Row]]) -> None:
        """Does what the row's elements ask for: inner rows begin, or the row is done."""
        begun, is_done = found
        run = self._runs[-1]
        if is_done:
            todo.append((run.stop - 1, row))
        todo.extend((run.start - 1, one) for one in reversed(begun))

    def _fan_out(self, index: int, each: str, row: Row, todo: list[tuple[int, Row]]) -> None:
        """Replaces the row by its inner rows; a row without elements goes on at once."""
        value, run = row.values[each], self._runs[index]
        _require_list(each, value)
        # refused before its elements exist, and before it counts as a row that has so many
        if len(value) > self.max_fan_out:
            row.error = RequestError(
                f"the row has {len(value)} elements in {each!r}, and limits.max_fan_out is "
                f"{self.max_fan_out}. Send less in a row."
            )
            todo.append((index, row))
            return
        elements: Sequence[Any] = value if isinstance(value, list | tuple) else list(value)
        count = len(elements)
        known = [name for name in self._before[index] if name in row.values]
        for name in known:
            if len(row.values[name]) != count:
                raise _NoList(
                    f"{each!r} has {count} elements, and {name!r} was given for "
                    f"{len(row.values[name])}: a stage has changed it."
                )
        for at in run:
            self.factor[at] += 0.1 * (count - self.factor[at])
        gaps = [name for name in known if name in row.gaps]
        row.inner_count = row.fan_out = count

        def make(number: int) -> Row:
            one = Row(row.call, row.index, {**row.values, each: elements[number]})
            one.parent, one.until, one.run_solo = row, run.stop, row.run_solo
            one.number = number
            for name in known:
                one.values[name] = row.values[name][number]
            for name in gaps:
                if number in row.gaps[name]:
                    del one.values[name]
            return one

        last = self._segments[-1]
        if run.stop == len(self._segments) and last.element_order and row.call.stream is not None:
            row.elements = ElementStream(
                row,
                count,
                make,
                last.gives,
                self.window,
                self.on_space,
                ordered=last.element_order == "in order",
            )
            self._streaming.add(row)
            self._follow(row, row.elements.begin(), todo)
            return
        row.inner = tuple(map(make, range(count)))
        if not count:
            self._gather(run.stop, row)
            todo.append((run.stop - 1, row))
        todo.extend((index - 1, one) for one in reversed(row.inner))

    def _gather(self, until: int, row: Row) -> None:
        """Gathers the values of the inner rows as lists of the outer row: one value an inner row,
        None where it skipped the stage that gives it.
        """
        for name in dict.fromkeys(
            name for at in self._runs[until - 1] for name in self._segments[at].gives
        ):
            row.values[name] = [one.values.get(name) for one in row.inner]
            gaps = frozenset(
                number for number, one in enumerate(row.inner) if name not in one.values
            )
            if gaps or name in row.gaps:
                row.gaps = {**row.gaps, name: gaps}


def run_around(segments: Sequence[SegmentRouting], index: int) -> range:
    """The consecutive segments around this one that run over the same value."""
    each, first, end = segments[index].each, index, index + 1
    while first and segments[first - 1].each == each:
        first -= 1
    while end < len(segments) and segments[end].each == each:
        end += 1
    return range(first, end)


def _before(segments: Sequence[SegmentRouting], index: int) -> frozenset[str]:
    """Names of the values that earlier segments gave for the elements that a segment runs over:
    each inner row gets its own again.

    A value that was given again since then, for the row or for another list, is a value like any
    other; after a new list none of these names remains.
    """
    each = segments[index].each
    names: set[str] = set()
    for earlier in segments[:index] if each is not None else ():
        if earlier.each == each:
            names.update(earlier.gives)
        elif each in earlier.gives:
            names.clear()
        else:
            names.difference_update(earlier.gives)
    return frozenset(names)


def _no_callback(*_: object) -> None:
    """Default callback: does nothing."""


class _NoList(TypeError):
    """A value has no elements to run over; the message says why."""


def _require_list(name: str, value: Any) -> None:
    """Makes none of its elements: an array of 64 MiB may have as many.

    Raises:
        _NoList: it has no elements, or not in an order.
    """
    if isinstance(value, list | tuple):
        return
    if (
        isinstance(value, str | bytes | Mapping | Set)
        or not hasattr(value, "__len__")
        or (isinstance(value, np.ndarray) and not value.ndim)
    ):
        raise _NoList(
            f"stages run over {name!r}, and it is {type(value).__name__}; a list or an array is "
            "wanted. An empty list runs none."
        )
