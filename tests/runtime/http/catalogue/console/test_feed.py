"""When the console looks, and what it tells pages then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from runtime.http.catalogue.console.feed import FIRST_S, LEAST_S, ConsoleFeed, next_look_s
from runtime.http.catalogue.console.history import SHORT_S
from runtime.http.catalogue.console.library_console import LibraryConsole
from runtime.http.catalogue.console.shapes import LogLine
from runtime.http.catalogue.console.sources import (
    ConsoleCounts,
    ConsoleFacts,
    ConsoleSources,
    FunctionNews,
    ProcessCounts,
)
from runtime.http.catalogue.console.streams import HEARTBEAT, PageStream
from runtime.http.catalogue.key_view import KeyView
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
)

PATIENCE_S = 30.0


@pytest.mark.parametrize(
    ("now", "looked_at", "counted_at", "is_dirty", "has_streams", "wait_s"),
    [
        (1003.0, 0.0, 1000.0, False, False, 7.0),
        (1003.0, 0.0, 1000.0, True, False, 7.0),
        (1010.0, 0.0, 1000.0, False, False, 0.0),
        (1012.0, 0.0, 1000.0, False, False, 0.0),
        (1000.4, 1000.0, 1000.0, False, True, 0.6),
        (1000.1, 1000.0, 1000.0, True, True, 0.15),
        (1000.3, 1000.0, 1000.0, True, True, 0.0),
        (1004.9, 1004.5, 1000.0, False, True, 0.1),
        (990.0, 1000.0, 1000.0, False, True, 0.0),
    ],
)
def test_when_there_is_something_to_do(now, looked_at, counted_at, is_dirty, has_streams, wait_s):
    """The history each ten seconds; for pages, samples each five, a look each second, and one soon
    after a change. A clock that was set back is noticed.
    """
    found = next_look_s(
        now,
        looked_at=looked_at,
        counted_at=counted_at,
        poll_s=1.0,
        is_dirty=is_dirty,
        has_streams=has_streams,
    )
    assert found == pytest.approx(wait_s)


class Server:
    """What a feed is told of, by a clock that is moved; it is its functions' log, too.

    Attributes:
        age_s: seconds since the process began that has counted.
        may_read: unset: the log's disk does not answer.
    """

    def __init__(self) -> None:
        self.now = 1200.0
        self.looks = 0
        self.counts = 0
        self.states = {"f": "asleep", "g": "asleep"}
        self.counted = {"f": FunctionStatistics()}
        self.age_s = 0.0
        self.begins = 0
        self.table = StatisticsTable(time.monotonic())
        self.keeps_history = True
        self.lines: list[LogLine] = []
        self.may_read = threading.Event()
        self.may_read.set()

    def sources(self) -> ConsoleSources:
        """As a feed asks for them."""
        return ConsoleSources(
            kind="run",
            facts=ConsoleFacts("token", open_log=lambda _: self),
            index=self._index,
            told=ConsoleCounts(self._counts, self._news, self._begin, lambda: self.keeps_history),
            server=self._server,
            describe=lambda _: None,
            poll_s=lambda: 1.0,
        )

    async def _index(self) -> list[dict[str, Any]]:
        self.looks += 1
        await asyncio.sleep(0)
        entries = {name: {"name": name, "state": state} for name, state in self.states.items()}
        return [{**entry, "part_of": "", "reason": ""} for entry in entries.values()]

    async def _counts(self) -> Any:
        self.counts += 1
        counted = {name: one.to_list() for name, one in self.counted.items()}
        report = StatisticsReport(counted, self.age_s, is_whole=True)
        self.table.keep("p", report, time.monotonic())
        return ProcessCounts(self.table.all(), {}, self.table.earlier())

    def _begin(self) -> None:
        self.begins += 1
        self.table.begin(time.monotonic())

    async def _news(self, _: str) -> FunctionNews:
        return FunctionNews()

    async def _server(self) -> Any:
        return {"kind": "run", "machines": [], "lacks": []}

    def read_last(self) -> list[LogLine]:
        """See ``LogTail``."""
        return list(self.lines)

    def read_new(self) -> list[LogLine]:
        """See ``LogTail``."""
        assert self.may_read.wait(PATIENCE_S)
        return []


def fed(work: Callable[[Server, ConsoleFeed], Awaitable[None]]) -> None:
    """Does the work with a feed of a server."""

    async def main() -> None:
        server = Server()
        feed = ConsoleFeed(server.sources(), clock=lambda: server.now)
        try:
            await work(server, feed)
        finally:
            server.may_read.set()
            await feed.close()

    asyncio.run(main())


async def told(stream: PageStream, name: str) -> Any:
    """The next event of that name."""
    async with asyncio.timeout(PATIENCE_S):
        while (text := await stream.next()) is not None:
            if text != HEARTBEAT:
                event, data = text.decode().rstrip().split("\n")
                if event == f"event: {name}":
                    return orjson.loads(data.removeprefix("data: "))
    raise EOFError("the stream has ended")


def test_steps_of_a_history_are_told_with_the_next_ones_again():
    """One that ends between a page's details and its stream would be in neither."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        stream, found = await feed.open(None, "f"), []
        for calls in range(1, 6):
            server.now += SHORT_S
            server.counted = {"f": FunctionStatistics(succeeded=calls * calls)}
            feed.notify_changed()
            new = await told(stream, "history")
            found.append((new["from"], new["calls"]))
        assert found == [
            (1200.0, [1]),
            (1200.0, [1, 3]),
            (1200.0, [1, 3, 5]),
            (1210.0, [3, 5, 7]),
            (1220.0, [5, 7, 9]),
        ]

    fed(work)


