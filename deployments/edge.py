"""What stands between HAProxy and Ray Serve's own request handling in every process that serves HTTP.

Three things happen here, through the hook Ray offers for it (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``):

1. Ray Serve lets a caller switch off its deadline (``x-request-timeout-seconds: 0``) and its watch for disconnects, and a malformed
   value of the first raises in it. Both headers end here.
2. In a function's replica, calls go straight to the function's routes. Serve's handling of a request (request context, two tasks, a
   log line, metrics) was measured at 60 to 110 us of processor time a call, of 222 to 271 us for a trivial function. What Serve
   would have counted is counted by the function: calls in flight go to the autoscaler as a metric of ours (``autoscale``), and a
   replica that stops waits for them (``replica``).

3. In the proxy that holds the calls of functions without a replica, each call rings for one, and is answered 504 at
   the function's own deadline (``bell``).

A replica that ``wakeful`` deploys is told its prefix. Of one that ``serve deploy`` deploys, Serve alone knows it: the first call takes
Serve's way, the application sees the prefix in ``root_path``, and later calls take the short one. Health checks and everything else
always take Serve's.
"""

from __future__ import annotations

import asyncio

from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.bell import ring
from deployments.serves import Serves
from runtime.errors import DeadlineExceeded
from runtime.http.exchange import request_id, send_error
from runtime.http.identity import RequestIds

_OURS_TO_SET = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")


class Edge:
    """A function's calls, or a host's, to their application, everything else to Serve, without the caller's two headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._serve = app
        self._function: ASGIApp | None = None
        self._prefix = ""
        self._is_proxy = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""
        if self._function is None:
            self._learn(scope)
        if self._function is not None and scope["type"] == "http" and scope["path"].startswith(self._prefix):
            await self._function({**scope, "root_path": self._prefix}, receive, send)
            return
        if scope["type"] == "http":
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _OURS_TO_SET]
        timeout_s = ring(scope["path"]) if self._is_proxy and scope["type"] == "http" else None
        if timeout_s is None:
            await self._serve(scope, receive, send)
        else:
            await self._in_time(timeout_s, scope, receive, send)

    async def _in_time(self, timeout_s: float, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve would hold the call for as long as no replica comes."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(timeout_s):
                await self._serve(scope, receive, noted)
        except TimeoutError:
            if has_begun:
                raise
            message = f"no replica has woken within the {timeout_s:g} s of request_timeout_s; the wake goes on."
            await send_error(send, DeadlineExceeded(message, retry_after_s=1), request_id(scope))

    def _learn(self, scope: Scope) -> None:
        """Ray names the replica's object only after its server has started, and the object may learn its prefix by its first call."""
        try:
            servable = serve.get_replica_context().servable_object
        except RayServeException:  # the proxy that holds the calls of functions without a replica
            self._is_proxy = True
            return
        if not isinstance(servable, Serves):
            return
        if scope.get("server"):
            servable.address = ":".join(map(str, scope["server"]))
        routes = servable.routes
        if routes is not None and routes.prefix:  # at / all would be the function's
            self._function, self._prefix = RequestIds(routes), routes.prefix


def middlewares() -> list[Middleware]:
    """What Ray puts in front of its own handling."""
    return [Middleware(Edge)]
