"""Clients that read slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from runtime.http.transport import peer
from runtime.http.transport.peer import MIN_READ_BYTES_S, UNREAD_S, ReaderWatch, is_read_slowly


@pytest.mark.parametrize(
    ("taken", "seconds", "is_slow"),
    [
        (0, UNREAD_S, True),
        (MIN_READ_BYTES_S * 15 - 1, 15.0, True),
        (MIN_READ_BYTES_S * 15, 15.0, False),
        (10**9, 15.0, False),
    ],
)
def test_a_client_must_take_half_a_megabit_a_second(
    taken: int, seconds: float, is_slow: bool
) -> None:
    """That much or more is enough."""
    assert is_read_slowly(taken, seconds) is is_slow


PERIOD_S = 0.05
WANTED = int(MIN_READ_BYTES_S * PERIOD_S)


class Sending(asyncio.Protocol):
    """Sends a megabyte to each client that connects."""

    def __init__(self) -> None:
        self.watch: ReaderWatch
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.transport = transport
        self.watch = ReaderWatch(transport, asyncio.get_running_loop())
        self.watch.start()  # there is nothing to read
        transport.write(b"x" * (1 << 20))
        self.watch.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.watch.stop()
        self.lost.set()


def watched(
    monkeypatch: pytest.MonkeyPatch,
    client: Callable[[Sending, Callable[[int], Awaitable[bytes]]], Awaitable[None]],
) -> None:
    """Run a client of a server that watches it; it reads by its second argument."""
    monkeypatch.setattr(peer, "UNREAD_S", PERIOD_S)

    async def main() -> None:
        loop, sending = asyncio.get_running_loop(), Sending()
        server = await loop.create_server(lambda: sending, "127.0.0.1", 0)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.setblocking(False)
            await loop.sock_connect(connection, server.sockets[0].getsockname())
            async with asyncio.timeout(20):
                await client(sending, lambda count: loop.sock_recv(connection, count))
        server.close()

    asyncio.run(main())


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when all that is left is the rest of a connection that closes."""

    async def client(sending: Sending, read: Callable[[int], Awaitable[bytes]]) -> None:
        await asyncio.sleep(0)
        sending_made = asyncio.get_running_loop().time()
        while not hasattr(sending, "transport"):
            await asyncio.sleep(0.001)
        sending.transport.close()
        await sending.lost.wait()
        assert sending.watch.has_cut
        assert asyncio.get_running_loop().time() >= sending_made + PERIOD_S

    watched(monkeypatch, client)


def test_a_client_that_reads_a_little_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is no reading."""

    async def client(sending: Sending, read: Callable[[int], Awaitable[bytes]]) -> None:
        while not sending.lost.is_set():
            await read(1)
            await asyncio.sleep(PERIOD_S / 10)
        assert sending.watch.has_cut

    watched(monkeypatch, client)


def test_a_client_that_reads_enough_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many periods it takes; once all is read nothing is watched."""

    async def client(sending: Sending, read: Callable[[int], Awaitable[bytes]]) -> None:
        left = 1 << 20
        while left:
            left -= len(await read(8 * WANTED))
            await asyncio.sleep(PERIOD_S / 20)
        await asyncio.sleep(3 * PERIOD_S)
        assert not sending.watch.has_cut
        assert not sending.lost.is_set()

    watched(monkeypatch, client)


def test_an_answer_with_a_bound_of_its_own_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch that ran ends."""

    async def client(sending: Sending, read: Callable[[int], Awaitable[bytes]]) -> None:
        while not hasattr(sending, "transport"):
            await asyncio.sleep(0.001)
        sending.watch.stop()
        await asyncio.sleep(3 * PERIOD_S)
        assert not sending.lost.is_set()

    watched(monkeypatch, client)
