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

TIMEOUT_S = 60.0
"""Longest wait for an answer; above every deadline that the server itself has."""

BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What an exchange ends in that got no answer."""


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

    # Mutable state: the two ends of the connection, None while there is none.

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def open(self) -> None:
        """Connects, unless it is connected."""
        if self._reader is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def post(self, path: str, body: bytes) -> Answer:
        """Posts JSON. A connection that breaks is an answer of status 0; nothing is sent twice."""
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self._exchange(head.encode() + body)

    async def get(self, path: str) -> Answer:
        """Looks."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n\r\n".encode())

    async def _exchange(self, request: bytes) -> Answer:
        at, start = time.time(), time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self.open()
                status, headers, body = await self._send(request)
        except BROKEN as error:
            self.close()
            return Answer(0, at, time.perf_counter() - start, {}, f"{type(error).__name__}: {error}".encode())
        seconds = time.perf_counter() - start
        if headers.get("connection") == "close":
            self.close()
        return Answer(status, at, seconds, timings_ms(headers.get("server-timing", "")), body)

    async def _send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "content-length" not in headers:
            raise ValueError(f"an answer without a length: {first}")
        body = await self._reader.readexactly(int(headers["content-length"]))
        return int(first.split(" ", 2)[1]), headers, body


def call_once(port: int, path: str, body: bytes) -> Answer:
    """One exchange on a connection of its own, its opening included."""

    async def once() -> Answer:
        async with Caller(port) as caller:
            return await caller.post(path, body)

    return asyncio.run(once())
