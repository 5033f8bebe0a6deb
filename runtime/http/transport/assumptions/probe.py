"""A connection that lies in memory: uvicorn's protocol, as a server makes it, between a transport
and an event loop that record. What is said of uvicorn is tried on it, without a socket, a
thread or a wait: a process does so before it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self

import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from runtime.http.transport.protocol import RequestProtocol
from runtime.system.assumptions import BrokenAssumption

KEEP_ALIVE_S: Final = 7
"""That the connection is configured with: none of uvicorn's own times."""

CLIENT: Final = ("192.0.2.1", 4711)

GET: Final = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: t\r\nX-Name: Value\r\n\r\n"
POST: Final = b"POST /p HTTP/1.1\r\nhost: t\r\ncontent-length: 6\r\n\r\n"
BODY: Final[Message] = {"type": "http.response.body", "body": b"ok"}
TWO: Final = (b"content-length", b"2")


class ProbeTransport(asyncio.Transport):
    """Records. Attributes: ``written``, all of it; ``reads``; ``is_closed``."""

    def __init__(self) -> None:
        super().__init__({"peername": CLIENT, "sockname": ("192.0.2.2", 80)})
        self.written = b""
        self.reads = True
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += data

    def close(self) -> None:
        """Remember it; nothing is left to write."""
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it is."""
        return self.is_closed

    def pause_reading(self) -> None:
        """Remember it; what is fed arrives all the same."""
        self.reads = False

    def resume_reading(self) -> None:
        """Remember it."""
        self.reads = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nothing arrives by itself."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


class ProbeTimer:
    """Of a loop whose time stands still."""

    def __init__(self, delay: float, callback: Callable[..., object]) -> None:
        self.delay = delay
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Remember it; no time passes."""
        self.is_cancelled = True


class ProbeTask:
    """A coroutine that was begun, and is not run any further."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        coroutine.send(None)

    def add_done_callback(self, callback: Callable[..., object]) -> None:
        """It is never done."""

    def end(self) -> None:
        """Run what waits to its end."""
        with contextlib.suppress(StopIteration):
            self.coroutine.send(None)
        self.coroutine.close()


class ProbeLoop:
    """As much of an event loop as a protocol uses."""

    def __init__(self) -> None:
        self.timers: list[ProbeTimer] = []
        self.tasks: list[ProbeTask] = []

    def time(self) -> float:
        """It stands still."""
        return 0.0

    def call_later(self, delay: float, callback: Callable[..., object], *_: Any) -> ProbeTimer:
        """Keep it."""
        self.timers.append(ProbeTimer(delay, callback))
        return self.timers[-1]

    def call_soon(self, callback: Callable[..., object], *arguments: Any, **_: Any) -> None:
        """At once."""
        callback(*arguments)

    def create_task(self, coroutine: Coroutine[Any, Any, Any], **_: Any) -> ProbeTask:
        """Begin it."""
        self.tasks.append(ProbeTask(coroutine))
        return self.tasks[-1]


class Probe:
    """One connection, until the block ends.

    Attributes:
        requests: scope, ``receive`` and ``send`` of each that the application was given; it waits.
        config, state: of the server.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[Scope, Receive, Send]] = []
        self.loop = ProbeLoop()
        self.transport = ProbeTransport()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"now")]
        self.config = config = uvicorn.Config(
            self.answer_request,
            http=RequestProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        make: Any = config.http_protocol_class
        self.protocol: RequestProtocol = make(
            config=config, server_state=self.state, app_state={}, _loop=self.loop
        )
        self.protocol.access_log = False
        self.protocol.connection_made(self.transport)

    async def answer_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application."""
        self.requests.append((scope, receive, send))
        await _Never()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, receive, _ in self.requests:
            # an answer that is missing would be logged as an error
            receive.__self__.disconnected = True  # type: ignore[attr-defined]
        for task in self.loop.tasks:
            task.end()

    def feed(self, data: bytes) -> Any:
        """Let it arrive; return uvicorn's cycle of the last request whose head is there."""
        self.protocol.data_received(data)
        return self.protocol.cycle

    def answer(self, send: Send, body: bytes = b"ok", *headers: tuple[bytes, bytes]) -> None:
        """Send a whole response."""
        finish(send(start(*(headers or ((b"content-length", b"%d" % len(body)),)))))
        finish(send({"type": "http.response.body", "body": body}))


def start(*headers: tuple[bytes, bytes]) -> Message:
    """The head of a response."""
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def finish(awaitable: Any) -> Any:
    """Return what it returns, which waits for nothing."""
    try:
        awaitable.send(None)
    except StopIteration as returned:
        return returned.value
    awaitable.close()
    raise BrokenAssumption("uvicorn waits where there is nothing to wait for")


class _Never:
    """Waits, and is closed."""

    def __await__(self) -> Any:
        yield