def test_errors_are_those_of_the_last_minute_when_a_page_opens():
    """Also where none was open until now, as for `wakeful top --once`."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        server.now += SHORT_S
        server.counted = {"f": FunctionStatistics(failed=3, errors={"bad": 3})}
        feed.start()
        async with asyncio.timeout(PATIENCE_S):
            while not server.counts:
                await asyncio.sleep(0)
        stream = await feed.open(None, "")
        functions = (await told(stream, "functions"))["functions"]
        assert [one["errors"] for one in functions] == [{"bad": 3}, {}]

    fed(work)


def test_a_clock_that_is_set_back_begins_a_history_anew():
    """Pages are told so, and what comes then; before, nothing until the clock had been there."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        stream = await feed.open(None, "f")
        server.now += SHORT_S
        server.counted = {"f": FunctionStatistics(succeeded=9)}
        feed.notify_changed()
        assert (await told(stream, "history"))["calls"] == [9]
        server.now -= 500.0
        feed.notify_changed()
        assert (await told(stream, "closing")) == {"is_moving": True}
        feed.forget(stream)
        stream = await feed.open(None, "f")
        assert server.begins == 1
        server.now += SHORT_S
        server.counted = {"f": FunctionStatistics(succeeded=11)}
        feed.notify_changed()
        new = await told(stream, "history")
        assert (new["from"], new["calls"]) == (710.0, [2])

    fed(work)


def test_many_requests_are_few_looks():
    """One within a quarter of a second, unless something has changed since."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        await asyncio.gather(*(feed.look() for _ in range(20)))
        await feed.open(None, "f")
        assert server.looks == 1
        feed.notify_changed()
        await asyncio.gather(*(feed.look() for _ in range(20)))
        assert server.looks == 2
        server.now += LEAST_S
        await asyncio.gather(*(feed.look() for _ in range(20)))
        assert server.looks == 3

    fed(work)


def test_a_disk_that_does_not_answer_keeps_no_page_from_states():
    """The log of a function that another page shows is read beside."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        await feed.open(None, "f")
        stream = await feed.open(None, "")
        assert (await told(stream, "functions"))["all"]
        server.may_read.clear()
        for state in ("waking", "ready"):
            server.now += 2.0
            server.states["g"] = state
            feed.notify_changed()
            (entry,) = (await told(stream, "functions"))["functions"]
            assert (entry["name"], entry["state"]) == ("g", state)

    fed(work)


