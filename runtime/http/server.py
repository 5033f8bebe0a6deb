"""``wakeful run``: serves every function of a file and the catalogue on one port of this process,
without a cluster, until SIGINT or SIGTERM; how it ends: ``runtime.http.transport.draining_server``.
The functions sleep and wake as in the shared host.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

import uvloop
from starlette.types import ASGIApp

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import DeclaredSpec, FunctionSpec
from runtime.declaration.http_section import CorsSpec
from runtime.declaration.sections import worker_count
from runtime.errors import LoadError
from runtime.graph.assembly import Assembly
from runtime.graph.description.interface_schemas import describe_interface
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.app import catalogue
from runtime.http.catalogue.console.library_console import LibraryConsole
from runtime.http.catalogue.console.routes import Console
from runtime.http.catalogue.console.sources import ConsoleFacts
from runtime.http.catalogue.process_share import CatalogueSources, OwnRoutes, ProcessShare
from runtime.http.catalogue.task_routes.handler import (
    LibraryTasks,
    TaskRoutes,
)
from runtime.http.cors import CorsPolicy, ForeignPages
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.draining_server import DrainingServer, serve_app
from runtime.http.transport.edge import EdgeGuard, GuardedHandler
from runtime.library.capture.captures import CapturedFunction, Captures, FileStore
from runtime.library.capture.control import CaptureControl, LocalCaptures
from runtime.library.library import DeclaredFunction, EntryState, FunctionLibrary
from runtime.library.residency import Residency
from runtime.settings import Settings, budget_bytes
from runtime.system.cores import usable_cores
from runtime.system.crash import CrashRecorder, RowQuarantine
from runtime.system.memory import freeze
from runtime.system.telemetry.exports import Exports
from runtime.system.telemetry.failed_calls import FailedCalls
from runtime.system.telemetry.statistics import FunctionStatistics, StatisticsReport

logger = logging.getLogger("wakeful.load")

HUNG: Final = 75
"""Exit status of a process that has ended because stages do not return (``EX_TEMPFAIL``): Docker's
`--restart`, systemd's `Restart=on-failure` and `wakeful run --workers` start it again."""

CLOSE_FUNCTIONS_S: Final = 0.5
"""Longest wait for functions to close once every call is answered, and then for the threads."""


def _do_nothing(*_: object) -> None:
    """In the place of what is told of changes, and of the end."""


class HangHistory(NamedTuple):
    """What is known of functions whose stages did not return in processes before this one.

    Attributes:
        quarantined: why functions are not to be served, by name.
        on_hung: called with the label of a function that this process ends for, in any thread.
    """

    quarantined: Mapping[str, str] = MappingProxyType({})
    on_hung: Callable[[str], object] = str


NO_HISTORY: Final = HangHistory()
"""Nothing is known, and nothing is kept."""


def serve(
    functions: Sequence[FunctionSpec],
    settings: Settings,
    sockets: Sequence[socket.socket],
    on_loaded: Callable[[str, EntryState], None],
    *,
    on_serving: Callable[[DrainingServer], None],
    required: Collection[str] | None = None,
    assemblies: Mapping[str, Assembly] = MappingProxyType({}),
    cors: CorsSpec | None = None,
    share: ProcessShare | None = None,
    hangs: HangHistory = NO_HISTORY,
    guard: EdgeGuard | None = None,
    console: ConsoleFacts | None = None,
    has_front: bool = False,
) -> int:
    """Load every function there is memory for, serve until SIGINT, SIGTERM or SIGHUP, drain, and
    return the exit status: 0, or ``HUNG``.

    Args:
        sockets: bound; they listen once functions are loaded, and are closed at the end.
        on_loaded: called with the name and the state of each function.
        on_serving: called on the event loop, once the sockets listen.
        required: the functions that are loaded before that; all others are loaded afterwards. None:
            every function is, and one that does not load is served as failed.
        assemblies: as of ``make_library``.
        cors: the pages of other origins that may call; None: there are none.
        share: of one of several processes; None: it is the only one.
        hangs: what is known of functions that made processes end.
        guard: knows what came through HAProxy, where keys are on; None: everything is answered.
        console: what the console shows beside; None: there is none.
        has_front: HAProxy stands before it, and answers pages of other origins; of several
            processes it always does.

    Raises:
        LoadError: no function could be loaded, or not every required one, or the access log cannot
            be written.
    """
    return uvloop.run(
        _serve(
            functions,
            settings,
            sockets,
            on_loaded,
            on_serving,
            required,
            assemblies,
            cors,
            share,
            hangs,
            guard,
            console,
            has_front,
        )
    )


