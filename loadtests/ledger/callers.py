"""Who sends: callers that wait for their answer before they ask again, and arrivals that wait for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from loadtests.http1 import Connection
from loadtests.ledger.book import Book
from loadtests.ledger.outcome import Exchange, Outcome, Request
from loadtests.ledger.sending import send

Make = Callable[[int], Request]
"""The request of a number; each number is asked for once."""

Seen = Callable[[Request, Exchange, Outcome], None]
"""Told of every end, for who looks at answers while they come."""

LONGEST_PAUSE_S = 0.25
"""How often a slow arrival looks whether its rate has changed."""


def nobody(_request: Request, _exchange: Exchange, _outcome: Outcome) -> None:
    """Looks at nothing."""


class Client:
    """Sends to one server and keeps the book; the numbers of its requests go on from one load to the next.

    Args:
        make: makes the request of a number.
        see: told of every end.
    """

    # Mutable state: the number of the next request, the idle connections, and how many exchanges are under way.

    def __init__(self, book: Book, host: str, port: int, make: Make, see: Seen = nobody) -> None:
        self.book = book
        self.under_way = 0
        self._address = (host, port)
        self._make = make
        self._see = see
        self._next = 0
        self._idle: list[Connection] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def closed(self, callers: int, goes_on: Callable[[], bool]) -> None:
        """So many callers, each asking again as soon as it is answered, until ``goes_on`` is false. All have come back afterwards."""

        async def call() -> None:
            while goes_on():
                await self.one()

        await asyncio.gather(*(call() for _ in range(callers)))

    async def opened(self, per_s: Callable[[float], float], seconds: float, random: Random | None = None) -> None:
        """Arrivals at a rate, none waiting for another: each is sent when it is due. All are answered afterwards.

        Args:
            per_s: the rate at so many seconds after the begin.
            random: gaps as of independent callers; even gaps without.
        """
        start = time.time()
        async with asyncio.TaskGroup() as group:
            for due_s in dues(per_s, seconds, random):
                if (wait_s := start + due_s - time.time()) > 0:
                    await asyncio.sleep(wait_s)
                group.create_task(self.one(start + due_s))

    async def one(self, due: float | None = None) -> Outcome:
        """One request from a connection of its own.

        Args:
            due: when it was to be sent, seconds since the epoch: its time counts from then, so that a late client hides nothing.
        """
        request = self._make(self._next)
        self._next += 1
        connection = self._idle.pop() if self._idle else Connection(*self._address)
        self.book.begin()
        self.under_way += 1
        try:
            exchange = await send(connection, request)
        finally:
            self.under_way -= 1
        self._idle.append(connection)
        if due is not None:
            exchange = replace(exchange, at=due, seconds=exchange.seconds + exchange.at - due)
        outcome = self.book.enter(request, exchange)
        self._see(request, exchange, outcome)
        return outcome


def dues(per_s: Callable[[float], float], seconds: float, random: Random | None = None) -> Iterator[float]:
    """When arrivals are due, seconds from the begin; while the rate is 0 there are none.

    >>> list(dues(lambda _: 2.0, 2.0))
    [0.0, 0.5, 1.0, 1.5]
    """
    due_s, owed = 0.0, 0.0
    while due_s < seconds:
        rate = per_s(due_s)
        if owed <= 0 and rate > 0:
            yield due_s
            owed = random.expovariate(1.0) if random else 1.0
        if rate <= 0:
            due_s += LONGEST_PAUSE_S
            continue
        step_s = owed / rate
        if step_s > LONGEST_PAUSE_S:
            due_s, owed = due_s + LONGEST_PAUSE_S, owed - LONGEST_PAUSE_S * rate
        else:
            due_s, owed = due_s + step_s, 0.0


def steadily(per_s: float) -> Callable[[float], float]:
    """Always the same rate."""
    return lambda _: per_s
