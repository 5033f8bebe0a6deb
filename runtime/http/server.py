"""``wakeful run``: serves every function of a file and the catalogue on one port of this process,
without a cluster, until SIGINT or SIGTERM. The functions sleep and wake as in the shared host.

The end:

1. From the signal on, readiness is 503 and new calls are refused (``draining``), while the port
   stays open: a load balancer learns of the end by a response. Requests that have begun are
   answered, and so are those that uvicorn has read behind them; the last response of each
   connection says ``Connection: close``.
2. When all is answered, and idle connections have had ``LINGER_S`` to bring requests that were
   under way, the port closes. A request that travels while its connection is closed would be lost,
   so it gets a response where there is time.
3. What is not answered within the drain time is refused too. A second signal ends the process at
   once.

Another process may take over instead (``wakeful run --reload``), with the same listening sockets:
then nothing is refused. This one accepts no connection more, answers what comes on those it has,
the last response of each saying ``Connection: close``, and ends by the same steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import uvicorn
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.http_section import CorsSpec
from runtime.declaration.sections import worker_count
from runtime.errors import Draining, LoadError
from runtime.graph.assembly import Assembly
from runtime.graph.interface_schemas import describe_interface
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.app import catalogue
from runtime.http.catalogue.process_share import CatalogueSources, MountedRoutes, ProcessShare
from runtime.http.catalogue.task_routes.handler import (
    PREFIX,
    LibraryTasks,
    TaskRoutes,
    task_error_response,
)
from runtime.http.cors import CorsPolicy
from runtime.http.exchange import Request, Response
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.hot_connection import HotConnection
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, EntryState, FunctionLibrary
from runtime.library.residency import Residency
from runtime.settings import Settings, budget_bytes
from runtime.system.cores import usable_cores
from runtime.system.crash import CrashRecorder, RowQuarantine
from runtime.system.memory import freeze
from runtime.system.telemetry.exports import Exports

if TYPE_CHECKING:
    from runtime.http.transport.protocol import RequestProtocol

    Connection = RequestProtocol | HotConnection

LINGER_S: Final = 0.5
"""How long idle connections are kept after the signal; without connections the server does not
wait.
"""

POLL_S: Final = 0.05

CLOSE_TIMEOUT_S: Final = 0.5
"""Longest wait for connections to close once the drain time is over."""

INTERRUPTED: Final = 130
"""Exit status after a second signal."""

DISCARD_TIMEOUT_S: Final = 1.0
"""How long the body of a refused request is read: a socket that is closed with unread bytes in it
is reset, and the response is lost with it.
"""

_CLOSE: Final = (b"connection", b"close")

CLOSE_FUNCTIONS_S: Final = 0.5
"""Longest wait for functions to close once every call is answered, and then for the threads."""


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
) -> None:
    """Load every function there is memory for, serve until SIGINT, SIGTERM or SIGHUP, drain and
    return.

    Args:
        sockets: bound; they listen once functions are loaded, and are closed at the end.
        on_loaded: called with the name and the state of each function.
        on_serving: called on the event loop, once the sockets listen.
        required: the functions that are loaded before that; all others are loaded afterwards. None:
            every function is, and one that does not load is served as failed.
        assemblies: as of ``make_library``.
        cors: the pages of other origins that may call; None: there are none.
        share: of one of several processes; None: it is the only one.

    Raises:
        LoadError: no function could be loaded, or not every required one, or the access log cannot
            be written.
    """
    uvloop.run(
        _serve(
            functions, settings, sockets, on_loaded, on_serving, required, assemblies, cors, share
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
) -> None:
    processes = 1 if share is None else share.processes
    threads = thread_count(functions, processes)
    recorder = None if share is None else share.make_recorder(threads)
    library, workers = make_library(
        functions, settings, assemblies, processes=processes, recorder=recorder
    )
    tasks = [asyncio.create_task(library.run_idle_unloader(), name="unload idle functions")]
    residency = Residency(library)
    status, exports = 1, None
    try:
        exports = Exports(library.counters, settings, f"run-{os.getpid()}")
        await library.load_all(on_loaded, required)
        _refuse_to_serve(library, required)
        freeze()
        if required is not None:
            rest = library.load_all(on_loaded, library.specs.keys() - required)
            tasks.append(asyncio.create_task(rest, name="load what has not changed"))
        drain_s = drain_limit_s(settings, functions)
        tasks.append(asyncio.create_task(residency.run(), name="keep functions awake"))
        app = library_app(library, residency, cors, share)
        await serve_app(app, sockets, drain_s, on_serving, share)
        status = 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if exports is not None:
            await asyncio.to_thread(exports.close)
        await _close(library, workers, status)
        if recorder is not None:
            recorder.close()


def drain_limit_s(settings: Settings, functions: Sequence[FunctionSpec]) -> float:
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
) -> tuple[FunctionLibrary, Workers]:
    """Return the library of a process that serves these functions, and its threads; the caller
    closes both.

    Args:
        assemblies: of the functions by name, from which OpenAPI describes them.
        processes: that share the machine, and the memory.
        recorder: records what its threads run; None: nothing does.
    """
    workers = Workers(thread_count(functions, processes), spare=1, witness=recorder)
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
    )
    return library, workers


def _refuse_to_serve(library: FunctionLibrary, required: Collection[str] | None) -> None:
    """Raise what is wrong with the functions that were to be loaded."""
    if required is None:
        if library.specs and not any(library.loaded(name) for name in library.specs):
            raise LoadError("no function could be loaded; the reasons stand above.")
    elif failed := [name for name in required if library.state(name).state == "failed"]:
        raise LoadError(f"{', '.join(sorted(failed))} did not load; the reason stands above.")


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
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed by its reader
                stream.flush()
        os._exit(status)


async def serve_app(
    app: AsgiApp,
    sockets: Sequence[socket.socket],
    drain_s: float,
    on_serving: Callable[[DrainingServer], None],
    share: ProcessShare | None = None,
) -> None:
    """Serve until a signal asks for the end, answer what was accepted within ``drain_s`` and
    return; a second signal ends the process.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        **UVICORN,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=90,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,  # type: ignore[arg-type]  # a float does
    )
    on_leaving = None if share is None else share.on_leaving
    server = DrainingServer(config, app, drain_s, on_serving, on_leaving)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as of `nohup`
            loop.add_signal_handler(number, server.handle_exit, number, None)
    await server.serve(list(sockets))


