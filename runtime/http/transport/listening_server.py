"""Sockets that listen, and uvicorn's protocol of each connection that comes by them.

As much of uvicorn's server as is used here, on the public names of asyncio: uvicorn's own ends as
it likes, by signals of its own, and looks each tenth of a second whether it is to. A server of ours
begins with ``start`` and ends with ``close``; what lies between is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from runtime.errors import LoadError
from runtime.http.transport.connection_limit import RefusedConnection, choose_unused
from runtime.http.transport.hot_connection import HotConnection

FULL_S: Final = 0.05
"""How long nothing looks again for connections to close where there was none: a look at all takes
2 ms, and a client may connect a thousand times a second.
"""

CLOCK_S: Final = 1.0
"""Between two times of the header ``date``."""

POLL_S: Final = 0.002
"""Between two looks whether connections have closed."""


class ListeningServer:
    """See the module's docstring.

    Args:
        app: the application of each request.
        most_connections: at once (``connection_limit``); None: something in front counts them.
        more: of ``uvicorn.Config``.

    Attributes:
        state: connections, the tasks of their requests, and the headers of each response.

    Mutable state: this, ``_timer`` of the next ``date``, from ``start`` to ``close``, and
    ``_full_until`` (``FULL_S``), on the clock of ``time.monotonic``.
    """

    def __init__(self, app: ASGIApp, most_connections: int | None = None, **more: Any) -> None:
        self._most_connections = most_connections
        self._full_until = 0.0
        self._config = uvicorn.Config(app, interface="asgi3", lifespan="off", **more)
        self.state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on sockets that are bound, which the end closes.

        Raises:
            LoadError: the installed uvicorn makes connections otherwise.
        """
        self._config.load()
        try:
            self._make_protocol()
        except Exception as error:
            raise LoadError(
                f"uvicorn {uvicorn.__version__} makes a connection otherwise than it is known here "
                f"({error}). Install a release that is: docs/install.md has them."
            ) from error
        loop = asyncio.get_running_loop()
        self._set_headers(loop)
        for one in sockets:
            server = await loop.create_server(self._accept, sock=one, backlog=self._config.backlog)
            self._servers.append(server)

    def _accept(self) -> asyncio.Protocol:
        most, connections = self._most_connections, self.state.connections
        if most is not None and len(connections) >= most:
            self._make_room(most)
            if len(connections) >= most:
                return RefusedConnection(self.state.default_headers)
        return self._make_protocol()

    def _make_room(self, most: int) -> None:
        now, connections = time.monotonic(), self.state.connections
        if now < self._full_until:
            return
        chosen = choose_unused(connections, most)
        for unused in chosen:
            connections.discard(unused)
            unused.shutdown()
        if not chosen:
            self._full_until = now + FULL_S

    def _make_protocol(self) -> asyncio.Protocol:
        return self._config.http_protocol_class(  # type: ignore[call-arg]  # of uvicorn's protocols
            config=self._config, server_state=self.state, app_state={}
        )

    def _set_headers(self, loop: asyncio.AbstractEventLoop) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self.state.default_headers = [(b"date", date), *self._config.encoded_headers]
        self._timer = loop.call_later(CLOCK_S, self._set_headers, loop)

    def set_app(self, app: ASGIApp) -> None:
        """Answer with this application from now on. A request whose head was read before, which may
        wait behind another, stays in its own: a call pays nothing for this.
        """
        self._config.loaded_app = app
        for connection in self.state.connections:
            if isinstance(connection, HotConnection):
                connection.give_back(app)
            else:
                connection.app = app  # type: ignore[union-attr]  # each of uvicorn's has it

    def stop_listening(self) -> None:
        """Accept no connection more. Idempotent."""
        for server in self._servers:
            server.close()

    async def close(self, timeout_s: float) -> None:
        """Close the sockets, and each connection behind the response that it waits for; after that
        time the tasks that are left are cancelled.
        """
        self.stop_listening()
        for connection in list(self.state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.state.connections or self.state.tasks:
                    await asyncio.sleep(POLL_S)
        for task in list(self.state.tasks):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
