"""One of several processes that serve the same functions on one machine (``wakeful run
--workers``): what it has of the machine, and the catalogue's routes, which tell of all of them
whichever is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.batching.health.worker_threads import slots_of
from runtime.http.catalogue.app import Index
from runtime.http.catalogue.console.sources import ConsoleCounts
from runtime.library.capture.control import CaptureControl
from runtime.library.library import FunctionLibrary
from runtime.library.residency import FunctionRepository
from runtime.protocol.json_text import dumps
from runtime.system.crash import CrashRecorder
from runtime.system.telemetry.recent import Traffic
from runtime.system.telemetry.statistics import ReadStatistics, StatisticsReport


@dataclass(frozen=True, slots=True)
class CatalogueSources:
    """What is told of functions, and done with them; as of ``runtime.http.catalogue.app.catalogue``
    and ``runtime.http.library_handler.LibraryHandler``; and the ``recent`` calls of one.
    ``captures``: None where calls cannot be recorded; ``console``: None where there is none;
    ``report``: of one process, what it has counted; None: these are several.
    """

    index: Index
    metrics: Callable[[], Awaitable[bytes]]
    repository: FunctionRepository
    statistics: ReadStatistics
    recent: Callable[[str], Traffic]
    captures: CaptureControl | None = None
    console: ConsoleCounts | None = None
    report: Callable[[], StatisticsReport] | None = None


@dataclass(frozen=True, slots=True)
class ProcessShare:
    """The share of one process.

    Attributes:
        processes: that share the machine.
        crash_folder: where each records what it runs, for the others.
        own_prefix: of the routes that tell of this process alone, for the others.
        join: called once, on the event loop, before it serves: takes the library and what it tells
            of this process, and returns what is told of all.
        on_leaving: called when the end of this process begins. It refuses nothing: it accepts no
            more connections, and the others take what comes.
    """

    processes: int
    crash_folder: Path
    own_prefix: str
    join: Callable[[FunctionLibrary, CatalogueSources], CatalogueSources]
    on_leaving: Callable[[], None]

    def make_recorder(self, threads: int) -> CrashRecorder:
        """Return the record of what this process runs, which the others read when it has died.

        Args:
            threads: that run stages, without the spare one.
        """
        return CrashRecorder(self.crash_folder, slots=slots_of(threads, spare=1))


COUNTS: Final = "/counts"
"""Below the prefix of a process's own routes: what it has counted of functions that have counted
anything, statistics and recent calls, as plain data, and seconds since it began to.
"""

CONSOLE_COUNTS: Final = "/console/counts"
"""Likewise, without the calls, and with the functions that it has loaded."""

CONSOLE_NEWS: Final = "/console/news/"
"""Likewise, before the name of a function: what has become of it here, and its last errors."""


class OwnRoutes:
    """An ASGI application that tells of this process alone below a prefix, and another one for
    everything else.

    Args:
        own: what it tells.
        below: the catalogue's routes of it.
    """

    def __init__(self, prefix: str, own: CatalogueSources, below: ASGIApp, others: ASGIApp) -> None:
        self._prefix = prefix
        self._own = own
        self._below = below
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # as it travels: what stands in front compares it so, and refuses it
        path = scope["raw_path"].decode("latin-1")
        if path.startswith(f"{self._prefix}/"):
            rest = path.removeprefix(self._prefix)
            if (data := await self._told_at(rest)) is not None:
                await Response(dumps(data), media_type="application/json")(scope, receive, send)
                return
            scope = {**scope, "path": rest, "raw_path": rest.encode()}
            await self._below(scope, receive, send)
        else:
            await self._others(scope, receive, send)

    async def _told_at(self, path: str) -> dict[str, Any] | None:
        """What is for the other processes; None: it is one of the catalogue's routes."""
        console = self._own.console
        if self._own.report is not None and path == COUNTS:
            told = self._own.report()
            recent = {name: self._own.recent(name).to_wire() for name in told.functions}
            return {"counts": told.functions, "age_s": told.age_s, "recent": recent}
        if console is not None and console.report is not None and path == CONSOLE_COUNTS:
            own = console.report()
            counts, age_s = own.statistics.functions, own.statistics.age_s
            return {"counts": counts, "age_s": age_s, "loaded": own.loaded}
        if console is not None and path.startswith(CONSOLE_NEWS):
            news = await console.news(unquote(path.removeprefix(CONSOLE_NEWS)))
            failures = [one.to_list() for one in news.failures]
            return {"decisions": list(news.decisions), "failures": failures}
        return None
