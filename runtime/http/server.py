"""A library's functions, and the catalogue, behind one port of this process, until a signal says that it is enough.

The end, by SIGINT or SIGTERM:

1. From the signal on, readiness is 503 and new calls are refused (``draining``), while the port stays open: who balances load learns
   of the end by an answer. What has begun, and what was pipelined behind it, is answered; each connection's last answer says
   ``Connection: close``.
2. When all is answered, and connections that are kept alive have had ``LINGER_S`` to bring what was under way to us, the port closes.
   A connection that is closed while its next call travels would be a lost call; so it is told with an answer where there is time.
3. What is not answered within the drain time is refused too. A second signal does not wait: it ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from runtime.http.draining import Refusing
from runtime.http.identity import RequestIds
from runtime.http.library_app import LibraryApp
from runtime.http.parting import turn_away
from runtime.library import Library

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LibraryApp", "serve"]

LINGER_S: Final = 0.5
"""How long idle connections are kept once the end was asked for; without connections nobody waits."""

POLL_S: Final = 0.05

LAST_S: Final = 0.1
"""How long those are turned away who had connected when the port closed."""

CLOSE_S: Final = 0.5
"""Longest wait for connections to close once the drain time is over."""

INTERRUPTED: Final = 130
"""Exit status of a process that was told twice."""


class _Server(uvicorn.Server):
    """uvicorn's own shutdown closes the port first and takes as long as the slowest caller; this one comes before it.

    Three of its inner names are used: ``server_state``, a connection's ``app`` and ``config.loaded_app``, which is the ``app`` of those
    to come. What has begun holds the application that it began with, so a call pays nothing for all this.

    Mutable state: ``_owed`` (the connections with a call in flight when the end was asked for).
    """

    def __init__(self, config: uvicorn.Config, refusing: Refusing, drain_s: float) -> None:
        super().__init__(config)
        self._refusing = RequestIds(refusing)
        self._drain_s = drain_s
        self._owed: list[HttpToolsProtocol] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise a signal again once it has shut down, and the process would end by it instead of with 0."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, the second ends the process."""
        if self.should_exit:
            _say(f"told twice: {self._waiting} callers get no answer.")
            os._exit(INTERRUPTED)  # threads may be in the middle of a batch, and nothing here needs an orderly end
        self.should_exit = True
        self.config.loaded_app = self._refusing
        for connection in self._connections:
            connection.app = self._refusing
            if _is_busy(connection):
                connection.shutdown()  # its last answer says so, and ends it
                self._owed.append(connection)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Answers, within the drain time, then closes."""
        began = now = time.monotonic()
        while now < began + self._drain_s and (self._waiting or (self._connections and now < began + LINGER_S)):
            await asyncio.sleep(POLL_S)
            now = time.monotonic()
        if self._waiting:
            _say(f"{self._waiting} callers have no answer after the {self._drain_s:g} s of the drain time, and are refused.")
        for task in list(self.server_state.tasks):
            task.cancel()
        await self._close_port()
        await super().shutdown(sockets)

    async def _close_port(self) -> None:
        """Connections that were accepted last bring their call meanwhile, and are told here."""
        last = [asyncio.to_thread(turn_away, _duplicate(each), LAST_S) for server in self.servers for each in server.sockets]
        for server in self.servers:
            server.close()
        await asyncio.gather(*last)

    @property
    def _waiting(self) -> int:
        """Callers who are owed an answer."""
        return len(self.server_state.connections.intersection(self._owed))

    @property
    def _connections(self) -> list[HttpToolsProtocol]:
        return list(self.server_state.connections)  # type: ignore[arg-type]  # of the protocol that ``serve`` asks for


async def serve(library: Library, host: str, port: int, drain_s: float) -> None:
    """Serves until SIGINT or SIGTERM, answers what was accepted within ``drain_s`` and returns; a second signal ends the process."""
    app = LibraryApp(library, catalogue=True)
    config = uvicorn.Config(
        RequestIds(app), host=host, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="warning", server_header=False, proxy_headers=False, timeout_keep_alive=90, timeout_graceful_shutdown=CLOSE_S,  # type: ignore[arg-type]  # a float does
    )  # fmt: skip
    server = _Server(config, Refusing(app), drain_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    await server.serve()


def _duplicate(listener: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(listener.fileno()))


def _is_busy(connection: HttpToolsProtocol) -> bool:
    return connection.cycle is not None and not connection.cycle.response_complete


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # the next line may end the process
