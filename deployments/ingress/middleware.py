"""ASGI middleware in front of Ray Serve's own request handling, in each of its processes that
serves HTTP (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names ``middlewares``).

Paths are compared as HAProxy compares them (``normalized_path``), which decides by them what a key
opens.

1. In every process: a client's headers cannot change how Serve treats the request. With
   ``x-request-timeout-seconds: 0`` a client switches off its deadline, a malformed value raises in
   Serve, and ``x-request-disconnect-disabled`` switches off the watch for disconnects. The second
   header is dropped; the first goes on under a name of ours (``runtime.http.request_headers``).
2. In a replica and in the host: requests go straight to the application. Serve's handling of a
   request (request context, two tasks, a log line, metrics) was measured at 60 to 110 us of
   processor time a call, of 222 to 271 us for a trivial function. What Serve would have counted the
   function counts: calls in flight go to the autoscaler as a metric of ours
   (``deployments.scaling.serve_policy``), and a replica that stops waits for them
   (``deployments.serving.replica``). Short calls do not even come here, once a connection has
   served its first request (``runtime.http.transport.hot_connection``).
3. In every process: what has come past HAProxy is refused, where that is asked for (``edge``).
4. In the proxy that holds the calls of functions without a replica: each call requests a wake
   (``wake_signal``), is refused if more calls wait than may, is sent again if the replica that took
   it dies (``replay``), and is answered 504 at its deadline.

5. In every process: HTTP is read as ``wakeful run`` reads it (``ReplicaProtocol``). Ray makes
   uvicorn's server and leaves the choice of its protocol to it. HAProxy passes trailers on, and the
   handshakes of WebSockets, and a client that calls a replica past it sends anything.

A replica that ``wakeful`` deploys gets its prefix. The prefix of one that ``serve deploy`` deploys
is known to Serve alone: the first call takes Serve's way, the application sees the prefix in
``root_path``, and later calls go straight. Health checks and everything else always take Serve's
way.

Every process of Ray imports this module before it gets work (``RAY_preload_python_modules``), and
with it all that Serve's processes need anyway. So a process that is started ahead has done these
imports; the others do the same work in another order.
"""

from __future__ import annotations

import time
from typing import Final

from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.edge import Edge
from deployments.ingress.replay import UNKNOWN_APP_TERMS, ReplayProxy, send_refusal
from deployments.ingress.wake_signal import WakeRequest, WakeSignals
from deployments.ray_support.ray_internals import keep_inner_grpc_local, quiet_handles
from deployments.ray_support.texts import NO_DISCONNECT_HEADER, SERVE_PATHS, TIMEOUT_HEADER
from runtime.errors import DeadlineExceeded
from runtime.http.asgi import AsgiApp
from runtime.http.exchange import Handler, normalized_path
from runtime.http.request_headers import read_deadline
from runtime.http.transport import contract, protocol
from runtime.http.transport.edge import EdgeGuard, GuardedHandler, not_through_edge
from runtime.system.telemetry.key_counts import KeyCounts

_RENAMED: Final = {TIMEOUT_HEADER: b"x-wakeful-timeout-seconds"}
_DROPPED: Final = frozenset({NO_DISCONNECT_HEADER, *_RENAMED.values()})


def middlewares() -> list[Middleware]:
    """Return what Ray puts in front of its own request handling. Ray calls it before a proxy or a
    replica serves.
    """
    quiet_handles()
    keep_inner_grpc_local()
    contract.choose(ReplicaProtocol)
    return [Middleware(DirectIngress)]


ENDLESS: Final = "/console/events"
"""A response that ends when its client leaves, or the process: Serve would wait for it before it
ends a replica, end it at its own deadline, and count it as a call under way.
"""


class DirectIngressTarget:
    """Base of the deployed classes whose requests ``DirectIngress`` passes straight to them.

    Attributes:
        handler: answers the requests; set at the end of the constructor.
        address: ``host:port`` where the process itself listens, behind HAProxy; empty before its
            first request.
        keys: counts its requests by key; None: they are not counted.
        routes: answers what the handler does not, at ``ENDLESS``; None: nothing is there.
    """

    handler: Handler | None = None
    address: str = ""
    keys: KeyCounts | None = None
    routes: ASGIApp | None = None


class ReplicaProtocol(protocol.RequestProtocol):
    """The protocol of a connection to a process of Ray's. WebSockets are there for applications
    that are not ours.
    """

    head_timeout_s = None  # HAProxy has one; Ray's proxy also serves those other applications

    def takes_websocket(self) -> bool:
        """As of ``RequestProtocol``."""
        return not isinstance(_servable(), DirectIngressTarget)


def _servable() -> object:
    """Return the object that Ray has deployed in this process, which it names only after its server
    has started; None: there is none, as in a proxy.
    """
    try:
        return serve.get_replica_context().servable_object
    except RayServeException:
        return None