def library_app(
    library: FunctionLibrary,
    residency: Residency | None = None,
    cors: CorsSpec | None = None,
    share: ProcessShare | None = None,
) -> AsgiApp:
    """Return the application of all functions of a library, of the routes by task, and of the
    catalogue.

    Args:
        residency: of the library, run by the caller; None: one whose hours are not looked at.
        cors, share: as of ``serve``.
    """
    tasks = TaskRoutes(LibraryTasks(library))
    quarantine = None if share is None else RowQuarantine(share.crash_folder)
    handler = LibraryHandler(library, behind_haproxy=False, others=tasks, row_quarantine=quarantine)

    async def write_metrics() -> bytes:
        return library.metrics.text()

    def routes_of(told: CatalogueSources) -> ASGIApp:
        return catalogue(
            told.index,
            metrics=told.metrics,
            repository=told.repository,
            describe=handler.describe,
        )

    own = CatalogueSources(handler.index, write_metrics, residency or Residency(library))
    routes = routes_of(own)
    if share is not None:
        routes = MountedRoutes(share.own_prefix, routes, routes_of(share.join(library, own)))
    policy = None if cors is None else CorsPolicy(cors)
    return AsgiApp(handler, routes, cors=policy, counters=library.counters)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains before it shuts down. uvicorn's own shutdown closes the port
    first and takes as long as the slowest call.

    Uses three of uvicorn's inner names: ``server_state``, a connection's ``app``, and
    ``config.loaded_app``, which is the ``app`` of connections to come. A request that has begun
    holds the application that it began with, so a call pays nothing for all this. Some of the
    connections are ``HotConnection``.

    Mutable state: ``_busy_connections`` (those with a call in flight when the end began),
    ``_has_signal`` (one has come).
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: AsgiApp,
        drain_s: float,
        on_serving: Callable[[DrainingServer], None],
        on_leaving: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_leaving = on_leaving
        self._app = app
        self._drain_s = drain_s
        self._on_serving = on_serving
        self._busy_connections: list[Connection] = []
        self._has_signal = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again after its shutdown, and the process would end by it
        instead of with 0.
        """
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_serving(self)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain at the first signal, end the process at the second."""
        if self._has_signal:
            _print(f"told twice: {self._unanswered} callers get no answer.")
            # threads may be in the middle of a batch, and nothing here needs an orderly end
            os._exit(INTERRUPTED)
        self._has_signal = True
        self.drain()

    def drain(self) -> None:
        """Begin the drain. Idempotent. One of several processes hands over to the others."""
        if self._on_leaving is not None:
            self.hand_over()
        elif not self.should_exit:
            self._begin_end(DrainingApp(self._app))

    def hand_over(self) -> None:
        """End without refusing a call: another process accepts connections on the same sockets.
        Idempotent.
        """
        if not self.should_exit:
            if self._on_leaving is not None:
                self._on_leaving()
            for server in self.servers:
                server.close()
            self._begin_end(DrainingApp(self._app, refuses=False))

    def _begin_end(self, last_app: DrainingApp) -> None:
        self.should_exit = True
        self.config.loaded_app = last_app
        for connection in self._connections:
            if isinstance(connection, HotConnection):
                connection.give_back(last_app)
            else:
                connection.app = last_app
            if _is_busy(connection):
                connection.shutdown()  # closes it after its last response
                self._busy_connections.append(connection)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Answer within the drain time, then close."""
        began = now = time.monotonic()
        while now < began + self._drain_s and (
            self._unanswered or (self._connections and now < began + LINGER_S)
        ):
            await asyncio.sleep(POLL_S)
            now = time.monotonic()
        if self._unanswered:
            _print(
                f"{self._unanswered} callers have no answer after the {self._drain_s:g} s of the "
                "drain time, and are refused."
            )
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in self._connections:
            if isinstance(connection, HotConnection):
                connection.refuse()
        await super().shutdown(sockets)

    @property
    def _unanswered(self) -> int:
        """Connections with a call that began before the signal."""
        return len(self.server_state.connections.intersection(self._busy_connections))

    @property
    def _connections(self) -> list[Connection]:
        return list(self.server_state.connections)  # type: ignore[arg-type]  # of the protocol that ``serve`` asks for


def _is_busy(connection: Connection) -> bool:
    if isinstance(connection, HotConnection):
        return connection.is_busy
    return connection.cycle is not None and not connection.cycle.response_complete


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # the next line may end the process


class DrainingApp:
    """Replaces an application whose server drains: refuses calls and readiness, keeps no
    connection. The index, metrics, liveness and metadata are still answered.

    Args:
        app: the application; requests that have begun are still in it, and are not touched.
        refuses: False answers calls too; what remains is that no connection is kept.
    """

    def __init__(self, app: AsgiApp, *, refuses: bool = True) -> None:
        self._app = app
        self._refuses = refuses
        self._refusing_app = AsgiApp(_Refusal(), cors=app.cors, counters=app.counters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that began after the signal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _CLOSE]
            await send(message)

        if self._refuses and (scope["method"] == "POST" or scope["path"].endswith("/ready")):
            # a client that expects 100 (Continue) gets the refusal before it sends the body
            if not any(name == b"expect" for name, _ in scope["headers"]):
                await _discard_body(receive)
            await self._refusing_app(scope, receive, send_last)
        else:
            await self._app(scope, receive, send_last)


class _Refusal:
    """The handler of a server that drains."""

    prefix = ""
    exchanges = 0

    def is_hot(self, target: bytes) -> bool:
        """As of ``Handler``."""
        return False

    async def handle(self, request: Request) -> Response:
        """Refuse one request."""
        error = Draining(
            "this server is ending and takes nothing new; call again, another one answers.",
            retry_after_s=1,
        )
        if request.path.startswith(PREFIX):
            request.error_form = task_error_response
        return request.error_response(error)


async def _discard_body(receive: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            while (await receive()).get("more_body", False):
                pass
