"""Where the console has what it shows: from one process, from several on one machine, or from a
cluster. All of it is asked for on one event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from runtime.http.catalogue.console.shapes import Decision, LogLine, Machine, ShownServer
from runtime.system.telemetry.recent_failures import RecentFailure
from runtime.system.telemetry.statistics import FunctionStatistics, StatisticsReport

if TYPE_CHECKING:
    from runtime.declaration.function_spec import FunctionSpec
    from runtime.graph.description.explained import ExplainedFunction
    from runtime.types.json_schemas import InterfaceDescription


@dataclass(frozen=True, slots=True)
class DeclaredDetails:
    """A function as it is declared.

    Attributes:
        interface: what it takes and answers; None: it is not known.
        explained: its graph, and where its settings come from; None: likewise.
    """

    spec: FunctionSpec
    interface: InterfaceDescription | None = None
    explained: ExplainedFunction | None = None


class LogTail(Protocol):
    """The log of one function. Blocking; used by one thread at a time."""

    def read_last(self) -> list[LogLine]:
        """Return its last lines."""

    def read_new(self) -> list[LogLine]:
        """Return the lines that have come since the last question."""


@dataclass(frozen=True, slots=True)
class FunctionNews:
    """What is asked of one function while a page shows it.

    Attributes:
        decisions: why it is where it is, oldest first.
        failures: its last calls that were answered with an error, likewise.
    """

    decisions: Sequence[Decision] = ()
    failures: Sequence[RecentFailure] = ()


@dataclass(frozen=True, slots=True)
class ConsoleFacts:
    """What the process that starts a server knows, and its engine does not.

    Attributes:
        token: of the page; the same in all processes that answer one address.
        explain: a function's graph and where its settings come from, by its name; None: it is not
            known.
        open_log: opens a function's log.
        no_log: why there is none, in words; empty: there is one.
    """

    token: str
    explain: Callable[[str], ExplainedFunction | None] = lambda name: None
    open_log: Callable[[str], LogTail] | None = None
    no_log: str = "what functions write is not kept here."


@dataclass(frozen=True, slots=True)
class ProcessCounts:
    """What all processes have counted together.

    Attributes:
        counted: of functions that have counted anything.
        awake: processes that have a function loaded, of those that any has.
        earlier: what of ``counted`` is earlier than the history. A process may tell it late: it did
            not answer, or tells most often only what was called lately.
    """

    counted: Mapping[str, FunctionStatistics]
    awake: Mapping[str, int]
    earlier: Mapping[str, FunctionStatistics] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CountsReport:
    """What one of several processes reports to the one that adds it up.

    Attributes:
        statistics: of all functions that have counted anything.
        loaded: the functions that it has loaded.
    """

    statistics: StatisticsReport
    loaded: Sequence[str]


@dataclass(frozen=True, slots=True)
class ConsoleCounts:
    """What is asked of all processes that serve.

    Attributes:
        counts: now.
        news: of one function.
        begin: a history begins anew: what was counted until now is ``earlier``.
        keeps_history: whether this is the process that keeps it, also while no page is open.
        report: of one process: what it reports to another that adds it up; None: these are several.
    """

    counts: Callable[[], Awaitable[ProcessCounts]]
    news: Callable[[str], Awaitable[FunctionNews]]
    begin: Callable[[], None]
    keeps_history: Callable[[], bool] = lambda: True
    report: Callable[[], CountsReport] | None = None


@dataclass(frozen=True, slots=True)
class ConsoleSources:
    """What is shown.

    Attributes:
        kind: as of ``shapes.PageSession``.
        facts: as of ``ConsoleFacts``.
        index: every function, as of ``runtime.http.catalogue.app.Index``.
        told: as of ``ConsoleCounts``.
        server: the machines.
        describe: a function as declared, by its name; None: there is none.
        poll_s: seconds between two looks while pages are open and nothing says that something has
            changed (``ConsoleFeed.notify_changed``).
    """

    kind: Literal["run", "up"]
    facts: ConsoleFacts
    index: Callable[[], Awaitable[list[dict[str, Any]]]]
    told: ConsoleCounts
    server: Callable[[], Awaitable[ShownServer]]
    describe: Callable[[str], DeclaredDetails | None]
    poll_s: Callable[[], float]


def one_machine(
    *, used_bytes: int | None, budget_bytes: int | None, cpus: float, processes: int
) -> Machine:
    """Return the machine of ``wakeful run``."""
    return {
        "id": "this machine",
        "address": "",
        "used_bytes": used_bytes,
        "budget_bytes": budget_bytes,
        "cpus": cpus,
        "processes": processes,
        "gpus": [],
    }
