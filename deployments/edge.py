"""What stands between HAProxy and Ray Serve's own request handling in every process that serves HTTP.

Three things happen here, through the hook Ray offers for it (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``):

1. Ray Serve lets a caller switch off its deadline (``x-request-timeout-seconds: 0``) and its watch for disconnects, and a malformed
   value of the first raises in it. The second header ends here, the first goes on under a name of ours (``runtime.http.patience``).
2. In a function's replica, calls go straight to the function's routes. Serve's handling of a request (request context, two tasks, a
   log line, metrics) was measured at 60 to 110 us of processor time a call, of 222 to 271 us for a trivial function. What Serve
   would have counted is counted by the function: calls in flight go to the autoscaler as a metric of ours (``autoscale``), and a
   replica that stops waits for them (``replica``).

3. In the proxy that holds the calls of functions without a replica, each call rings for one (``bell``), is passed on again if the replica
   that took it dies (``standby``), and is answered 504 at its deadline.

A replica that ``wakeful`` deploys is told its prefix. Of one that ``serve deploy`` deploys, Serve alone knows it: the first call takes
Serve's way, the application sees the prefix in ``root_path``, and later calls take the short one. Health checks and everything else
always take Serve's.
"""

from __future__ import annotations

import time
from typing import Final

from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.bell import Rung, ring
from deployments.serves import Serves
from deployments.standby import Standby
from runtime.errors import DeadlineExceeded
from runtime.http.identity import RequestIds
from runtime.http.patience import patience_of

_RENAMED: Final = {b"x-request-timeout-seconds": b"x-wakeful-timeout-seconds"}
_DROPPED: Final = frozenset({b"x-request-disconnect-disabled", *_RENAMED.values()})


class Edge:
    """A function's calls, or a host's, to their application, everything else to Serve, without the caller's headers that Serve obeys."""

    def __init__(self, app: ASGIApp) -> None:
        self._serve = app
        self._standby = Standby(app)
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
            scope["headers"] = [(_RENAMED.get(key, key), value) for key, value in scope["headers"] if key not in _DROPPED]
        rung = ring(scope["path"]) if self._is_proxy and scope["type"] == "http" else None
        if rung is None:
            await self._serve(scope, receive, send)
        else:
            await self._stand_by(rung, scope, receive, send)

    async def _stand_by(self, rung: Rung, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ours alone: others' applications need not be pure, and what they answer in plain text is theirs."""
        now = time.monotonic()
        patient = patience_of(dict(scope["headers"]), rung.timeout_s, now, time.time())
        late = (
            f"no replica has answered within the {patient.allowed_s:g} s that the caller and request_timeout_s allow; one is being started."
        )
        await self._standby(
            scope,
            receive,
            send,
            deadline=now + patient.left_s(now),
            late=DeadlineExceeded(late, retry_after_s=1),
            is_declared=rung.path.exists,
        )

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
