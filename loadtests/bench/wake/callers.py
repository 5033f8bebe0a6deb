"""Many callers: all at the same moment, arriving at a rate whatever the server does, or pacing one after another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator

from loadtests.bench.wake.calls import Answer, Caller


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """The client's garbage collector rests: its pauses would be taken for the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def together(port: int, path: str, body: bytes, count: int) -> list[Answer]:
    """As many calls at the same moment, over connections that stand already; seconds count from that moment."""
    callers = [Caller(port) for _ in range(count)]
    try:
        await asyncio.gather(*(caller.open() for caller in callers))
        due = time.time()
        return [answer.since(due) for answer in await asyncio.gather(*(caller.post(path, body) for caller in callers))]
    finally:
        for caller in callers:
            caller.close()


async def arriving(port: int, path: str, body: bytes, per_s: float, seconds: float) -> list[Answer]:
    """Calls at even gaps, none waiting for another; seconds count from when each was due, so a client that is late hides nothing."""
    idle: list[Caller] = []
    opened: list[Caller] = []
    start = time.time()

    async def one(due: float) -> Answer:
        if not idle:
            opened.append(caller := Caller(port))
        else:
            caller = idle.pop()
        answer = await caller.post(path, body)
        idle.append(caller)
        return answer.since(due)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for index in range(round(per_s * seconds)):
            due = start + index / per_s
            if (wait_s := due - time.time()) > 0:
                await asyncio.sleep(wait_s)
            tasks.append(group.create_task(one(due)))
    for caller in opened:
        caller.close()
    return [task.result() for task in tasks]


class Pacers:
    """Callers that call again and again until the block ends, each with a gap from the beginning of one call to that of the next.

    ``gap_s`` and ``count`` may change meanwhile; ``answers`` grows, in the order in which they come.
    """

    # Mutable state: those three, and the tasks.

    def __init__(self, port: int, path: str, body: bytes, count: int, gap_s: float = 0.0) -> None:
        self.answers: list[Answer] = []
        self.gap_s = gap_s
        self.count = count
        self._call = (port, path, body)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Pacers:
        self.set_count(self.count)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.set_count(0)
        await asyncio.gather(*self._tasks)

    def set_count(self, count: int) -> None:
        """From now on so many; those too many answer what they have sent and go."""
        running = [task for task in self._tasks if not task.done()]
        self.count = count
        self._tasks = running
        for index in range(len(running), count):
            self._tasks.append(asyncio.create_task(self._pace(index)))

    async def _pace(self, index: int) -> None:
        port, path, body = self._call
        await asyncio.sleep(self.gap_s * index / max(1, self.count))
        async with Caller(port) as caller:
            while index < self.count:
                began = time.monotonic()
                self.answers.append(await caller.post(path, body))
                await self._pause(began, lambda: index < self.count)

    async def _pause(self, began: float, goes_on: Callable[[], bool]) -> None:
        """In pieces, so that a gap that was shortened holds at once."""
        while goes_on() and (left_s := began + self.gap_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, 0.1))
