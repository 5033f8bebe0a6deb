"""Functions that stream, and do what a test says."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field
from typing import TypedDict

from wakeful import RequestError, State

PATIENCE_S = 30.0
"""A test that waits longer for what it opened itself has failed."""


@dataclass
class Tap:
    """What a test orders of the streams of one key, and what it counts of them.

    Attributes:
        drops: items that may be given; as many as are wanted unless ``closed`` at the beginning.
        begun: generators that were.
        given: the items that were begun, in order.
        threads: that they were computed in.
        shut: the generators that have ended, however they did; ``is_shut`` is set with each.
    """

    is_free: bool = True
    drops: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    begun: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    shut: list[str] = field(default_factory=list)
    is_shut: threading.Event = field(default_factory=threading.Event)

    def held(self) -> Tap:
        """Nothing comes before the test says so."""
        self.is_free = False
        return self

    def drop(self, count: int = 1) -> None:
        """So many more may come."""
        self.drops.release(count)

    def take(self, n: int) -> None:
        """In the generator, before an item."""
        assert self.is_free or self.drops.acquire(timeout=PATIENCE_S)
        self.given.append(n)
        self.threads.add(threading.current_thread().name)

    def end(self, how: str) -> None:
        """In the generator, behind the last."""
        self.shut.append(how)
        self.is_shut.set()

    async def until_shut(self) -> None:
        """Waits for a generator's end."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(self.is_shut.wait, PATIENCE_S)


TAPS: defaultdict[str, Tap] = defaultdict(Tap)
"""By key; a test takes keys of its own."""


class Number(TypedDict):
    """An item."""

    n: int
    last: bool


def numbers(to: int, key: str = "", refuse_at: int = -1, break_at: int = -1) -> Iterator[Number]:
    """0, 1, 2 … below ``to``; one of them is refused, or breaks."""
    tap, how = TAPS[key], "closed"
    tap.begun.append(to)
    try:
        for n in range(to):
            tap.take(n)
            if n == refuse_at:
                raise RequestError(f"{n} is not wanted here.", where="to")
            if n == break_at:
                raise RuntimeError("a secret of the function")
            yield {"n": n, "last": n == to - 1}
        how = "ended"
    finally:
        tap.end(how)


async def slowly(
    to: int, key: str = "", pause_s: float = 0.0, refuse_at: int = -1
) -> AsyncIterator[int]:
    """The same on the event loop; ``pause_s`` of an hour never comes back by itself."""
    tap, how = TAPS[key], "closed"
    tap.begun.append(to)
    try:
        for n in range(to):
            await asyncio.sleep(pause_s)
            tap.take(n)
            if n == refuse_at:
                raise RequestError(f"{n} is not wanted here.", where="to")
            yield n
        how = "ended"
    finally:
        tap.end(how)


def words(text: str) -> Generator[dict[str, str]]:
    """Items that are objects by themselves."""
    for word in text.split():
        yield {"word": word}


def text_output(text_input: str, upper: bool = False) -> Iterator[str]:
    """As generate_stream's clients name them."""
    for word in text_input.split():
        yield word.upper() if upper else word


def twice(x: int) -> int:
    """A stage before one that streams."""
    return 2 * x


def countdown(twice: int) -> Iterator[int]:
    """Down from what an earlier stage gave."""
    yield from range(twice, 0, -1)


def not_json(x: int) -> Iterator[object]:
    """The item of that index cannot be written."""
    for n in range(x + 1):
        yield object() if n == x else n


def blocks(to: int, key: str = "") -> Iterator[str]:
    """Items of 64 KiB, so that sockets are full after a hundred."""
    for item in numbers(to, key):
        yield f"{item['n']:08}" * (8 << 10)


class Sum(TypedDict):
    """What has been added up in a sequence."""

    at: int
    total: int


def added(x: list[int], total: State[int]) -> Iterator[Sum]:
    """An item for each number; a negative one is refused."""
    total = total or 0
    for at, n in enumerate(x):
        if n < 0:
            raise RequestError("no.", where="x")
        total += n
        yield {"at": at, "total": total}
