"""A server that ends without losing a call. The end:

1. From the signal on, readiness is 503 and new calls are refused (``draining``), while the port
   stays open: a load balancer learns of the end by a response. Requests that have begun are
   answered, and so are those that uvicorn has read behind them; the last response of each
   connection says ``Connection: close``.
2. When all is answered, and idle connections have had ``LINGER_S`` to bring requests that were
   under way, the port closes. A request that travels while its connection is closed would be lost,
   so it gets a response where there is time.
3. What is not answered within the drain time is refused too. A second signal ends the process at
   once.

Another process may take over instead (``wakeful run --reload``, with the same listening sockets;
one of several behind HAProxy): then nothing is refused. This one accepts no connection more,
answers what comes on those it has, the last response of each saying ``Connection: close``, and ends
by the same steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from runtime.errors import Draining
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.task_routes.handler import PREFIX, task_error_response
from runtime.http.exchange import Request, Response, normalized_path
from runtime.http.transport.connection_limit import allow_connections
from runtime.http.transport.contract import look
from runtime.http.transport.hot_connection import HotConnection
from runtime.http.transport.listening_server import ListeningServer
from runtime.http.transport.protocol import RequestProtocol

LINGER_S: Final = 0.5
"""How long idle connections are kept after the signal; without connections the server does not
wait.
"""

POLL_S: Final = 0.05

KEEP_ALIVE_S: Final = 90
"""How long an idle connection is kept; HAProxy keeps one for less."""

CLOSE_TIMEOUT_S: Final = 0.5
"""Longest wait for connections to close once the drain time is over."""

INTERRUPTED: Final = 130
"""Exit status after a second signal."""

DISCARD_TIMEOUT_S: Final = 1.0
"""How long the body of a refused request is read: a socket that is closed with unread bytes in it
is reset, and the response is lost with it.
"""

_CLOSE: Final = (b"connection", b"close")


async def serve_app(
    app: AsgiApp,
    sockets: Sequence[socket.socket],
    drain_s: float,
    on_serving: Callable[[DrainingServer], None],
    on_leaving: Callable[[], None] | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal asks for the end, answer what was accepted within ``drain_s`` and
    return; a second signal ends the process.

    Args:
        on_leaving: as of ``DrainingServer``.
        on_end: likewise.
    """
    server = DrainingServer(app, drain_s, on_leaving, on_end)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as of `nohup`
            loop.add_signal_handler(number, server.on_signal)
    await server.serve(sockets, on_serving)


class DrainingServer:
    """Serves an application, and drains before it closes its port.

    A request that has begun stays in the application that it began with. Some of the connections
    are ``HotConnection``; of a uvicorn that is otherwise than it is known (``contract``), all are
    its own.

    Args:
        on_leaving: of one of several processes: called when it accepts no more connections; None:
            it is the only one.
        on_end: called when the end begins: responses that would go on for ever are to end.

    Mutable state: ``_busy_connections`` (those with a call in flight when the end began),
    ``_has_signal`` (one has come), ``_may_end`` (set when the end begins).
    """

    def __init__(
        self,
        app: AsgiApp,
        drain_s: float,
        on_leaving: Callable[[], None] | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._on_end = on_end
        self._drain_s = drain_s
        self._on_leaving = on_leaving
        self._server = ListeningServer(
            app,
            # of several processes HAProxy counts them
            allow_connections() if on_leaving is None else None,
            **look().options,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._busy_connections: list[Any] = []
        self._has_signal = False
        self._may_end = asyncio.Event()

    async def serve(
        self, sockets: Sequence[socket.socket], on_serving: Callable[[DrainingServer], None]
    ) -> None:
        """Listen, say so, and return once the end has begun and all is answered that can be."""
        await self._server.start(sockets)
        on_serving(self)
        await self._may_end.wait()
        await self._drain()

    def on_signal(self) -> None:
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
        elif not self._may_end.is_set():
            self._begin_end(DrainingApp(self._app))

    def hand_over(self) -> None:
        """End without refusing a call: another process accepts connections on the same sockets.
        Idempotent.
        """
        if not self._may_end.is_set():
            if self._on_leaving is not None:
                self._on_leaving()
            self._server.stop_listening()
            self._begin_end(DrainingApp(self._app, refuses=False))

    def _begin_end(self, last_app: DrainingApp) -> None:
        self._may_end.set()
        self._server.set_app(last_app)
        self._on_end()
        for connection in self._connections:
            if self._is_busy(connection):
                connection.shutdown()  # closes it after its last response
                self._busy_connections.append(connection)

    async def _drain(self) -> None:
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
        for task in list(self._server.state.tasks):
            task.cancel()
        for connection in self._connections:
            if isinstance(connection, HotConnection):
                connection.refuse()
        await self._server.close(CLOSE_TIMEOUT_S)

    @property
    def _unanswered(self) -> int:
        """Connections with a call that began before the signal."""
        return len(self._server.state.connections.intersection(self._busy_connections))

    @property
    def _connections(self) -> list[Any]:
        return list(self._server.state.connections)

    def _is_busy(self, connection: Any) -> bool:
        """Whether a request of the connection is not answered; of uvicorn's own connections
        nothing says of which a request is.
        """
        if isinstance(connection, HotConnection | RequestProtocol):
            return connection.is_at_work
        return bool(self._server.state.tasks)


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
        self._refusing_app = AsgiApp(
            _Refusal(), cors=app.cors, foreign=app.foreign, counters=app.counters
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that began after the signal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _CLOSE]
            await send(message)

        path = normalized_path(scope["path"], scope.get("raw_path") or b"")
        if self._refuses and (scope["method"] == "POST" or path.endswith("/ready")):
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
