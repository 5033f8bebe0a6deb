"""Whether a request came through the edge: through HAProxy, which has compared its key, and has
taken away what its client sent under our names.

A process behind the edge listens on a port of its own, and whatever reaches that could call past
the edge, with any ``x-wakeful-key``. So where keys are on, clients need certificates, or other
machines reach the port, a process answers only requests that carry a secret: the edge's, which
HAProxy adds, or that of calls of functions by functions (``runtime.http.function_routes``).

``GuardedHandler`` stands before a handler, so both transports have it, and a connection that was
taken over as well. Where it is not wanted it is not there, and nothing is on the way of a call.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, Final

from runtime.errors import NotThroughEdge
from runtime.http.exchange import AnyResponse, Handler, Request
from runtime.http.function_routes import SECRET_HEADER
from runtime.http.request_headers import ARRIVAL, Header, key_name
from runtime.system.telemetry.counters import DISCONNECTED
from runtime.system.telemetry.key_counts import KeyCounts

EDGE_HEADER: Final = b"x-wakeful-edge"

LIVE: Final = "/v2/health/live"
"""Open to all: it says that the process answers, and nothing else."""


class EdgeGuard:
    """Tells requests that came through the edge, or from a function, from all others.

    Args:
        edge: the secret that HAProxy adds to each request.
        inner: the secret of calls of functions by functions; empty: there are none over HTTP.
        open_paths: answered without either.

    Raises:
        ValueError: the edge has no secret, so every request would have it.
    """

    def __init__(
        self, edge: bytes, inner: bytes = b"", *, open_paths: Collection[str] = (LIVE,)
    ) -> None:
        if not edge:
            raise ValueError("the edge has no secret.")
        self._edge = edge
        self._inner = inner
        self._open_paths = frozenset(open_paths)

    def came_through(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether the edge has passed the request on.

        Args:
            fields: the headers, by name in lower case.
        """
        return hmac.compare_digest(fields.get(EDGE_HEADER, b""), self._edge)

    def is_inner(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a function calls, or a command of the operator."""
        inner = self._inner
        return bool(inner) and hmac.compare_digest(fields.get(SECRET_HEADER, b""), inner)

    def is_open(self, path: str) -> bool:
        """Whether a path (``Request.path``) is answered without a secret."""
        return path in self._open_paths

    def lets_in(self, path: str, headers: Iterable[Header]) -> bool:
        """Whether a request is answered.

        Args:
            path: as of ``is_open``.
            headers: names in lower case; of several of one name the first counts.
        """
        fields = dict(reversed(list(headers)))
        return self.is_open(path) or self.came_through(fields) or self.is_inner(fields)


class KeyedHandler:
    """A handler whose requests have the names of their keys, as the edge says them: for what comes
    here from a process that has seen that it came through. Implements
    ``runtime.http.exchange.Handler``.

    Args:
        keys: counts requests with a key; None: they are not counted.
    """

    def __init__(self, handler: Handler, keys: KeyCounts | None = None) -> None:
        self._handler = handler
        self._keys = keys

    @property
    def prefix(self) -> str | None:
        """Of the handler behind it."""
        return self._handler.prefix

    @property
    def exchanges(self) -> int:
        """Of the handler behind it, which what is refused here does not reach."""
        return self._handler.exchanges

    def is_hot(self, target: bytes) -> bool:
        """As the handler behind it says; what is refused needs no task either."""
        return self._handler.is_hot(target)

    def handle(self, request: Request) -> Coroutine[Any, Any, AnyResponse | None]:
        """As of ``Handler``; no coroutine of its own, which would be a step more for each call."""
        self._read_key(request)
        return self._handler.handle(request)

    def _read_key(self, request: Request) -> None:
        key = key_name(request.fields)
        if not key:
            return
        record, keys = request.record, self._keys
        record.key = key
        if keys is not None:
            request.at_end(lambda: keys.record(key, record.status or DISCONNECTED))


class GuardedHandler(KeyedHandler):
    """A handler that answers nothing past the edge.

    Args:
        keys: as of ``KeyedHandler``, of what came through the edge.
        localize: returns when a request arrived by this machine's clock, of the header
            ``x-wakeful-call`` and seconds since the epoch; None: no other machine's clock is in it.
    """

    def __init__(
        self,
        handler: Handler,
        guard: EdgeGuard,
        keys: KeyCounts | None = None,
        localize: Callable[[bytes, float], bytes] | None = None,
    ) -> None:
        super().__init__(handler, keys)
        self._guard = guard
        self._localize = localize

    def handle(self, request: Request) -> Coroutine[Any, Any, AnyResponse | None]:
        """As of ``KeyedHandler``."""
        fields, guard = request.fields, self._guard
        if guard.came_through(fields):
            self._read_key(request)
        elif guard.is_inner(fields):
            request.record.key = key_name(fields)  # of the call that this one is made for
        elif not guard.is_open(request.path):
            return _refuse(request)
        if self._localize is not None and (arrival := fields.get(ARRIVAL)) is not None:
            fields[ARRIVAL] = self._localize(arrival, time.time())
        return self._handler.handle(request)


async def _refuse(request: Request) -> AnyResponse:
    return request.error_response(not_through_edge())


def not_through_edge() -> NotThroughEdge:
    """Return the error of a request that came past the edge."""
    return NotThroughEdge(
        "this process answers what its edge passes on, and the request came past it; call the"
        " server's own address."
    )