async def _serve(
    functions: Sequence[FunctionSpec],
    settings: Settings,
    sockets: Sequence[socket.socket],
    on_loaded: Callable[[str, EntryState], None],
    on_serving: Callable[[DrainingServer], None],
    required: Collection[str] | None,
    assemblies: Mapping[str, Assembly],
    cors: CorsSpec | None,
    share: ProcessShare | None,
    hangs: HangHistory,
    guard: EdgeGuard | None,
    facts: ConsoleFacts | None,
    has_front: bool,
) -> int:
    processes = 1 if share is None else share.processes
    threads = thread_count(functions, processes)
    recorder = None if share is None else share.make_recorder(threads)
    console = None if facts is None else LibraryConsole(facts, processes)
    library, workers = make_library(
        functions,
        settings,
        assemblies,
        processes=processes,
        recorder=recorder,
        on_change=_do_nothing if console is None else console.on_change,
    )
    if console is not None:
        console.attach(library)
    library.set_quarantined(hangs.quarantined)
    for name, reason in hangs.quarantined.items():
        logger.warning("%s is not served: %s", name, reason)
    tasks = [asyncio.create_task(library.run_idle_unloader(), name="unload idle functions")]
    residency = Residency(library)
    status, exports, failed_calls = 1, None, FailedCalls()
    library.counters.tell_failed(failed_calls)
    captures = make_captures(library, settings)
    try:
        exports = Exports(library.counters, settings, f"run-{os.getpid()}")
        await library.load_all(on_loaded, required, will_retry=False)
        _refuse_to_serve(library, required, hangs.quarantined)
        freeze()
        if required is not None:
            rest = library.load_all(on_loaded, library.entries.specs.keys() - required)
            tasks.append(asyncio.create_task(rest, name="load what has not changed"))
        drain_s = drain_limit_s(settings, functions)
        tasks.append(asyncio.create_task(residency.run(), name="keep functions awake"))
        control = LocalCaptures(captures, library.counters, settings.captures)
        app = library_app(
            library, residency, cors, share, control, guard, console, has_front=has_front
        )
        on_leaving = None if share is None else share.on_leaving
        on_end: Callable[[], None] = _do_nothing
        if console is not None:
            console.start()
            on_end = console.end_streams
        hung = _EndWhenHung(workers, on_serving, hangs.on_hung)
        await serve_app(app, sockets, drain_s, hung.on_serving, on_leaving, on_end)
        status = HUNG if hung.reason else 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if console is not None:
            await console.close()
        failed_calls.close()
        await asyncio.to_thread(captures.close)
        if exports is not None:
            await asyncio.to_thread(exports.close)
        await _close(library, workers, status)
        if recorder is not None:
            recorder.close()
    return status


class _EndWhenHung:
    """Ends a process whose functions hang (``runtime.batching.health``).

    Args:
        on_serving: called as of ``serve``.
        on_hung: as of ``HangHistory``.

    Mutable state, on the event loop: ``reason``, empty while none hangs.
    """

    def __init__(
        self,
        workers: Workers,
        on_serving: Callable[[DrainingServer], None],
        on_hung: Callable[[str], object],
    ) -> None:
        self.reason = ""
        self._on_hung = on_hung
        self._workers = workers
        self._on_serving = on_serving

    def on_serving(self, server: DrainingServer) -> None:
        """The server listens: from now on it ends if functions hang."""
        loop = asyncio.get_running_loop()

        def drain(reason: str) -> None:
            self.reason = reason
            server.drain()

        def on_hang(label: str, reason: str) -> None:
            logger.error("%s %s", reason, _ENDS)
            self._on_hung(label)
            loop.call_soon_threadsafe(drain, reason)

        self._workers.watchdog.on_hang = on_hang
        self._workers.watchdog.on_loop_hung = self._end_now
        self._on_serving(server)

    def _end_now(self, label: str, reason: str) -> None:
        """In the watchdog's thread: nothing can be answered any more."""
        logger.error(
            "%s, and every call has had its time. The process ends with status %d.", reason, HUNG
        )
        self._on_hung(label)
        _exit(HUNG)


_ENDS: Final = (
    f"The process answers what it has taken, and ends with status {HUNG}: its supervisor is to"
    " start it again."
)


def drain_limit_s(settings: Settings, functions: Sequence[DeclaredSpec]) -> float:
    """Return the seconds that calls under way have once the end has begun."""
    longest_s = max((spec.limits.request_timeout_s for spec in functions), default=0.0)
    return min(settings.drain_s, longest_s)


def thread_count(functions: Sequence[FunctionSpec], processes: int) -> int:
    """Return how many threads run stages in one of so many processes: of all together as many as
    the machine has cores, or as the function that declares most does.
    """
    most = max((worker_count(spec.resources.num_cpus) for spec in functions), default=1)
    return max(1, math.ceil(max(usable_cores(), most) / processes))


def make_library(
    functions: Sequence[FunctionSpec],
    settings: Settings,
    assemblies: Mapping[str, Assembly] = MappingProxyType({}),
    *,
    processes: int = 1,
    recorder: CrashRecorder | None = None,
    on_change: Callable[[str], None] = _do_nothing,
) -> tuple[FunctionLibrary, Workers]:
    """Return the library of a process that serves these functions, and its threads; the caller
    closes both.

    Args:
        assemblies: of the functions by name, from which OpenAPI describes them.
        processes: that share the machine, and the memory.
        recorder: records what its threads run; None: nothing does.
        on_change: as of ``FunctionLibrary``.
    """
    workers = Workers(thread_count(functions, processes), spare=1, crash_recorder=recorder)
    declared = [
        DeclaredFunction(
            spec,
            is_pinned=spec.autoscaling.min_replicas > 0,
            describe=functools.partial(describe_interface, assemblies[spec.name])
            if spec.name in assemblies
            else None,
        )
        for spec in functions
    ]
    library = FunctionLibrary(
        declared,
        settings,
        workers=workers,
        budget_bytes=budget_bytes(settings) // processes,
        crash_recorder=recorder,
        on_change=on_change,
    )
    return library, workers