class DirectIngress:
    """Passes requests of a function, or of the host, straight to their application, and everything
    else to Serve, without the client's headers that Serve obeys.

    One in each process, on its event loop. Mutable state: ``_app``, its ``_guard`` and ``_prefix``
    once they are known, ``_is_proxy`` once it is known that the process has no replica.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._serve = app
        self._replay_proxy = ReplayProxy(app)
        self._wake_signals = WakeSignals()
        self._edge = Edge()
        self._guard: EdgeGuard | None = None
        self._app: AsgiApp | None = None
        self._prefix = ""
        self._is_proxy = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        guard = self._edge.guard
        if self._app is None or guard is not self._guard:
            self._find_target(scope, send, guard)
        raw_path = scope.get("raw_path") or b""
        path = normalized_path(scope.get("path", ""), raw_path)  # a lifespan has none
        if self._app is not None and scope["type"] == "http" and path.startswith(self._prefix):
            await self._app({**scope, "root_path": self._prefix}, receive, send)
            return
        if guard is not None and not _is_let_in(guard, scope, path):
            await _refuse(scope, send)
            return
        if self._app is not None and scope["type"] == "http" and path == ENDLESS:
            await self._app(scope, receive, send)
            return
        if (self._is_proxy or self._app is not None) and b"%2f" in raw_path.lower():
            # Serve chooses by the path as ASGI has it, decoded: another application would answer
            # than the one that HAProxy has asked a key for, and that is woken here
            scope = {**scope, "path": path}
        if scope["type"] == "http":
            scope["headers"] = [
                (_RENAMED.get(key, key), value)
                for key, value in scope["headers"]
                if key not in _DROPPED
            ]
        if not self._is_proxy or scope["type"] != "http" or path.startswith(SERVE_PATHS):
            await self._serve(scope, receive, send)
            return
        request = self._wake_signals.request_wake(path)
        if request is None:
            await self._replay_proxy(scope, receive, send, prefix="", terms=UNKNOWN_APP_TERMS)
        else:
            await self._hold(request, scope, receive, send)

    async def _hold(self, request: WakeRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold a call of a function of ours until a replica answers it. Not calls of other
        applications: these need not be pure, and their errors in plain text are their own.
        """
        now = time.monotonic()
        clock, fields = time.time(), dict(scope["headers"])
        if self._edge.clocks is not None:
            fields = dict(self._edge.clocks.localize_headers(fields, clock))
        deadline = read_deadline(fields, request.terms.timeout_s, now, clock)
        message = (
            f"no replica has answered within the {deadline.allowed_s:g} s that the caller and "
            "request_timeout_s allow."
        )
        await self._replay_proxy(
            scope,
            receive,
            send,
            prefix=request.prefix,
            terms=request.terms,
            deadline=now + deadline.remaining_s(now),
            expired_error=DeadlineExceeded(message, retry_after_s=1),
            is_deployed=request.path.exists,
        )

    def _find_target(self, scope: Scope, send: Send, guard: EdgeGuard | None) -> None:
        """Look for the object that Ray deployed in this process. Ray names it only after its server
        has started, and the object may learn its prefix by its first request. Or have what it was
        found with stand behind another guard, on all connections that there are.

        Args:
            guard: what stands before it; None: nothing does.
        """
        try:
            servable = serve.get_replica_context().servable_object
        except RayServeException:  # the proxy that holds the calls of functions without a replica
            self._is_proxy = True
            return
        if not isinstance(servable, DirectIngressTarget):
            return
        if scope.get("server"):
            servable.address = ":".join(map(str, scope["server"]))
        handler = servable.handler
        if handler is not None and handler.prefix:  # at / all requests would be the function's
            clocks = self._edge.clocks
            localize = None if clocks is None else clocks.localize
            guarded = (
                handler
                if guard is None
                else GuardedHandler(handler, guard, servable.keys, localize)
            )
            if self._app is None:
                self._app = AsgiApp(guarded, servable.routes)
            else:
                self._app.change_handler(guarded, send)
            self._guard, self._prefix = guard, handler.prefix


def _is_let_in(guard: EdgeGuard, scope: Scope, path: str) -> bool:
    """Whether it may be answered: a request or a WebSocket that came through the edge, or what a
    server asks its application.
    """
    return scope["type"] == "lifespan" or guard.lets_in(path, scope["headers"])


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send_refusal(scope, send, not_through_edge())


class PicklableResponses:
    """Makes an application's messages picklable, for the requests that Ray Serve passes to it: from
    its proxy, while HAProxy does not know of a replica yet.

    Serve pickles each message then, and a view of memory cannot be pickled: a tensor that was sent
    from where it lies made the call hang until its deadline.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the lifespan."""

        async def send_picklable(message: Message) -> None:
            if isinstance(body := message.get("body"), memoryview):
                message = {**message, "body": bytes(body)}
            await send(message)

        await self._app(scope, receive, send_picklable)
