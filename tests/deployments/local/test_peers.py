"""What is told of counts of several processes of one machine: the others are sockets that answer,
or do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from deployments.local.peers import Peers
from runtime.http.catalogue.console.sources import ConsoleCounts, CountsReport
from runtime.http.catalogue.process_share import CatalogueSources
from runtime.system.telemetry.statistics import FunctionStatistics, StatisticsReport


class Process:
    """Another process.

    Attributes:
        calls: that it has counted of ``f``; None: it does not answer.
        age_s: seconds since it began to count.
        on_asked: called before it answers.
    """

    def __init__(self, calls: int | None, age_s: float) -> None:
        self.calls = calls
        self.age_s = age_s
        self.on_asked: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        """It answers at this port."""
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.on_asked()
        if self.calls is not None:
            counts = {"f": FunctionStatistics(succeeded=self.calls).to_list()}
            told = {"counts": counts, "age_s": self.age_s, "loaded": ["f"], "recent": {}}
            body = orjson.dumps(told)
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + body)
        writer.close()


class First:
    """The process that keeps the history of all.

    Attributes:
        calls: that it has counted of ``f``.
        peers, console: of it.
    """

    def __init__(self, calls: int) -> None:
        nothing: Any = None
        self.calls = calls
        own = CatalogueSources(
            *(nothing,) * 3,
            self._statistics,
            nothing,
            console=ConsoleCounts(nothing, nothing, nothing, report=self._report),
            report=lambda: self._report().statistics,
        )
        self.peers = Peers(0, own, Path(), nothing, nothing)
        console = self.peers.sources().console
        assert console is not None
        self.console = console

    async def _statistics(self, name: str) -> dict[str, FunctionStatistics]:
        counted = {"f": FunctionStatistics(succeeded=self.calls), "never": FunctionStatistics()}
        return {name: counted[name]} if name else counted

    def _report(self) -> CountsReport:
        counts = {"f": FunctionStatistics(succeeded=self.calls).to_list()}
        return CountsReport(StatisticsReport(counts, 60.0, is_whole=True), ["f"])

    async def later_calls(self) -> tuple[int, int]:
        """Calls that are not earlier, and the processes that have the function loaded."""
        told = await self.console.counts()
        earlier = told.earlier.get("f", FunctionStatistics())
        return told.counted["f"].succeeded - earlier.succeeded, told.awake["f"]


def test_what_a_process_counted_before_is_earlier_whenever_it_answers():
    """Such as one that was busy when the history began; what a new one has counted is not."""

    async def main() -> None:
        old, new, first = Process(None, 60.0), Process(5, 0.0), First(100)
        peers, console, later_calls = first.peers, first.console, first.later_calls
        async with old.served() as old_port, new.served() as new_port:
            peers.set_ports({0: 1, 1: old_port})
            assert await later_calls() == (0, 1)
            old.calls = 900
            assert await later_calls() == (0, 2)
            old.calls, first.calls = 902, 101
            assert await later_calls() == (3, 2)
            peers.set_ports({0: 1, 1: new_port})
            assert await later_calls() == (8, 2)
            console.begin()
            new.age_s = 60.0
            assert await later_calls() == (0, 2)
            new.calls = 6
            assert await later_calls() == (1, 2)
            peers.set_ports({})

    asyncio.run(main())


def test_what_a_process_answers_that_is_replaced_meanwhile_is_its_own():
    """And not of the one in its place, which counts from nothing."""

    async def main() -> None:
        old, new, first = Process(10, 0.0), Process(5, 0.0), First(0)
        async with old.served() as old_port, new.served() as new_port:
            first.peers.set_ports({1: old_port})
            assert await first.later_calls() == (10, 2)
            old.calls = 12
            old.on_asked = lambda: first.peers.set_ports({1: new_port})
            assert await first.later_calls() == (12, 2)
            assert await first.later_calls() == (12 + 5, 2)
            first.peers.set_ports({})

    asyncio.run(main())


def test_statistics_are_those_of_the_console_and_do_not_fall():
    """While a process is busy, and when it has ended; what a function that others have not called
    was called is nothing.
    """

    async def main() -> None:
        other, new, first = Process(900, 60.0), Process(5, 1.0), First(100)

        async def calls() -> tuple[int, int]:
            found = (await first.peers.statistics("f"))["f"].succeeded
            shown = (await first.console.counts()).counted["f"].succeeded
            return found, shown

        async with other.served() as port, new.served() as new_port:
            first.peers.set_ports({0: 1, 1: port})
            assert await calls() == (1000, 1000)
            other.calls, first.calls = None, 101
            assert await calls() == (1001, 1001)
            first.peers.set_ports({0: 1, 1: new_port})
            assert await calls() == (1006, 1006)
            found = await first.peers.statistics("")
            assert {name: one.succeeded for name, one in found.items()} == {"f": 1006, "never": 0}
            first.peers.set_ports({})

    asyncio.run(main())