def _refuse_to_serve(
    library: FunctionLibrary, required: Collection[str] | None, quarantined: Collection[str]
) -> None:
    """Raise what is wrong with the functions that were to be loaded. Where those are quarantined,
    the process serves what says so: its end would only have it started again.
    """
    if required is None:
        wanted = [entry for entry in library.entries if entry.name not in quarantined]
        if wanted and not any(entry.function for entry in wanted):
            raise LoadError("no function could be loaded; the reasons stand above.")
    failed = [entry.name for entry in library.entries if entry.state.state == "failed"]
    if required is not None and (missing := sorted({*failed} & {*required})):
        raise LoadError(f"{', '.join(missing)} did not load; the reason stands above.")
    for name in failed:
        if name not in quarantined:
            logger.warning("%s is served as failed; its next call tries to load it again.", name)


async def _close(library: FunctionLibrary, workers: Workers, status: int) -> None:
    """A stage that does not return, of a call whose time was over, holds its thread for ever, and
    so does one that is being constructed: the process ends without them.
    """
    await _end_within(CLOSE_FUNCTIONS_S, library.close(), status)
    await asyncio.to_thread(workers.close, CLOSE_FUNCTIONS_S)
    # the threads of loads; the end of the loop would wait for them without a bound
    threads = asyncio.get_running_loop().shutdown_default_executor()
    await _end_within(CLOSE_FUNCTIONS_S, threads, status)


async def _end_within(timeout_s: float, closing: Coroutine[Any, Any, None], status: int) -> None:
    """Wait for it, and end the process where it takes longer."""
    _, pending = await asyncio.wait((asyncio.ensure_future(closing),), timeout=timeout_s)
    if pending:
        _exit(status)


def _exit(status: int) -> NoReturn:
    """End the process now, with what it has printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed by its reader
            stream.flush()
    os._exit(status)


def make_captures(library: FunctionLibrary, settings: Settings) -> Captures:
    """Return what records calls of a library's functions in files; the caller closes it."""
    counters = library.counters
    store = FileStore(settings.captures, counters)
    captures = Captures(counters, store, settings.secrets)
    captures.declare(
        CapturedFunction.of(entry.spec)
        for entry in library.entries
        if not entry.spec.deployed.part_of
    )
    return captures


def library_app(
    library: FunctionLibrary,
    residency: Residency | None = None,
    cors: CorsSpec | None = None,
    share: ProcessShare | None = None,
    captures: CaptureControl | None = None,
    guard: EdgeGuard | None = None,
    console: LibraryConsole | None = None,
    *,
    has_front: bool = False,
) -> AsgiApp:
    """Return the application of all functions of a library, of the routes by task, and of the
    catalogue.

    Args:
        residency: of the library, run by the caller; None: one whose hours are not looked at.
        cors, share, guard, has_front: as of ``serve``.
        captures: has calls recorded; None: none are.
        console: of the library; None: there is none.
    """
    tasks = TaskRoutes(LibraryTasks(library))
    quarantine = None if share is None else RowQuarantine(share.crash_folder)

    async def read_statistics(name: str) -> Mapping[str, FunctionStatistics]:
        return await told.statistics(name)

    handler = LibraryHandler(
        library,
        behind_haproxy=False,
        others=tasks,
        row_quarantine=quarantine,
        statistics=None if share is None else read_statistics,
    )

    async def write_metrics() -> bytes:
        return library.metrics.text()

    def routes_of(told: CatalogueSources, shown: Console | None = None) -> ASGIApp:
        return catalogue(
            told.index,
            lambda: library.entries.public_prefixes,
            metrics=told.metrics,
            repository=told.repository,
            describe=handler.describe,
            captures=told.captures,
            console=shown,
        )

    own = told = CatalogueSources(
        handler.index,
        write_metrics,
        residency or Residency(library),
        handler.read_statistics,
        library.recent_calls,
        captures,
        None if console is None else console.own,
        lambda: StatisticsReport.of(library.counters),
    )
    if share is not None:
        told = share.join(library, own)
    routes = routes_of(told, None if console is None else console.join(told))
    if share is not None:
        routes = OwnRoutes(share.own_prefix, own, routes_of(own), routes)
    pages: dict[str, Any] = {}
    if not has_front and share is None:
        pages = {
            "cors": None if cors is None else CorsPolicy(cors),
            "foreign": ForeignPages(cors),
        }
    answering = handler if guard is None else GuardedHandler(handler, guard, library.counters.keys)
    return AsgiApp(answering, routes, counters=library.counters, **pages)