def test_a_key_is_told_of_no_other_function_in_a_log():
    """In no line of it."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        server.lines = [{"at": "", "kind": "ERR", "text": "g refused, and f goes on"}]
        stream = await feed.open(KeyView(frozenset({"f"}), "k"), "f")
        (line,) = (await told(stream, "log"))["lines"]
        assert line["text"] == "another function refused, and f goes on"

    fed(work)


def test_a_history_begins_soon_beside_processes_that_have_counted():
    """Without a page, and before its first step is over: what is called then is of it."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        server.age_s = 1e6
        server.counted = {"f": FunctionStatistics(succeeded=9)}
        server.now += FIRST_S
        feed.start()
        async with asyncio.timeout(PATIENCE_S):
            while not server.counts:
                await asyncio.sleep(0)
        stream = await feed.open(None, "f")
        assert server.counts == 1
        server.now += SHORT_S
        server.counted = {"f": FunctionStatistics(succeeded=11)}
        feed.notify_changed()
        assert (await told(stream, "history"))["calls"] == [2]

    fed(work)


def test_a_history_that_begins_again_begins_soon():
    """One that was kept here, and then elsewhere, and is again; without a page."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        async def wait_for(has_come: Callable[[], bool]) -> None:
            feed.notify_changed()
            async with asyncio.timeout(PATIENCE_S):
                while not has_come():
                    await asyncio.sleep(0)

        server.now += FIRST_S
        feed.start()
        await wait_for(lambda: server.counts == 1)
        server.keeps_history = False
        server.now += SHORT_S
        await wait_for(lambda: server.begins == 1)
        server.keeps_history = True
        server.now += FIRST_S
        await wait_for(lambda: server.counts == 2)

    fed(work)


def test_a_history_that_is_kept_elsewhere_has_begun_when_it_is_kept_here():
    """What was counted until then is older; it is asked for when a page opens, and not before."""

    async def work(server: Server, feed: ConsoleFeed) -> None:
        server.keeps_history, server.age_s = False, 1e6
        feed.start()
        server.counted = {"f": FunctionStatistics(succeeded=9)}
        server.now += SHORT_S
        async with asyncio.timeout(PATIENCE_S):
            while not server.begins:
                await asyncio.sleep(0)
        assert not server.counts
        server.now += FIRST_S
        stream = await feed.open(None, "f")
        async with asyncio.timeout(PATIENCE_S):
            while not server.counts:
                await asyncio.sleep(0)
        server.now += SHORT_S
        server.counted = {"f": FunctionStatistics(succeeded=11)}
        feed.notify_changed()
        assert (await told(stream, "history"))["calls"] == [2]

    fed(work)


def test_what_a_process_alone_counts_is_of_its_history(clock):
    """All of it; and of one that begins anew, as when the clock is set back, what is called then."""
    counters = ProcessCounters()
    console = LibraryConsole(ConsoleFacts("token"))
    console.attach(SimpleNamespace(counters=counters, entries=()))  # type: ignore[arg-type]

    def count_calls(calls: int) -> None:
        for _ in range(calls):
            counters.of("f").calls.record(200, "", 0.1, None)

    def later_calls() -> int:
        counts = asyncio.run(console.own.counts())
        earlier = counts.earlier.get("f", FunctionStatistics())
        return counts.counted["f"].succeeded - earlier.succeeded

    count_calls(3)
    clock.advance(60.0)
    assert later_calls() == 3
    count_calls(5)
    console.own.begin()
    count_calls(2)
    clock.advance(1.0)
    assert later_calls() == 2
