"""Callers on a real socket: what each sends, how it ends, and that nothing is ever sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest

from loadtests.ledger.book import Book
from loadtests.ledger.callers import Client, dues, steadily
from loadtests.ledger.outcome import End, Exchange, Outcome, Request

Reply = Callable[[asyncio.StreamWriter, dict[str, str]], Awaitable[None]]

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[tuple[int, list[str]]]:
    """A server on loopback that hands each request's headers to ``reply``; its port, and the ids of all that it was sent."""
    seen: list[str] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
                await reader.readexactly(int(headers["content-length"]))
                seen.append(headers["x-request-id"])
                await reply(writer, headers)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def make(number: int) -> Request:
    """Any answer is right."""
    return Request(f"r-{number}", "/f", json.dumps({"number": number}).encode(), lambda answer: None)


async def well(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    """Answers."""
    writer.write(GOOD)


async def never(_writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    """Does not."""


async def hang_up(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    """Closes without an answer."""
    writer.transport.abort()


async def cut(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    """Closes in the middle of the body."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{}")
    await writer.drain()
    writer.close()


async def one(reply: Reply, request: Callable[[int], Request] = make) -> tuple[Outcome, Exchange, list[str]]:
    """A single request: its end, the facts, and what the server saw."""
    facts: list[Exchange] = []
    async with serving(reply) as (port, seen), Client(Book(), "127.0.0.1", port, request, lambda _r, e, _o: facts.append(e)) as client:
        outcome = await client.one()
    return outcome, facts[0], seen


def test_callers_ask_again_until_they_are_told_to_stop() -> None:
    """Each number once, over as many connections as callers."""

    async def run() -> None:
        book = Book()
        async with serving(well) as (port, seen), Client(book, "127.0.0.1", port, make) as client:
            await client.closed(3, lambda: book.sent < 30)
        assert sorted(seen, key=lambda name: int(name[2:])) == [f"r-{number}" for number in range(book.sent)]
        assert book.verdict().is_good
        assert (book.count(End.RIGHT), client.under_way) == (book.sent, 0)

    asyncio.run(run())


def test_arrivals_wait_for_nobody_and_count_from_when_they_were_due() -> None:
    """While no answer comes, more are sent."""

    async def run() -> None:
        gate, waiting = asyncio.Event(), 0

        async def late(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == 5:
                gate.set()
            await gate.wait()
            writer.write(GOOD)

        book = Book()
        async with serving(late) as (port, _), Client(book, "127.0.0.1", port, make) as client:
            await client.opened(steadily(100.0), 0.05)
        assert (book.sent, book.count(End.RIGHT)) == (5, 5)
        assert max(book.between(End.RIGHT)) >= 0.03

    asyncio.run(run())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(hang_up, "at head"), (cut, "closed at body"), (never, "no answer in time at head")],
    ids=["nothing", "half", "never"],
)
def test_what_is_not_answered_is_lost_and_not_sent_again(reply: Reply, reason: str) -> None:
    """Whether nothing came or half of it."""

    def soon(number: int) -> Request:
        return Request(f"r-{number}", "/f", b"{}", lambda answer: None, deadline_s=-1.8)  # with the slack, 0.2 s

    outcome, facts, seen = asyncio.run(one(reply, soon))
    assert (outcome.end, seen) == (End.LOST, ["r-0"])
    assert outcome.reason.endswith(reason)
    assert facts.body == (b"{}" if reply is cut else b"")


def test_a_caller_who_leaves_on_purpose_is_no_loss() -> None:
    """It closes its connection."""

    def leaving(number: int) -> Request:
        return Request(f"r-{number}", "/f", b"{}", lambda answer: None, leaves_after_s=0.05)

    outcome, facts, seen = asyncio.run(one(never, leaving))
    assert (outcome.end, facts.has_left, seen) == (End.CANCELLED, True, ["r-0"])


def test_nobody_listens() -> None:
    """Lost while connecting."""

    async def run() -> Outcome:
        async with serving(well) as (port, _):
            pass
        async with Client(Book(), "127.0.0.1", port, make) as client:
            return await client.one()

    assert asyncio.run(run()) == Outcome(End.LOST, "ConnectionRefusedError at connect")


def test_a_connection_that_was_closed_while_idle_is_opened_anew() -> None:
    """Before anything is written: that is no second try."""

    async def polite(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
        writer.write(GOOD)
        await writer.drain()
        writer.close()

    async def run() -> None:
        book = Book()
        async with serving(polite) as (port, seen), Client(book, "127.0.0.1", port, make) as client:
            for _ in range(2):
                await client.one()
                await asyncio.sleep(0.05)  # its end of file arrives
        assert (seen, book.count(End.RIGHT)) == (["r-0", "r-1"], 2)

    asyncio.run(run())


def test_rates_may_change_and_rest() -> None:
    """Even gaps; none while the rate is 0."""
    assert list(dues(steadily(2.0), 2.0)) == [0.0, 0.5, 1.0, 1.5]
    stepped = list(dues(lambda at_s: 4.0 if at_s < 1 else 0.0 if at_s < 2 else 2.0, 3.0))
    assert stepped == [0.0, 0.25, 0.5, 0.75, 2.0, 2.5]


def test_arrivals_at_random_keep_their_rate() -> None:
    """Within what chance allows."""
    assert len(list(dues(steadily(50.0), 100.0, Random(1)))) == pytest.approx(5000, rel=0.05)
