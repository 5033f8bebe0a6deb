"""``wakeful run``: every function of a file in this process, without a cluster, at the same URLs; they sleep and wake as on the host."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable

import uvloop

from runtime.batching.workers import Workers
from runtime.errors import LoadError
from runtime.http.server import serve as serve_http
from runtime.library import Declared, Library, State
from runtime.memory import budget_bytes
from runtime.onnx.options import workers as workers_of
from runtime.settings import Settings
from runtime.specfile import ServeFile

CLOSE_TIMEOUT_S = 0.5
"""How long functions may take to close once every call is answered, and then the threads to end."""


def serve(file: ServeFile, settings: Settings, host: str, port: int, told: Callable[[str, State], None]) -> None:
    """Loads every function there is room for, serves until SIGINT or SIGTERM, drains and returns.

    Args:
        told: hears how each function loaded, before the port is opened.

    Raises:
        LoadError: no function could be loaded.
    """
    uvloop.run(_serve(file, settings, host, port, told))


async def _serve(file: ServeFile, settings: Settings, host: str, port: int, told: Callable[[str, State], None]) -> None:
    threads = max([len(os.sched_getaffinity(0)), *(workers_of(spec.resources.num_cpus) for spec in file.functions)])
    workers = Workers(threads, spare=1)
    declared = [Declared(spec, stays=spec.autoscaling.min_replicas > 0) for spec in file.functions]
    library = Library(declared, settings, workers=workers, budget_bytes=budget_bytes(settings))
    keeping = asyncio.create_task(library.keep(), name="keep")
    status = 1
    try:
        await library.load_all(told)
        if library.specs and not any(library.loaded(name) for name in library.specs):
            raise LoadError("no function could be loaded; the reasons stand above.")
        freeze()
        drain_s = min(settings.drain_s, max((spec.limits.request_timeout_s for spec in file.functions), default=0.0))
        await serve_http(library, host, port, drain_s)
        status = 0
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))
        await _close(library, workers, status)


async def _close(library: Library, workers: Workers, status: int) -> None:
    """A stage that does not come back, of a call whose time was over, holds its thread for ever, and is not waited for."""
    _, open_ = await asyncio.wait((asyncio.create_task(library.close()),), timeout=CLOSE_TIMEOUT_S)
    if open_:
        os._exit(status)
    await asyncio.to_thread(workers.close, CLOSE_TIMEOUT_S)


def freeze() -> None:
    """Takes what is loaded out of the garbage collector's sight: a full collection over the imports of a serving process takes tens
    of milliseconds, in the middle of somebody's request."""
    gc.collect()
    gc.freeze()
