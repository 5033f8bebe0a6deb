"""What stands between HAProxy and Ray Serve's own request handling in every replica.

Ray Serve lets a caller switch off its deadline (``x-request-timeout-seconds: 0``) and its watch for disconnects, and a malformed
value of the first raises in it. Both headers end here. For a function's replica the watch is then switched off for every request:
it costs Serve two tasks a request, and our routes watch by themselves, for calls that take long enough to be left.

Ray calls ``middlewares`` in each process that serves HTTP (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``).
"""

from __future__ import annotations

from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

_TIMEOUT, _UNWATCHED = b"x-request-timeout-seconds", b"x-request-disconnect-disabled"


class Edge:
    """Pure ASGI: drops the caller's two headers, and sets the second where a function watches for itself."""

    def __init__(self, app: ASGIApp, *, watches: bool) -> None:
        self._app = app
        self._own = [(_UNWATCHED, b"?1")] if watches else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""
        if scope["type"] == "http":
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != _TIMEOUT and pair[0] != _UNWATCHED] + self._own
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """For a replica, or for the fallback proxy, which holds the calls of sleeping functions and must know when a caller leaves."""
    try:
        watches = serve.get_replica_context().deployment == "Function"
    except RayServeException:
        watches = False
    return [Middleware(Edge, watches=watches)]
