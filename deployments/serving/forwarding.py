"""Several hosts: each sleeping function belongs to one of them, and the others forward its calls,
so that it is loaded once.

The owner of a function follows from the names alone (rendezvous hashing: Thaler and Ravishankar, *A
name-based mapping scheme for rendezvous*, 1996), so hosts agree without asking each other, and when
one goes only its own functions move. A call that cannot be forwarded is answered here: inference is
pure, and the body is at hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.types import Send

from deployments.ingress.replay import extend_for_stream
from runtime.batching.reservation import BodyReservation
from runtime.errors import Overloaded
from runtime.http.client import ClientResponse, ConnectionPool
from runtime.http.exchange import (
    AnyResponse,
    ClientDisconnected,
    Request,
    StreamedResponse,
)
from runtime.http.library_handler import LibraryHandler
from runtime.http.request_headers import (
    ARRIVAL,
    OF_CLOCK,
    Header,
    RequestDeadline,
    read_deadline,
    with_arrival_header,
)
from runtime.library.entry import LibraryEntry
from runtime.library.library import FunctionLibrary

FORWARDED: Final = b"x-wakeful-passed"
"""On a call that was forwarded: it is answered where it arrives. A client that sets it skips a hop,
and gains or breaks nothing.
"""

CONNECT_TIMEOUT_S: Final = 0.5
"""Longest wait for a connection to a host of the same machine or rack."""

MAX_FORWARDED: Final = 1024
"""Calls that are forwarded at once; more are refused."""

GRACE_S: Final = 0.05
"""After the call's deadline, which the other host keeps; if it does not, this one answers."""

_NOT_FORWARDED: Final = frozenset(
    {b"connection", b"transfer-encoding", b"content-length", b"host", b"expect", FORWARDED}
)
"""Headers of a request that belong to one connection."""

_NOT_RELAYED: Final = frozenset(
    {
        b"connection",
        b"transfer-encoding",
        b"content-length",
        b"date",
        b"server",
        b"x-request-id",
        b"host",
    }
)
"""Headers of a response that belong to one connection, or that this host sets itself."""

KEEPALIVE_OPTIONS: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, option), value)
        for option, value in (
            ("TCP_KEEPIDLE", 1),
            ("TCP_KEEPINTVL", 1),
            ("TCP_KEEPCNT", 2),
            ("TCP_USER_TIMEOUT", 3000),
        )
        if hasattr(socket, option)
    ),
]
"""A host whose machine is lost (no power, no cable) does not say so: its kernel is asked each
second, and the connection is given up after three. Not for hosts of this machine: the last option
also ends the connection to a process that lives and does not read for so long."""


def owner_host(name: str, hosts: Iterable[str]) -> str:
    """Return the host that a function belongs to: the one whose hash with the name is greatest. The
    result is the same in every process.
    """
    return max(
        hosts, key=lambda host: hashlib.blake2b(f"{host}\0{name}".encode(), digest_size=8).digest()
    )


