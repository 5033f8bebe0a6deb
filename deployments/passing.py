"""Several hosts, and each sleeping function belongs to one of them: the others pass its calls on, so that it is loaded once.

Who owns a function follows from the names alone (rendezvous hashing: Thaler and Ravishankar, *A name-based mapping scheme for
rendezvous*, 1996), so hosts agree without asking each other, and when one goes only its own functions move. A call that cannot be
passed on is answered here: inference is pure, and the body is at hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx
from starlette.types import Message, Receive, Scope, Send

from deployments.relaying import Relay
from runtime.http import exchange
from runtime.http.bodies import Parcel
from runtime.http.caller import Caller, Disconnected
from runtime.http.library_app import LibraryApp
from runtime.http.patience import Patience, patience_of, stamped
from runtime.library import Library

PASSED: Final = b"x-wakeful-passed"
"""On a call that was passed on: it is answered where it arrives. A caller who sets it skips a hop, and gains or breaks nothing."""

CONNECT_S: Final = 0.5
"""Longest wait for a connection to a host of the same machine or rack."""

CONNECTIONS: Final = 1024
"""Calls that are passed on at once; more wait for one of them, within their deadline."""

GRACE_S: Final = 0.05
"""Beyond the call's deadline, which the other host keeps; if it does not, this one says so."""

SIGNS_OF_LIFE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, option), value)
        for option, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2), ("TCP_USER_TIMEOUT", 3000))
        if hasattr(socket, option)
    ),
]
"""A host whose machine is lost (no power, no cable) does not say so: its kernel is asked each second, and is given up after three."""


def owner_of(name: str, hosts: Iterable[str]) -> str:
    """The host that a function belongs to: the one whose hash with the name is greatest. The same wherever it is asked."""
    return max(hosts, key=lambda host: hashlib.blake2b(f"{host}\0{name}".encode(), digest_size=8).digest())


class Passing:
    """The routes of one host among several.

    Args:
        me: this host's id.

    Attributes:
        prefix, exchanges: as of ``LibraryApp``.

    Mutable state: ``_peers``, and ``_asked`` (the waits for answers of other hosts, by address), ``_passing`` counts calls.
    """

    def __init__(self, app: LibraryApp, library: Library, me: str) -> None:
        self._app = app
        self._library = library
        self._me = me
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(limits=limits, socket_options=SIGNS_OF_LIFE))
        self._passing = 0
        self._peers: Mapping[str, str] = {}
        self._asked: defaultdict[str, set[asyncio.Timeout]] = defaultdict(set)

    @property
    def peers(self) -> Mapping[str, str]:
        """Address (``host:port``) by id of every host that is known to live, this one included."""
        return self._peers

    @peers.setter
    def peers(self, peers: Mapping[str, str]) -> None:
        """What a host was asked that is not among them any more, dead or hung, is answered here."""
        for address in set(self._asked).difference(peers.values()):
            for wait in self._asked.pop(address):
                wait.reschedule(asyncio.get_running_loop().time())
        self._peers = peers

    @property
    def prefix(self) -> str:
        """Where it is mounted."""
        return self._app.prefix

    @property
    def exchanges(self) -> int:
        """HTTP exchanges under way."""
        return self._app.exchanges + self._passing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange: answered here if the function belongs here, is loaded here, or was passed on to here."""
        address = self._elsewhere(scope)
        if address is None:
            await self._app(scope, receive, send)
            return
        self._passing += 1
        try:
            await self._pass_on(address, scope, receive, send)
        except Disconnected:
            return
        except Exception as error:  # the edge turns every fault into an answer
            await exchange.send_error(send, error, exchange.request_id(scope))
        finally:
            self._passing -= 1

    async def close(self) -> None:
        """Closes its connections. Idempotent."""
        await self._client.aclose()

    def _elsewhere(self, scope: Scope) -> str | None:
        if len(self.peers) < 2 or scope["type"] != "http" or exchange.header(scope, PASSED):
            return None
        holding = self._library.find(scope["path"])
        if holding is None or (holding.function is not None and holding.spec.sequences is None):  # all calls of a sequence go to one host
            return None
        owner = owner_of(holding.name, self.peers)
        return None if owner == self._me else self.peers[owner]

    async def _pass_on(self, address: str, scope: Scope, receive: Receive, send: Send) -> None:
        holding = self._library.find(scope["path"])
        assert holding is not None
        limits, now = holding.spec.limits, time.monotonic()
        patience = patience_of(dict(scope["headers"]), limits.request_timeout_s, now, time.time())
        if patience.left_s(now) <= 0:
            raise patience.over()
        parcel = Parcel((self._app.room,), holding.expected_s)
        try:
            async with Caller(scope, receive, patience) as caller:
                body = await caller.body(limits.max_body_bytes, parcel)
                scope = {**scope, "headers": stamped(scope["headers"], patience, time.monotonic(), time.time())}
                if await self._ask(address, scope, body, patience, send):
                    return
        finally:
            parcel.end()
        await self._app(scope, _again(body, receive), send)

    async def _ask(self, address: str, scope: Scope, body: bytes, patience: Patience, send: Send) -> bool:
        """Whether the other host has answered; a stream that breaks off ends without its last message, which cuts the connection."""
        relay = Relay(send)
        headers = [(key, value) for key, value in scope["headers"] if key not in (b"connection", b"transfer-encoding", b"host")]
        query = scope["query_string"]
        url = httpx.URL(scheme="http", host=address.rpartition(":")[0], port=int(address.rpartition(":")[2])).copy_with(
            raw_path=scope.get("raw_path", scope["path"].encode()) + (b"?" + query if query else b"")
        )
        try:
            async with asyncio.timeout(patience.left_s(time.monotonic()) + GRACE_S) as wait:
                self._asked[address].add(wait)
                headers.append((PASSED, b"1"))
                patient = httpx.Timeout(None, connect=CONNECT_S)
                async with self._client.stream(scope["method"], url, content=body, headers=headers, timeout=patient) as answer:
                    await relay.run(answer, wait)
        except (httpx.TransportError, TimeoutError):
            pass
        finally:
            if address in self._asked:
                self._asked[address].discard(wait)
        return relay.has_begun


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be read once more; after it, the caller himself."""
    given = False

    async def message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        first: dict[str, Any] = {"type": "http.request", "body": body, "more_body": False}
        return first

    return message
