"""A server has so many connections: one more closes those without a call, or is told that there is
no room.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from runtime.http.transport import connection_limit, listening_server
from runtime.http.transport.connection_limit import (
    MOST_CONNECTIONS,
    SPARE_FILES,
    RefusedConnection,
    allow_connections,
    choose_unused,
    decide_limit,
)
from runtime.http.transport.listening_server import ListeningServer
from runtime.http.transport.protocol import UVICORN
from tests.problems import expect_values
from tests.runtime.http.transport.test_listening_server import ASK, WAIT_S, Gate, serve

MOST = 16

LARGE = 16 << 20
"""Bytes, more than the sockets of one connection take."""


@pytest.mark.parametrize(
    ("open_files", "limit"),
    [
        (20_000, MOST_CONNECTIONS),
        (MOST_CONNECTIONS + SPARE_FILES, MOST_CONNECTIONS),
        (MOST_CONNECTIONS + SPARE_FILES - 1, MOST_CONNECTIONS - 1),
        (1024, 768),
        (256, 192),
        (20, 16),
        (float("inf"), MOST_CONNECTIONS),
    ],
)
def test_there_are_as_many_as_files_may_be_open(open_files: float, limit: int) -> None:
    """Less what a process opens beside them."""
    assert decide_limit(open_files) == limit


@pytest.mark.parametrize(
    ("before", "limit", "after"),
    [
        ((1024, 20_000), MOST_CONNECTIONS, MOST_CONNECTIONS + SPARE_FILES),
        ((1024, 2048), 1792, 2048),
        ((8192, 20_000), MOST_CONNECTIONS, 8192),
        ((1024, resource.RLIM_INFINITY), MOST_CONNECTIONS, MOST_CONNECTIONS + SPARE_FILES),
    ],
)
def test_a_process_lets_itself_open_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], limit: int, after: int
) -> None:
    """And no less than it may already."""
    limits = [before]
    monkeypatch.setattr(connection_limit.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(
        connection_limit.resource, "setrlimit", lambda _, wanted: limits.append(wanted)
    )
    assert allow_connections() == limit
    assert limits[-1] == (after, before[1])


@dataclass(eq=False)
class Made:
    """A connection as far as it is looked at."""

    used: float
    is_at_work: bool = False
    is_unread: bool = False


def test_those_without_a_call_are_closed_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of all, at most as many as there are."""
    monkeypatch.setattr(connection_limit, "Connection", Made)
    idle = [Made(used) for used in (5, 3, 1, 4)]
    busy = [Made(0, is_at_work=True) for _ in range(60)]
    unread = [Made(0, is_unread=True)]
    of_uvicorn = [object()]
    chosen = choose_unused([*idle, *busy, *unread, *of_uvicorn], 32)
    assert [one.used for one in chosen] == [1, 3]
    assert [one.used for one in choose_unused(idle, 640)] == [1, 3, 4, 5]
    assert choose_unused(busy, 64) == []


Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def limited(work: Callable[[ListeningServer, Gate, Callable[..., Any]], Awaitable[None]]) -> None:
    """Do that with a server of ``MOST`` connections, and what connects to it."""

    async def within(server: ListeningServer, gate: Gate, port: int) -> None:
        opened: list[Opened] = []

        async def connect(sent: bytes = b"") -> Opened:
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            opened[-1][1].write(sent)
            return opened[-1]

        try:
            await work(server, gate, connect)
        finally:
            gate.open.set()
            for _, writer in opened:
                writer.close()

    serve(within, most_connections=MOST)


