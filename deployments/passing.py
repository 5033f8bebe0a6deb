"""Several hosts, and each sleeping function belongs to one of them: the others pass its calls on, so that it is loaded once.

Who owns a function follows from the names alone (rendezvous hashing: Thaler and Ravishankar, *A name-based mapping scheme for
rendezvous*, 1996), so hosts agree without asking each other, and when one goes only its own functions move. A call that cannot be
passed on is answered here: inference is pure, and the body is at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx
from starlette.types import Message, Receive, Scope, Send

from runtime.http import exchange
from runtime.http.caller import Caller, Disconnected
from runtime.http.library_app import LibraryApp
from runtime.library import Library

PASSED: Final = b"x-wakeful-passed"
"""On a call that was passed on: it is answered where it arrives. A caller who sets it skips a hop, and gains or breaks nothing."""

CONNECT_S: Final = 0.5
"""Longest wait for a connection to a host of the same machine or rack."""

CONNECTIONS: Final = 1024
"""Calls that are passed on at once; more wait for one of them, within their deadline."""

GRACE_S: Final = 2.0
"""Beyond the function's own deadline, which the other host keeps."""

_KEPT_HERE: Final = frozenset({b"connection", b"transfer-encoding", b"content-length", b"date", b"server", b"x-request-id", b"host"})


def owner_of(name: str, hosts: Iterable[str]) -> str:
    """The host that a function belongs to: the one whose hash with the name is greatest. The same wherever it is asked."""
    return max(hosts, key=lambda host: hashlib.blake2b(f"{host}\0{name}".encode(), digest_size=8).digest())


class Passing:
    """The routes of one host among several.

    Args:
        me: this host's id.

    Attributes:
        prefix, exchanges: as of ``LibraryApp``.
        peers: address (``host:port``) by id of every host that is known to live, this one included.
    """

    def __init__(self, app: LibraryApp, library: Library, me: str) -> None:
        self._app = app
        self._library = library
        self._me = me
        self._client = httpx.AsyncClient(limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=64))
        self._passing = 0
        self.peers: Mapping[str, str] = {}

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
        if holding is None or holding.function is not None:
            return None
        owner = owner_of(holding.name, self.peers)
        return None if owner == self._me else self.peers[owner]

    async def _pass_on(self, address: str, scope: Scope, receive: Receive, send: Send) -> None:
        holding = self._library.find(scope["path"])
        assert holding is not None
        limits = holding.spec.limits
        async with Caller(scope, receive) as caller:
            body = await caller.body(limits.max_body_bytes)
            answer = await self._ask(address, scope, body, limits.request_timeout_s + GRACE_S)
        if answer is None:
            await self._app(scope, _again(body, receive), send)
            return
        headers = [(key, value) for key, value in answer.headers.raw if key.lower() not in _KEPT_HERE]
        length = (b"content-length", b"%d" % len(answer.content))
        await send({"type": "http.response.start", "status": answer.status_code, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": answer.content})

    async def _ask(self, address: str, scope: Scope, body: bytes, timeout_s: float) -> httpx.Response | None:
        """The other host's answer; None when it cannot be had, whatever the reason."""
        headers = [(key, value) for key, value in scope["headers"] if key not in (b"connection", b"transfer-encoding", b"host")]
        query = scope["query_string"]
        url = httpx.URL(scheme="http", host=address.rpartition(":")[0], port=int(address.rpartition(":")[2])).copy_with(
            raw_path=scope.get("raw_path", scope["path"].encode()) + (b"?" + query if query else b"")
        )
        try:
            return await self._client.request(
                scope["method"], url, content=body, headers=[*headers, (PASSED, b"1")], timeout=httpx.Timeout(timeout_s, connect=CONNECT_S)
            )
        except httpx.TransportError:
            return None


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
