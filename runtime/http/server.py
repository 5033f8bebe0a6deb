"""A library's functions, and the catalogue, behind one port of this process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import uvicorn

from runtime.http.identity import RequestIds
from runtime.http.library_app import LibraryApp
from runtime.library import Library

__all__ = ["LibraryApp", "serve"]


class _Server(uvicorn.Server):
    """uvicorn raises a signal again once it has shut down, and the process would end by it instead of with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(library: Library, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, then answers what was accepted and returns; a second signal does not wait."""
    app = LibraryApp(library, catalogue=True)
    config = uvicorn.Config(
        RequestIds(app), host=host, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="warning", server_header=False, proxy_headers=False, timeout_keep_alive=90, timeout_graceful_shutdown=30,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    await server.serve()
