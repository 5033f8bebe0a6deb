"""The console of a process with a library of functions: ``wakeful run``. Of several such processes
each has one, and the one that HAProxy leads pages to tells of all (``CatalogueSources``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from runtime.http.catalogue.console.changes import describe_change
from runtime.http.catalogue.console.routes import Console
from runtime.http.catalogue.console.shapes import Decision, ShownServer
from runtime.http.catalogue.console.sources import (
    ConsoleCounts,
    ConsoleFacts,
    ConsoleSources,
    CountsReport,
    DeclaredDetails,
    FunctionNews,
    ProcessCounts,
    one_machine,
)
from runtime.http.catalogue.process_share import CatalogueSources
from runtime.library.library import FunctionLibrary
from runtime.system.cores import usable_cores
from runtime.system.telemetry.statistics import StatisticsReport, StatisticsTable

MOST_DECISIONS: Final = 50
"""Changes of a function's state that are remembered, as many as a cluster remembers decisions."""

ALONE_POLL_S: Final = 1.0
"""The library says when a state changes (``on_change``); this is for what changes by itself."""

SHARED_POLL_S: Final = 0.4
"""Other processes are asked."""


class StateLog:
    """What has become of functions in one process, in words. Used on the event loop.

    Args:
        library: of the process.

    Mutable state: ``_states`` (the last one of each function that had another than asleep),
    ``_decisions``.
    """

    def __init__(self, library: FunctionLibrary) -> None:
        self._library = library
        self._states: dict[str, tuple[str, str]] = {}
        self._decisions: dict[str, deque[Decision]] = {}

    def on_change(self, name: str) -> None:
        """A function's state may have changed."""
        entry = self._library.entries.get(name)
        if entry is None:
            self._states.pop(name, None)
            self._decisions.pop(name, None)
            return
        state = entry.state
        before, reason = self._states.get(name, ("asleep", ""))
        if (state.state, state.reason) == (before, reason):
            return
        self._states[name] = state.state, state.reason
        if state.state == before and not state.reason:
            return
        why = describe_change(before, state.state, state.reason, state.load_s)
        kept = self._decisions.setdefault(name, deque(maxlen=MOST_DECISIONS))
        kept.append({"at": round(time.time(), 3), "why": why})

    def of(self, name: str) -> Sequence[Decision]:
        """Return what is remembered of a function, oldest first."""
        return list(self._decisions.get(name, ()))


class LibraryConsole:
    """The console of one library.

    Args:
        facts: what the process that starts the server knows.
        processes: that share the machine, and the functions.

    Attributes:
        console: from ``join`` on; None before.

    Mutable state: this; ``_library``, ``_table`` (of what this process has counted, for a history
    that begins anew) and ``_log``, from ``attach`` on.
    """

    def __init__(self, facts: ConsoleFacts, processes: int = 1) -> None:
        self._facts = facts
        self._processes = processes
        self._library: FunctionLibrary
        self._table: StatisticsTable
        self._log: StateLog | None = None
        self.console: Console | None = None

    def attach(self, library: FunctionLibrary) -> None:
        """What it shows is in this library; called before functions are loaded."""
        self._library = library
        self._table = StatisticsTable(library.counters.began_at)
        self._log = StateLog(library)

    def on_change(self, name: str) -> None:
        """As of ``FunctionLibrary``."""
        if self._log is not None:
            self._log.on_change(name)
        if self.console is not None:
            self.console.feed.notify_changed()

    @property
    def own(self) -> ConsoleCounts:
        """What this process says."""
        return ConsoleCounts(self._counts, self._news, self._begin, report=self._report)

    async def _news(self, name: str) -> FunctionNews:
        decisions = () if self._log is None else self._log.of(name)
        return FunctionNews(decisions, self._library.failures.of(name))

    async def _counts(self) -> ProcessCounts:
        awake = dict.fromkeys(self._keep().loaded, 1)
        return ProcessCounts(self._table.all(), awake, self._table.earlier())

    def _begin(self) -> None:
        self._table.begin(time.monotonic())
        self._keep()  # it is known from here on

    def _keep(self) -> CountsReport:
        report = self._report()
        self._table.keep("", report.statistics, time.monotonic())
        return report

    def _report(self) -> CountsReport:
        return CountsReport(StatisticsReport.of(self._library.counters), self._loaded())

    def _loaded(self) -> list[str]:
        return [entry.name for entry in self._library.entries if entry.function is not None]

    def join(self, told: CatalogueSources) -> Console:
        """Return the console.

        Args:
            told: of all processes, with ``console``.
        """
        assert told.console is not None
        sources = ConsoleSources(
            kind="run",
            facts=self._facts,
            index=told.index,
            told=told.console,
            server=self._server,
            describe=self._describe,
            poll_s=lambda: ALONE_POLL_S if self._processes == 1 else SHARED_POLL_S,
        )
        self.console = Console(sources)
        return self.console

    def start(self) -> None:
        """Keep the history from now on; ``close`` ends it."""
        if self.console is not None:
            self.console.feed.start()

    def end_streams(self) -> None:
        """The end of the process begins."""
        if self.console is not None:
            self.console.feed.end_streams()

    async def close(self) -> None:
        """End all of it. Idempotent."""
        if self.console is not None:
            await self.console.feed.close()

    def _describe(self, name: str) -> DeclaredDetails | None:
        entry = self._library.entries.get(name)
        if entry is None:
            return None
        describe = entry.declared.describe
        interface = None if describe is None else describe()
        return DeclaredDetails(entry.spec, interface, self._facts.explain(name))

    async def _server(self) -> ShownServer:
        library, budget = self._library, self._library.budget_bytes
        machine = one_machine(
            used_bytes=library.used_bytes() if self._processes == 1 else None,
            budget_bytes=None if budget is None else budget * self._processes,
            cpus=usable_cores(),
            processes=self._processes,
        )
        return {"kind": "run", "machines": [machine], "lacks": []}
