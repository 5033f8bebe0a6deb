"""HTTP exchanges, each sent once and kept with its facts: status, times, and what ended it.

By aiohttp, which never sends a POST again: a client that tries twice counts no loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from loadtests.server import HOST, OPEN, Door

TIMEOUT_S = 60.0
"""Longest wait for an answer; above every deadline that the server itself has."""

LATE = "no answer in time"


@dataclass(frozen=True, slots=True)
class Exchange:
    """The facts of one exchange.

    Attributes:
        at: when it was sent or due, seconds since the epoch, as the server's decisions are.
        seconds: from then to its end.
        status: HTTP's; 0 when no head of an answer came.
        headers: of the answer, names in lower case.
        error: what ended it before the whole answer was there; empty otherwise.
    """

    at: float
    seconds: float
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it was served."""
        return self.status == 200 and not self.error

    @property
    def timing_ms(self) -> dict[str, float]:
        """``Server-Timing``, by name."""
        found = re.findall(r"([\w-]+);dur=([\d.]+)", self.headers.get("server-timing", ""))
        return {name: float(value) for name, value in found}

    @property
    def is_cold(self) -> bool:
        """Whether it is the first answer after a cold start in the shared host."""
        return "cold" in self.timing_ms

    def since(self, due: float) -> Exchange:
        """The same, counted from when it was due, so that a late client hides nothing."""
        return replace(self, at=due, seconds=self.seconds + self.at - due)


@contextlib.asynccontextmanager
async def connect(port: int, door: Door = OPEN) -> AsyncIterator[aiohttp.ClientSession]:
    """Any number of kept-alive connections to a server on loopback."""
    connector = aiohttp.TCPConnector(limit=0, ssl=True if door.context is None else door.context)
    nothing = aiohttp.ClientTimeout(total=None)
    url = f"{door.scheme}://{HOST}:{port}"
    async with aiohttp.ClientSession(
        url, connector=connector, timeout=nothing, headers=door.headers
    ) as session:
        yield session


async def post(
    session: aiohttp.ClientSession,
    path: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    patience_s: float = TIMEOUT_S,
) -> Exchange:
    """Posts JSON once, whatever comes of it."""
    at, start = time.time(), time.perf_counter()
    status, fields, received, error = 0, dict[str, str](), b"", ""
    sent = {"content-type": "application/json", **(headers or {})}
    try:
        async with (
            asyncio.timeout(patience_s),
            session.post(path, data=body, headers=sent) as answer,
        ):
            status = answer.status
            fields = {name.lower(): value for name, value in answer.headers.items()}
            received = await answer.read()
    except TimeoutError:
        error = LATE
    except (aiohttp.ClientError, OSError, ValueError) as broken:
        error = type(broken).__name__
    return Exchange(at, time.perf_counter() - start, status, fields, received, error)


def post_once(port: int, path: str, row: Any) -> Exchange:
    """One exchange on a connection of its own, its opening included."""

    async def once() -> Exchange:
        async with connect(port) as session:
            return await post(session, path, json.dumps(row).encode())

    return asyncio.run(once())


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """The client's garbage collector rests: its pauses would be taken for the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