def test_one_too_many_closes_the_oldest_that_waits() -> None:
    """A client that says nothing, or the beginning of a head, makes room; one with a call keeps
    its own, and so does one that was just answered.
    """

    async def work(server: ListeningServer, gate: Gate, connect: Callable[..., Any]) -> None:
        at_work, _ = await connect(ASK)
        await gate.begun.wait()
        silent, _ = await connect()
        half, _ = await connect(ASK[:20])
        while len(server.state.connections) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)  # the loop's clock has ticks
        others = [await connect() for _ in range(MOST - 3)]
        while len(server.state.connections) < MOST:
            await asyncio.sleep(0.01)
        gate.open.set()
        for _ in range(2):
            one_more, _ = await connect(ASK)
            assert (await one_more.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await silent.read(), await half.read()) == (b"", b"")
        assert (await at_work.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert len(server.state.connections) == MOST
        assert not any(reader.at_eof() for reader, _ in others)

    limited(work)


def test_where_all_have_a_call_the_new_one_is_told() -> None:
    """In the error form, and when to call again; those that wait until it is read are few."""

    async def work(server: ListeningServer, gate: Gate, connect: Callable[..., Any]) -> None:
        for _ in range(MOST):
            await connect(ASK)
        while gate.asked < MOST:
            await asyncio.sleep(0.01)
        told, _ = await connect(ASK)
        head, _, body = (await told.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert {b"retry-after: 1", b"connection: close"} <= set(head.split(b"\r\n"))
        error = json.loads(body)
        assert (error["code"], error["where"]) == ("overloaded", "")
        expect_values(error["error"], "connections")
        async with asyncio.timeout(WAIT_S):
            while RefusedConnection.told:
                await asyncio.sleep(0.01)
        assert len(server.state.connections) == MOST

    limited(work)


def test_where_all_have_a_call_few_look_for_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connect; and once it is time, the next one does."""
    looks = []

    def choose(connections: Iterable[object], limit: int) -> list[connection_limit.Connection]:
        looks.append(limit)
        return choose_unused(connections, limit)

    monkeypatch.setattr(listening_server, "choose_unused", choose)
    monkeypatch.setattr(listening_server, "FULL_S", 2 * WAIT_S)

    async def work(server: ListeningServer, gate: Gate, connect: Callable[..., Any]) -> None:
        for _ in range(MOST):
            await connect(ASK)
        while gate.asked < MOST:
            await asyncio.sleep(0.01)
        for _ in range(5):
            told, _ = await connect()
            assert (await told.read()).startswith(b"HTTP/1.1 429 ")
        assert looks == [MOST]
        server._full_until = 0.0
        told, _ = await connect()
        assert (await told.read()).startswith(b"HTTP/1.1 429 ")
        assert looks == [MOST, MOST]

    limited(work)


def test_an_answer_that_is_not_read_counts_as_a_connection() -> None:
    """To close it would free no file: the new one is told."""

    body = bytes(LARGE)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        length = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        server = ListeningServer(answer, MOST, log_level="critical", **UVICORN)
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            await server.start([listener])
            try:
                for _ in range(MOST):
                    client = opened.enter_context(socket.create_connection(listener.getsockname()))
                    client.sendall(ASK)
                async with asyncio.timeout(WAIT_S):
                    while sum(one.is_unread for one in server.state.connections) < MOST:
                        await asyncio.sleep(0.01)
                    told, writer = await asyncio.open_connection(*listener.getsockname())
                    assert (await told.read()).startswith(b"HTTP/1.1 429 ")
                    writer.close()
                assert len(server.state.connections) == MOST
            finally:
                for one in list(server.state.connections):
                    one.transport.abort()
                await server.close(0)

    uvloop.run(main())


def test_of_many_that_are_told_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are closed without a word: each would hold an open file."""
    monkeypatch.setattr(connection_limit, "MOST_TOLD", 2)

    async def work(server: ListeningServer, gate: Gate, connect: Callable[..., Any]) -> None:
        for _ in range(MOST):
            await connect(ASK)
        while gate.asked < MOST:
            await asyncio.sleep(0.01)
        readers = [(await connect())[0] for _ in range(5)]
        found = await asyncio.gather(*(one.read() for one in readers), return_exceptions=True)
        told = [one for one in found if isinstance(one, bytes) and one]
        assert 2 <= len(told) < 5
        assert len(server.state.connections) == MOST

    limited(work)
