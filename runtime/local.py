"""``wakeful run``: every function of a file in this process, without a cluster, at the same URLs."""

from __future__ import annotations

import gc
from collections.abc import Callable

import uvloop

from runtime.errors import LoadError
from runtime.http.server import serve as serve_http
from runtime.library import Library, State
from runtime.settings import Settings
from runtime.specfile import ServeFile


def serve(file: ServeFile, settings: Settings, host: str, port: int, told: Callable[[str, State], None]) -> None:
    """Loads every function, serves until SIGINT or SIGTERM, drains and returns.

    Args:
        told: hears how each function loaded, before the port is opened.

    Raises:
        LoadError: no function could be loaded.
    """
    uvloop.run(_serve(file, settings, host, port, told))


async def _serve(file: ServeFile, settings: Settings, host: str, port: int, told: Callable[[str, State], None]) -> None:
    library = Library(file.functions, settings)
    try:
        await library.load_all(told)
        if library.specs and not any(library.loaded(name) for name in library.specs):
            raise LoadError("no function could be loaded; the reasons stand above.")
        freeze()
        await serve_http(library, host, port)
    finally:
        await library.close()


def freeze() -> None:
    """Takes what is loaded out of the garbage collector's sight: a full collection over the imports of a serving process takes tens
    of milliseconds, in the middle of somebody's request."""
    gc.collect()
    gc.freeze()
