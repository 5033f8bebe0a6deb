"""How many connections a server has at once, where no HAProxy counts them before it.

One that is too many closes others, which wait for a request or have sent a part of a head: those
that have been without a call for longest. So a client that opens connections and sends nothing, or
sends heads byte by byte, closes its own, and costs no other client an answer. Where each connection
has a call at work the new one is told to come again, and closed.

Each connection is an open file, and a process may have so many; what a shell allows at first is
often 1,024 of them, and is raised to what is needed. One whose answer is not read stays open until
it is, or until ``peer`` cuts it: to close it would free no file, and is not chosen.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import resource
from collections.abc import Iterable
from typing import Final

from runtime.errors import Overloaded
from runtime.http.request_headers import Header
from runtime.http.transport.hot_connection import HotConnection
from runtime.http.transport.protocol import LINGER_S, RequestProtocol, write_last_response

MOST_CONNECTIONS: Final = 4096
"""As HAProxy takes before several processes."""

SPARE_FILES: Final = 256
"""Files that a process may have open beside its connections: models, libraries, logs, and what its
stages open.
"""

CLOSED_SHARE: Final = 1 / 16
"""Of the connections that may be, so many are closed at once: to choose them is a look at all,
which takes 2 ms.
"""

MOST_TOLD: Final = 64
"""Connections that wait at once until a client has read that there is no room; more are closed."""

FULL: Final = Overloaded(
    "this server has as many connections with a call at work as it takes; call again.",
    retry_after_s=1,
)

Connection = RequestProtocol | HotConnection


def decide_limit(open_files: float) -> int:
    """Return how many connections a process may have that may have so many files open."""
    if open_files >= MOST_CONNECTIONS + SPARE_FILES:
        return MOST_CONNECTIONS
    return max(16, int(open_files) - min(SPARE_FILES, int(open_files) // 4))


def choose_unused(connections: Iterable[object], limit: int) -> list[Connection]:
    """Return those to close when there are as many as there may be: without a call at work or an
    answer that is still to be read, the ones first that have had none for longest.
    """
    unused = (
        one
        for one in connections
        if isinstance(one, Connection) and not (one.is_at_work or one.is_unread)
    )
    return heapq.nsmallest(math.ceil(limit * CLOSED_SHARE), unused, key=lambda one: one.used)


def allow_connections() -> int:
    """Return how many connections this process may have, and let it open as many files."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = math.inf if most == resource.RLIM_INFINITY else most
    limit = decide_limit(allowed)
    if soft != resource.RLIM_INFINITY and soft < min(limit + SPARE_FILES, allowed):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(min(limit + SPARE_FILES, allowed)), most))
    return limit


class RefusedConnection(asyncio.Protocol):
    """A connection for which there is no room: says so, and closes.

    Args:
        headers: that the server adds to each response.

    Mutable state, of all: ``told``, those that wait until it is read.
    """

    told = 0

    def __init__(self, headers: list[Header]) -> None:
        self._headers = headers
        self._is_told = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as of sockets
        """A client has connected."""
        if RefusedConnection.told >= MOST_TOLD:
            transport.abort()
            return
        RefusedConnection.told += 1
        self._is_told = True
        request_id = f"{random.getrandbits(128):032x}"
        transport.write(write_last_response(FULL, request_id, self._headers))
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._is_told:
            RefusedConnection.told -= 1
            self._is_told = False
