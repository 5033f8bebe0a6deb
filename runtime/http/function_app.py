"""The routes of one function under its prefix.

    POST PREFIX            call it: an object in, an object out; an array in, an array out
    POST PREFIX/infer      Open Inference Protocol v2 inference
    GET  PREFIX            v2 model metadata
    GET  PREFIX/ready      v2 model readiness
    the same under PREFIX/versions/1

Plain ASGI on purpose: six fixed paths need one dictionary, and Starlette's router, Request and Response cost as much again as the
rest of a short call.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send

from runtime.batching.rows import Call
from runtime.errors import MethodNotAllowed, NotFound, WakefulError, WrongDatatype
from runtime.function import Function
from runtime.http import exchange
from runtime.http.caller import Caller, Disconnected
from runtime.wire import check_outputs, decode, dumps, encode, loads, read_header_length

_ROUTES = {f"{version}{tail}": tail for version in ("", "/versions/1") for tail in ("", "/infer", "/ready")}
_TAKES = {"": "POST to call it, GET for its metadata", "/infer": "POST", "/ready": "GET"}


class FunctionApp:
    """An ASGI application around a loaded function; mounted at its prefix, which stands in the scope's ``root_path``.

    Args:
        function: loaded; not closed here.

    Attributes:
        prefix: where it is mounted, once an exchange has told; None before.
        exchanges: HTTP exchanges that have begun and not ended, their answers not yet sent.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.prefix: str | None = None
        self.exchanges = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange, or the lifespan that servers ask every application for."""
        if scope["type"] != "http":
            await other(scope, receive, send)
            return
        identity = exchange.request_id(scope)
        self.prefix = scope["root_path"]
        self.exchanges += 1
        try:
            await self._answer(scope, receive, send, identity)
        except Disconnected:
            return
        except Exception as error:  # the edge turns every fault into an answer
            await exchange.send_error(send, error, identity)
        finally:
            self.exchanges -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        path, method = scope["path"][len(scope["root_path"]) :], scope["method"]
        route = _ROUTES.get(path)
        if route is None:
            raise NotFound(f"no such route; the function {self.function.spec.name!r} answers at {scope['root_path']}, /infer and /ready.")
        if method == "POST" and route == "":
            await self._call(scope, receive, send, identity)
        elif method == "POST" and route == "/infer":
            await self._infer(scope, receive, send, identity)
        elif method in ("GET", "HEAD") and route != "/infer":
            await self._look(route, send)
        else:
            raise MethodNotAllowed(f"this route takes {_TAKES[route]}.")

    async def _call(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        exchange.json_is_sent(scope)
        answer: Any
        call: Call | None
        async with Caller(scope, receive) as caller:
            data = loads(await caller.body(self.function.spec.limits.max_body_bytes))
            if isinstance(data, dict):
                answer, call = await self.function.call_row(data, identity)
            elif isinstance(data, list):
                outcomes, call = await self.function.call_rows(data, identity)
                answer = [row.body(identity) if isinstance(row, WakefulError) else row for row in outcomes]
            else:
                raise WrongDatatype("a call is a JSON object, or an array of them.")
        await exchange.send_json(send, dumps(answer), (exchange.server_timing(call),))

    async def _infer(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        async with Caller(scope, receive) as caller:
            body = await caller.body(self.function.spec.limits.max_body_bytes)
            request = decode(body, read_header_length(exchange.headers(scope, b"inference-header-content-length")))
            check_outputs(request, self.function.answer)
            response, call = await self.function.infer(request, identity)
        encoded, length = encode(response, request)
        if length is None:
            assert isinstance(encoded, bytes)
            await exchange.send_json(send, encoded, (exchange.server_timing(call),))
        else:
            head = (b"inference-header-content-length", b"%d" % length)
            await exchange.send_chunks(send, encoded, (head, exchange.server_timing(call)))  # type: ignore[arg-type]  # chunks when binary

    async def _look(self, route: str, send: Send) -> None:
        """Metadata and readiness."""
        function = self.function
        look = {"name": function.spec.name, "ready": function.is_healthy} if route else function.metadata()
        await exchange.send_json(send, dumps(look), status=503 if route and not function.is_healthy else 200)


async def other(scope: Scope, receive: Receive, send: Send) -> None:
    """Lifespan is acknowledged; a WebSocket is refused by closing it."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