class HostRouter:
    """Answers the requests of one host among several. Used on the host's event loop.

    Args:
        local: answers what is not forwarded.
        library: of ``local``.
        host_id: of this host.

    Attributes:
        prefix, exchanges: as of ``LibraryHandler``.

    Mutable state: ``_peers``, and by address ``_pools`` (connections) and ``_timeouts`` (of the
    waits for responses); ``_forwarding`` counts calls.
    """

    def __init__(self, local: LibraryHandler, library: FunctionLibrary, host_id: str) -> None:
        self._local = local
        self._library = library
        self._host_id = host_id
        self._pools: dict[str, ConnectionPool] = {}
        self._forwarding = 0
        self._peers: Mapping[str, str] = {}
        self._timeouts: defaultdict[str, set[asyncio.Timeout]] = defaultdict(set)

    @property
    def peers(self) -> Mapping[str, str]:
        """Address (``host:port``) by id of every host that is known to live, this one included."""
        return self._peers

    @peers.setter
    def peers(self, peers: Mapping[str, str]) -> None:
        """Answer here the calls that were forwarded to a host which is no longer among them."""
        for address in set(self._timeouts).difference(peers.values()):
            for timeout in self._timeouts.pop(address):
                timeout.reschedule(asyncio.get_running_loop().time())
        for address in set(self._pools).difference(peers.values()):
            self._pools.pop(address).close()
        self._peers = peers

    @property
    def prefix(self) -> str:
        """Where it is mounted."""
        return self._local.prefix

    @property
    def exchanges(self) -> int:
        """HTTP requests under way."""
        return self._local.exchanges + self._forwarding

    def is_hot(self, target: bytes) -> bool:
        """As of ``Handler``; calls of functions that are loaded here are not forwarded."""
        return self._local.is_hot(target)

    async def handle(self, request: Request) -> AnyResponse | None:
        """Return the response: made here if the function belongs here, is loaded here, or the
        request was forwarded to here; else the other host's.

        Raises:
            ClientDisconnected: the client disconnected.
        """
        if len(self.peers) < 2 or request.get(FORWARDED):
            return await self._local.handle(request)
        entry = self._library.entries.find(request.undecoded_path)
        if entry is None or not self._is_foreign(entry):
            return await self._local.handle(request, entry)
        self._forwarding += 1
        request.at_end(self._on_end)
        try:
            return await self._forward(entry, request)
        except ClientDisconnected:
            raise
        except Exception as error:  # every fault becomes a response here
            return request.error_response(error)

    def _on_end(self) -> None:
        self._forwarding -= 1

    async def close(self) -> None:
        """Close the idle connections. Idempotent."""
        for pool in self._pools.values():
            pool.close()

    def _is_foreign(self, entry: LibraryEntry) -> bool:
        """Whether requests of a function are to be forwarded."""
        # all calls of a sequence go to one host
        if entry.function is not None and entry.spec.sequences is None:
            return False
        return owner_host(entry.name, self.peers) != self._host_id

    async def _forward(self, entry: LibraryEntry, request: Request) -> StreamedResponse:
        """Return the other host's response; it is sent as it comes, or made here if none comes."""
        address = self.peers[owner_host(entry.name, self.peers)]
        limits, now = entry.spec.limits, time.monotonic()
        deadline = read_deadline(request.fields, limits.request_timeout_s, now, time.time())
        if deadline.remaining_s(now) <= 0:
            raise deadline.expired_error()
        if self._forwarding > MAX_FORWARDED:
            raise Overloaded(
                f"{MAX_FORWARDED} calls of other hosts' functions are passed on at once; "
                "call again.",
                retry_after_s=1,
            )
        budgets = (self._local.body_budget_of(entry), self._local.body_budget)
        reservation = BodyReservation(budgets, lambda: entry.measured.expected_load_s)
        request.at_end(reservation.end)
        body = await request.read_body(limits.max_body_bytes, reservation, deadline)
        request.set_headers(
            with_arrival_header(request.headers, deadline, time.monotonic(), time.time())
        )

        async def send_to(send: Send) -> None:
            if not await self._relay(address, request, body, deadline, send):
                reservation.end()
                if (response := await self._local.handle(request)) is not None:
                    await response.send_to(send)

        return StreamedResponse(send_to)

    async def _relay(
        self,
        address: str,
        request: Request,
        body: bytes | memoryview,
        deadline: RequestDeadline,
        send: Send,
    ) -> bool:
        """Return whether the other host has answered. A stream that breaks off ends without its
        last message, which cuts the client's connection.
        """
        relay = ResponseRelay(send)
        headers = [header for header in request.headers if header[0] not in _NOT_FORWARDED]
        headers.append((FORWARDED, b"1"))
        own = self._peers.get(self._host_id, "")
        if own and not is_same_machine(address, own):
            headers = name_clock(headers, own.rpartition(":")[0].encode())
        query = request.query
        target = (request.raw_path or request.path.encode()) + (b"?" + query if query else b"")
        pool = self._get_pool(address)
        try:
            async with asyncio.timeout(deadline.remaining_s(time.monotonic()) + GRACE_S) as timeout:
                self._timeouts[address].add(timeout)
                method = request.method.encode()
                async with pool.request(method, target, headers, (body,)) as response:
                    await relay.run(response, timeout)
        except OSError:  # ConnectionLost and TimeoutError are such
            pass
        finally:
            if address in self._timeouts:
                self._timeouts[address].discard(timeout)
        return relay.has_begun

    def _get_pool(self, address: str) -> ConnectionPool:
        if address not in self._pools:
            host, _, port = address.rpartition(":")
            is_local = is_same_machine(address, self._peers.get(self._host_id, ""))
            self._pools[address] = ConnectionPool(
                (host.strip("[]"), int(port)),
                max_connections=MAX_FORWARDED,
                connect_timeout_s=CONNECT_TIMEOUT_S,
                options=() if is_local else KEEPALIVE_OPTIONS,
            )
        return self._pools[address]


def is_same_machine(address: str, own_address: str) -> bool:
    """Whether an address (``host:port``) is of the machine that has the other."""
    host = address.rpartition(":")[0].strip("[]")
    own_host = own_address.rpartition(":")[0].strip("[]")
    return host == own_host or host == "::1" or host.startswith("127.")


def name_clock(headers: Iterable[Header], machine: bytes) -> list[Header]:
    """Return headers for another machine: by whose clock the call arrived
    (``deployments.control.machine_clocks``).
    """
    return [
        (name, machine + OF_CLOCK + value) if name == ARRIVAL else (name, value)
        for name, value in headers
    ]


class ResponseRelay:
    """Sends another host's response to the client: whole, or as it arrives where it streams.

    Attributes:
        has_begun: the client has some of it, so no other response may follow.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def run(self, response: ClientResponse, call_timeout: asyncio.Timeout) -> None:
        """Send the response.

        Args:
            call_timeout: of the call; a stream has longer (``extend_for_stream``).

        Raises:
            ConnectionLost: the other host is gone.
        """
        headers = [header for header in response.fields if header[0] not in _NOT_RELAYED]
        if not response.in_pieces:
            headers.append((b"content-length", b"%d" % len(response.body)))
            await self._send_head(response.status, headers)
            await self._send({"type": "http.response.body", "body": response.body})
            return
        extend_for_stream(call_timeout)
        await self._send_head(response.status, headers)
        async for piece in response.pieces():
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_head(self, status: int, headers: list[Header]) -> None:
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
