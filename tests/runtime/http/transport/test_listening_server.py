"""A server between ``start`` and ``close``: what it says of time, and what it does with what is
under way.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop

from runtime.errors import LoadError
from runtime.http.transport import listening_server
from runtime.http.transport.listening_server import ListeningServer
from runtime.http.transport.protocol import UVICORN
from tests.problems import expect_values

ASK = b"GET / HTTP/1.1\r\nhost: t\r\n\r\n"
WAIT_S = 30


class Gate:
    """An application that answers once it may, with how often it was asked.

    Attributes:
        cancelled: requests whose task was.
    """

    def __init__(self) -> None:
        self.asked = self.cancelled = 0
        self.begun = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        self.asked += 1
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        length = [(b"content-length", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"%d" % self.asked})


def serve(work: Callable[[ListeningServer, Gate, int], Awaitable[None]], **more: Any) -> None:
    """Do that with a server, which it closes."""

    async def main() -> None:
        gate = Gate()
        server = ListeningServer(gate, log_level="critical", **{**UVICORN, **more})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.start([listener])
            try:
                async with asyncio.timeout(WAIT_S):
                    await work(server, gate, listener.getsockname()[1])
            finally:
                await server.close(0)  # uvloop's end waits for it, also where a test has failed

    uvloop.run(main())


def test_the_date_of_a_response_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made anew each while, as a list that is another."""
    monkeypatch.setattr(listening_server, "CLOCK_S", 0.01)
    dates = iter(range(1000))
    monkeypatch.setattr(listening_server, "formatdate", lambda *_, **__: f"time {next(dates)}")

    async def work(server: ListeningServer, gate: Gate, port: int) -> None:
        first = server.state.default_headers
        assert first[0] == (b"date", b"time 0")
        while server.state.default_headers is first:
            await asyncio.sleep(0.005)
        await server.close(1)
        last = server.state.default_headers
        await asyncio.sleep(0.05)
        assert server.state.default_headers is last

    serve(work)


def test_what_is_under_way_is_answered_at_the_end() -> None:
    """Its connection ends behind that; an idle one at once, and none is accepted any more."""

    async def work(server: ListeningServer, gate: Gate, port: int) -> None:
        idle, to_idle = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK)
        await gate.begun.wait()
        closing = asyncio.create_task(server.close(WAIT_S))
        assert await idle.read() == b""
        with pytest.raises(OSError, match="refused"):
            await asyncio.open_connection("127.0.0.1", port)
        assert not closing.done()
        gate.open.set()
        assert (await reader.read()).endswith(b"\r\n\r\n1")
        await closing
        assert (gate.cancelled, server.state.connections) == (0, set())
        for each in (writer, to_idle):
            each.close()

    serve(work)


def test_what_is_not_answered_in_time_is_cancelled() -> None:
    """The end has a bound."""

    async def work(server: ListeningServer, gate: Gate, port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK)
        await gate.begun.wait()
        await server.close(0.05)
        while not gate.cancelled:
            await asyncio.sleep(0)
        writer.close()

    serve(work)


def test_a_request_that_waits_stays_in_the_application_that_it_came_to() -> None:
    """One that comes later is the other's."""

    async def work(server: ListeningServer, gate: Gate, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK + ASK)
        await gate.begun.wait()
        other = Gate()
        other.open.set()
        server.set_app(other)
        gate.open.set()
        for end in (b"1", b"2"):
            assert (await reader.readuntil(b"\r\n\r\n" + end)).startswith(b"HTTP/1.1 200")
        writer.write(ASK)
        await reader.readuntil(b"\r\n\r\n1")
        fresh, to = await asyncio.open_connection("127.0.0.1", port)
        to.write(ASK)
        await fresh.readuntil(b"\r\n\r\n2")
        assert (gate.asked, other.asked) == (2, 2)
        writer.close()
        to.close()
        await server.close(WAIT_S)

    serve(work)


def test_a_uvicorn_that_makes_connections_otherwise_is_refused() -> None:
    """Before a client connects, with what to install."""

    class Otherwise(asyncio.Protocol):
        def __init__(self, settings: object) -> None:
            """Of no release yet."""

    with pytest.raises(LoadError) as refused:
        serve(None, http=Otherwise)  # type: ignore[arg-type]  # it is not begun
    assert refused.value.code == "load_failed"
    expect_values(refused.value.message, uvicorn.__version__, "config", "docs/install.md")
