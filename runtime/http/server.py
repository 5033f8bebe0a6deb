"""Every function of a library, and the catalogue, behind one port of this process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from runtime.errors import NotReady
from runtime.http import exchange
from runtime.http.catalogue_app import catalogue
from runtime.http.function_app import FunctionApp
from runtime.http.identity import RequestIds
from runtime.library import Library


class LibraryApp:
    """The longest prefix on whole path segments wins, as in HAProxy; the rest is the catalogue's.

    Mutable state: ``_apps`` keeps the application of each function while it is loaded.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._catalogue = catalogue(self._index)
        self._prefixes = sorted(((spec.route_prefix, name) for name, spec in library.specs.items()), key=lambda pair: -len(pair[0]))
        self._apps: dict[str, FunctionApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""
        name = self._owner(scope["path"]) if scope["type"] == "http" else None
        if name is None:
            await self._catalogue(scope, receive, send)
            return
        function = self._library.loaded(name)
        if function is None:
            state = self._library.state(name)
            error = NotReady(f"the function {name!r} is {state.state}{f': {state.reason}' if state.reason else ''}.", retry_after_s=1)
            await exchange.send_error(send, error, exchange.request_id(scope))
            return
        app = self._apps.get(name)
        if app is None or app.function is not function:
            app = self._apps[name] = FunctionApp(function)
        await app({**scope, "root_path": self._library.specs[name].route_prefix}, receive, send)

    def _owner(self, path: str) -> str | None:
        for prefix, name in self._prefixes:
            if path == prefix or path.startswith(prefix + "/"):
                return name
        return None

    async def _index(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "state": (state := self._library.state(name)).state, "url": spec.route_prefix, "reason": state.reason,
             "description": spec.description}
            for name, spec in self._library.specs.items()
        ]  # fmt: skip


class _Server(uvicorn.Server):
    """uvicorn raises a signal again once it has shut down, and the process would end by it instead of with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(library: Library, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, then answers what was accepted and returns; a second signal does not wait."""
    config = uvicorn.Config(
        RequestIds(LibraryApp(library)), host=host, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="warning", server_header=False, proxy_headers=False, timeout_keep_alive=90, timeout_graceful_shutdown=30,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    await server.serve()
