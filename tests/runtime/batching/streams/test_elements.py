"""Elements of a row whose answers are sent as they are done: which are begun, what is sent, and
when the row is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching.calls import Call, Row
from runtime.batching.policy import BatchLimits
from runtime.batching.streams.elements import (
    CALLS_WINDOW,
    LEAST_WINDOW,
    LOOP_WINDOW,
    ElementStream,
    Window,
    choose_window,
)
from runtime.batching.streams.stream import Stream
from runtime.errors import DeadlineExceeded, RequestError


class Part:
    """A segment, as far as a window is concerned."""

    def __init__(
        self, size: int = 0, *, on_loop: bool = False, calls: bool = False, threads: int = 0
    ) -> None:
        self.batch_limits = BatchLimits(max_batch_size=size) if size else None
        self.on_loop, self.calls, self.threads = on_loop, calls, threads


@pytest.mark.parametrize(
    ("segments", "workers", "window"),
    [
        ([Part()], 1, Window(1, LEAST_WINDOW)),
        ([Part(), Part(32)], 2, Window(2, LEAST_WINDOW)),
        ([Part(), Part(128)], 2, Window(2, 256)),
        ([Part(threads=16)], 1, Window(16, LEAST_WINDOW)),
        ([Part(threads=100), Part(8)], 1, Window(100, 200)),
        ([Part(on_loop=True)], 1, Window(LOOP_WINDOW, LOOP_WINDOW)),
        ([Part(on_loop=True, calls=True)], 8, Window(1, CALLS_WINDOW)),
        ([Part(128), Part(on_loop=True, calls=True)], 8, Window(1, CALLS_WINDOW)),
    ],
)
def test_so_many_are_under_way(segments: list[Part], workers: int, window: Window) -> None:
    """Two full batches; before the first is done, what can be computed at once."""
    assert choose_window(segments, workers) == window


class Elements:
    """A row with a stream, and what is asked of it."""

    def __init__(
        self, count: int, window: Window, *, ordered: bool, deadline: float = 1e12
    ) -> None:
        (self.row,) = Call([{}], request_id="", now=0.0, deadline=deadline).rows
        self.stream = self.row.call.stream = Stream(asyncio.get_running_loop())
        self.running: dict[int, Row] = {}
        self.begun: list[int] = []
        self.is_done = 0
        self.elements = ElementStream(
            self.row, count, self._make, ["y"], window, self._on_space, ordered=ordered
        )
        self.follow(self.elements.begin)

    def _make(self, number: int) -> Row:
        row = Row(self.row.call, 0, {"x": number})
        row.number, row.parent = number, self.row
        return row

    def _on_space(self, row: Row) -> None:
        assert row is self.row
        self.follow(self.elements.begin)

    def follow(self, ask: Callable[[], tuple[list[Row], bool]]) -> None:
        """Begins what is to be begun."""
        begun, is_done = ask()
        self.is_done += is_done
        self.begun += [one.number for one in begun]
        self.running |= {one.number: one for one in begun}

    def finish(self, number: int, error: RequestError | None = None) -> None:
        """An element has its value, or an error."""
        row = self.running.pop(number)
        row.values["y"], row.error = 10 * number, error
        self.follow(lambda: self.elements.finish(row))

    def unread(self) -> list[Any]:
        """What waits to be taken."""
        return list(self.stream._items)


def on_loop(work: Callable[[], Any]) -> None:
    """Does it where a loop runs."""

    async def main() -> None:
        await work()

    asyncio.run(main())


def test_in_order_what_is_done_waits_for_those_before_it() -> None:
    """And is sent with them; the row is done once, after the last."""

    async def work() -> None:
        seen = Elements(4, Window(4, 4), ordered=True)
        for number in (2, 1, 3):
            seen.finish(number)
        assert (seen.unread(), seen.is_done) == ([], 0)
        seen.finish(0)
        assert seen.unread() == [{"y": 0}, {"y": 10}, {"y": 20}, {"y": 30}]
        assert (seen.is_done, seen.row.error) == (1, None)

    on_loop(work)


def test_as_done_each_is_sent_with_its_index() -> None:
    """At once."""

    async def work() -> None:
        seen = Elements(3, Window(3, 3), ordered=False)
        seen.finish(2)
        assert seen.unread() == [{"index": 2, "y": 20}]
        seen.finish(0)
        seen.finish(1)
        assert [item["index"] for item in seen.unread()] == [2, 0, 1]
        assert seen.is_done == 1

    on_loop(work)


def test_until_one_is_done_only_so_many_are_begun_as_run_at_once() -> None:
    """Then a window's; what is done and not taken counts, and what is taken makes room."""

    async def work() -> None:
        seen = Elements(10, Window(2, 4), ordered=True)
        assert seen.begun == [0, 1]
        seen.finish(1)
        assert seen.begun == [0, 1, 2, 3]  # 1 is held, 0 runs
        seen.finish(0)
        assert seen.begun == [0, 1, 2, 3]  # two unread, two run
        seen.finish(2)
        seen.finish(3)
        assert (seen.begun, len(seen.unread()), seen.elements.left) == ([0, 1, 2, 3], 4, 6)
        assert len(await seen.stream.take()) == 4
        assert seen.begun == list(range(8))

    on_loop(work)


