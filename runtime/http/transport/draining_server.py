"""A uvicorn server that ends without losing a call. The end:

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
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from runtime.errors import Draining
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.task_routes.handler import PREFIX, task_error_response
from runtime.http.exchange import Request, Response
from runtime.http.transport.hot_connection import HotConnection
from runtime.http.transport.protocol import UVICORN

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


async def serve_app(
    app: AsgiApp,
    sockets: Sequence[socket.socket],
    drain_s: float,
    on_serving: Callable[[DrainingServer], None],
    on_leaving: Callable[[], None] | None = None,
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
    server = DrainingServer(config, app, drain_s, on_serving, on_leaving)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as of `nohup`
            loop.add_signal_handler(number, server.handle_exit, number, None)
    await server.serve(list(sockets))


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
