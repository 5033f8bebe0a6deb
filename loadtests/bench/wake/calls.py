"""HTTP exchanges over a kept-alive connection of asyncio, each kept with its status, its times, and whether it woke anybody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from loadtests.bench.serving import HOST
from loadtests.bench.wake.timing import timings_ms
from loadtests.http1 import BROKEN, Connection

TIMEOUT_S = 60.0
"""Longest wait for an answer; above every deadline that the server itself has."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One exchange.

    Attributes:
        status: HTTP's; 0 when there was no answer.
        at: when it was sent, or was to be sent, seconds since the epoch: decisions of the server carry the same clock.
        seconds: from then to the last byte.
        timing: of ``Server-Timing``, milliseconds by name.
        body: as sent; why there was no answer, when there was none.
    """

    status: int
    at: float
    seconds: float
    timing: Mapping[str, float]
    body: bytes

    @property
    def is_good(self) -> bool:
        """Whether it was served."""
        return self.status == 200

    @property
    def was_cold(self) -> bool:
        """Whether it is the first answer after a cold start in the shared host."""
        return "cold" in self.timing

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    def since(self, due: float) -> Answer:
        """As seen by who meant to call at ``due``, seconds since the epoch."""
        return replace(self, at=due, seconds=self.seconds + self.at - due)


class Caller:
    """A kept-alive connection with one exchange at a time, opened on its first use and again when the server has closed it."""

    # Mutable state: the connection.

    def __init__(self, port: int) -> None:
        self._connection = Connection(HOST, port)

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def open(self) -> None:
        """Connects, unless it is connected."""
        await self._connection.open()

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._connection.close()

    async def post(self, path: str, body: bytes) -> Answer:
        """Posts JSON. A connection that breaks is an answer of status 0; nothing is sent twice."""
        return await self._exchange("POST", path, body)

    async def get(self, path: str) -> Answer:
        """Looks."""
        return await self._exchange("GET", path)

    async def _exchange(self, method: str, path: str, body: bytes = b"") -> Answer:
        at, start = time.time(), time.perf_counter()
        connection = self._connection
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await connection.exchange(method, path, body)
        except BROKEN as error:
            self.close()
            return Answer(0, at, time.perf_counter() - start, {}, f"{type(error).__name__}: {error}".encode())
        timing = timings_ms(connection.headers.get("server-timing", ""))
        return Answer(connection.status, at, time.perf_counter() - start, timing, connection.body)


def call_once(port: int, path: str, body: bytes) -> Answer:
    """One exchange on a connection of its own, its opening included."""

    async def once() -> Answer:
        async with Caller(port) as caller:
            return await caller.post(path, body)

    return asyncio.run(once())