def test_no_element_is_done_at_once() -> None:
    """A stream of nothing."""

    async def work() -> None:
        seen = Elements(0, Window(1, 4), ordered=True)
        assert (seen.is_done, seen.row.error) == (1, None)

    on_loop(work)


def test_in_order_what_comes_before_a_failure_is_sent_whenever_it_is_done() -> None:
    """Then the error; none is begun any more, and the row is done with the last that runs."""

    async def work() -> None:
        seen = Elements(9, Window(4, 4), ordered=True)
        seen.finish(2, RequestError("no twos."))
        seen.finish(0)
        assert (seen.unread(), seen.row.error, len(seen.begun)) == ([{"y": 0}], None, 4)
        assert len(await seen.stream.take()) == 1
        assert len(seen.begun) == 4
        seen.finish(1)
        assert seen.unread() == [{"y": 10}]
        assert isinstance(seen.row.error, RequestError)
        assert seen.is_done == 0
        seen.finish(3)
        assert (seen.is_done, len(seen.unread()), seen.elements.left) == (1, 1, 0)

    on_loop(work)


def test_as_done_the_first_failure_ends_the_row() -> None:
    """What comes later is not sent."""

    async def work() -> None:
        seen = Elements(9, Window(3, 3), ordered=False)
        seen.finish(1)
        seen.finish(2, RequestError("no twos."))
        seen.finish(0)
        assert isinstance(seen.row.error, RequestError)
        assert (seen.is_done, len(seen.unread()), seen.begun) == (1, 1, [0, 1, 2])

    on_loop(work)


@pytest.mark.parametrize("is_parked", [True, False])
def test_a_caller_that_leaves_ends_it(*, is_parked: bool) -> None:
    """Whether all that is begun waits to be taken, or something runs."""

    async def work() -> None:
        seen = Elements(9, Window(2, 2), ordered=True)
        seen.finish(0)
        if is_parked:
            seen.finish(1)
        assert seen.is_done == 0
        seen.row.call.is_abandoned = True
        seen.stream.close()
        for number in list(seen.running):
            seen.finish(number)
        assert seen.is_done == 1
        assert isinstance(seen.row.error, DeadlineExceeded)
        assert not seen.running

    on_loop(work)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_element_is_sent_once_whatever_the_order(data: st.DataObject) -> None:
    """Windows, orders of ends, takings and failures as they come: items are those of the elements
    before the failure, no more are under way than may be, and the row is done once.
    """

    async def work() -> None:
        count = data.draw(st.integers(0, 12))
        most = data.draw(st.integers(1, 5))
        ordered = data.draw(st.booleans())
        failing = data.draw(st.sets(st.integers(0, 11), max_size=2))
        seen = Elements(count, Window(data.draw(st.integers(1, most)), most), ordered=ordered)
        taken: list[Any] = []
        while not seen.is_done or seen.unread():
            held = len(seen.elements._held)
            assert len(seen.running) + held + len(seen.unread()) <= most
            if seen.unread() and (not seen.running or data.draw(st.booleans())):
                taken += await seen.stream.take()
            else:
                number = data.draw(st.sampled_from(sorted(seen.running)))
                seen.finish(number, RequestError("no.") if number in failing else None)
        assert seen.is_done == 1
        assert not seen.running
        failed = sorted(number for number in failing if number < count)
        if ordered:
            until = failed[0] if failed else count
            assert taken == [{"y": 10 * number} for number in range(until)]
        elif not failed:
            assert sorted(item["index"] for item in taken) == list(range(count))
        assert (seen.row.error is not None) == bool(failed)

    on_loop(work)
