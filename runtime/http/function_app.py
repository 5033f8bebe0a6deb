"""The routes of one function under its prefix.

    POST PREFIX            call it: an object in, an object out; an array in, an array out
    POST PREFIX/infer      Open Inference Protocol v2 inference
    GET  PREFIX            v2 model metadata
    GET  PREFIX/ready      v2 model readiness
    POST PREFIX/generate_stream, PREFIX/generate       of a function that streams: Triton's generate extension
    the same under PREFIX/versions/1

Plain ASGI on purpose: ten fixed paths need one dictionary, and Starlette's router, Request and Response cost as much again as the
rest of a short call.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from runtime.batching.rows import Ask, Call
from runtime.errors import MethodNotAllowed, NotFound, WrongDatatype
from runtime.function import Function
from runtime.http import exchange, inner, sequence, streams
from runtime.http.answers import Outcome, is_large, is_long, rows_text
from runtime.http.aside import LARGE_BYTES, Aside
from runtime.http.bodies import Parcel, Room
from runtime.http.caller import Caller, Disconnected
from runtime.http.patience import Patience, patience_of
from runtime.wire import (
    InferRequest,
    check_outputs,
    decode,
    dumps,
    encode,
    loads,
    read_header_length,
    refuse_repeated_keys_of,
)
from runtime.witness.condemned import Condemned, refusal
from runtime.witness.fingerprint import fingerprint

GENERATES = ("/generate", "/generate_stream")
"""Of functions that stream."""

_ROUTES = {f"{version}{tail}": tail for version in ("", "/versions/1") for tail in ("", "/infer", "/ready", *GENERATES)}
_TAKES = {"": "POST to call it, GET for its metadata", "/infer": "POST", "/ready": "GET", **dict.fromkeys(GENERATES, "POST")}


HEADER_LENGTH: Final = b"inference-header-content-length"

Answer = Callable[[Send], Awaitable[None]]
"""Sends what has been computed and encoded."""


class FunctionApp:
    """An ASGI application around a loaded function; mounted at its prefix, which stands in the scope's ``root_path``.

    Args:
        function: loaded; not closed here.
        condemned: knows rows that must not share a batch, or not run; None: nobody does.
        room: for bodies of all functions of the process; None: there is only this one.
        aside: where the process reads and writes what is large; None: as with ``room``.

    Attributes:
        prefix: where it is mounted, once an exchange has told; None before.
        exchanges: HTTP exchanges that have begun and not ended, their answers not yet sent.
    """

    def __init__(
        self, function: Function, condemned: Condemned | None = None, *, room: Room | None = None, aside: Aside | None = None
    ) -> None:
        self.function = function
        self.prefix: str | None = None
        self.exchanges = 0
        self._condemned = condemned
        own = Room(lambda: function.capacity.bytes)
        self._rooms = (own,) if room is None else (own, room)
        self._aside = aside or Aside()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, patience: Patience | None = None) -> None:
        """One HTTP exchange, or the lifespan that servers ask every application for.

        Args:
            patience: the caller's, where it has begun to run out before; None: his headers tell.
        """
        if scope["type"] != "http":
            await other(scope, receive, send)
            return
        identity = exchange.request_id(scope)
        self.prefix = scope["root_path"]
        self.exchanges += 1
        try:
            await self._answer(scope, receive, send, identity, patience)
        except Disconnected:
            return
        except Exception as error:  # the edge turns every fault into an answer
            await exchange.send_error(send, error, identity)
        finally:
            self.exchanges -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, identity: str, patience: Patience | None) -> None:
        path, method = scope["path"][len(scope["root_path"]) :], scope["method"]
        route = _ROUTES.get(path)
        if route is None or (route in GENERATES and not self.function.streams):
            raise NotFound(f"no such route; the function {self.function.spec.name!r} answers at {scope['root_path']}, /infer and /ready.")
        if method == "POST" and route != "/ready":
            await self._compute(route, scope, receive, send, identity, patience)
        elif method in ("GET", "HEAD") and route in ("", "/ready"):
            await self._look(route, send)
        else:
            raise MethodNotAllowed(f"this route takes {_TAKES[route]}.")

    async def _compute(self, route: str, scope: Scope, receive: Receive, send: Send, identity: str, patience: Patience | None) -> None:
        limits, now = self.function.spec.limits, time.monotonic()
        if patience is None:
            patience = patience_of(dict(scope["headers"]), limits.request_timeout_s, now, time.time())
        if patience.left_s(now) <= 0:
            raise patience.over()
        is_inner = not route and inner.is_sent(scope)
        is_raw = not (route or is_inner) and exchange.is_raw(scope, self.function.spec.accepts)
        tensors_at = read_header_length(exchange.headers(scope, HEADER_LENGTH)) if route == "/infer" else 0 if is_inner else None
        parcel = Parcel(self._rooms, self._backlog_s)
        try:
            async with Caller(scope, receive, patience) as caller:
                body = await caller.body(limits.max_body_bytes, parcel, tensors_at)
                if self.function.streams and not is_inner:
                    await self._stream(route, bytes(body), is_raw, scope, identity, patience, send)
                    return
                if is_inner:
                    answer = await self._inner(body, identity, patience)
                else:
                    answer = await (
                        self._infer(scope, body, identity, patience)
                        if route
                        else self._call(scope, bytes(body), is_raw, identity, patience)
                    )
            await answer(send)
        finally:
            parcel.end()

    async def _call(self, scope: Scope, body: bytes, is_raw: bool, identity: str, patience: Patience) -> Answer:
        is_long = len(body) >= LARGE_BYTES and not is_raw
        rows = await self._aside.run_if(is_long, patience, lambda: self._checked(body, is_raw))
        ask = self._in_sequence(self._ask(body, identity, patience), scope)
        call: Call | None
        if isinstance(rows, dict):
            row, call = await self.function.run_row(rows, ask)
            text = dumps(row)
        else:
            outcomes, call = await self.function.run_rows(rows, ask)
            text = await self._aside.run_if(is_large(outcomes), patience, lambda: rows_text(outcomes, identity))
        return lambda send: exchange.send_json(send, text, (exchange.server_timing(call),))

    async def _stream(self, route: str, body: bytes, is_raw: bool, scope: Scope, identity: str, patience: Patience, send: Send) -> None:
        """The caller is watched until the last item is sent: a stream that nobody reads ends."""
        form = streams.form_for(route, exchange.headers(scope, b"accept"))
        is_long = len(body) >= LARGE_BYTES and not is_raw
        row, writing = await self._aside.run_if(
            is_long, patience, lambda: streams.read(self.function, route, body, is_raw, form, send, identity)
        )
        await writing.run(self.function, row, self._in_sequence(self._ask(body, identity, patience), scope))

    async def _infer(self, scope: Scope, body: bytes | memoryview, identity: str, patience: Patience) -> Answer:
        length = read_header_length(exchange.headers(scope, HEADER_LENGTH))
        request, rows = await self._aside.run_if(_takes_long(body, length), patience, lambda: self._decoded(body, length))
        patience = patience.lowered(request.timeout_s)
        response, call = await self.function.infer(request, self._in_sequence(self._ask(body, identity, patience), scope, request), rows)
        encoded, json_bytes = await self._aside.run_if(is_long(response, request), patience, lambda: encode(response, request))
        timing = exchange.server_timing(call)
        if isinstance(encoded, bytes):
            return lambda send: exchange.send_json(send, encoded, (timing,))
        assert json_bytes is not None
        head = (HEADER_LENGTH, b"%d" % json_bytes)
        return lambda send: exchange.send_chunks(send, encoded, (head, timing))

    async def _inner(self, body: bytes | memoryview, identity: str, patience: Patience) -> Answer:
        rows = await self._aside.run_if(inner.takes_long(body), patience, lambda: inner.checked(self.function, body))
        outcomes, call = await self.function.run_rows(rows, self._ask(body, identity, patience), as_values=True)
        return lambda send: inner.send(send, outcomes, (exchange.server_timing(call),))

    def _backlog_s(self) -> float:
        return self.function.backlog_s

    def _checked(self, body: bytes, is_raw: bool) -> dict[str, Any] | list[Outcome]:
        """The row of a body, or its rows; in any thread."""
        if is_raw:
            return self.function.validator.row({self.function.raw_field: body})
        data = loads(body)
        refuse_repeated_keys_of(body, data)
        if isinstance(data, dict):
            return self.function.validator.row(data)
        if isinstance(data, list):
            return self.function.check_rows(data)
        raise WrongDatatype("a call is a JSON object, or an array of them.")

    def _decoded(self, body: bytes | memoryview, length: int | None) -> tuple[InferRequest, Sequence[dict[str, Any]]]:
        """The request of a body, and its rows; in any thread."""
        request = decode(body, length)
        check_outputs(request, self.function.answer)
        return request, self.function.protocol.rows(request, self.function.spec.limits.max_rows)

    def _ask(self, body: bytes | memoryview, identity: str, patience: Patience) -> Ask:
        now = time.monotonic()
        if self._condemned is None:
            return Ask(identity, patience.left_s(now))
        name = self.function.spec.name
        mark = fingerprint(body, name)
        sentence = self._condemned.sentence(mark, patience.age_s(now))
        refused = dict.fromkeys(sentence.refused, refusal(name)) if sentence.refused else None
        return Ask(identity, patience.left_s(now), mark, sentence.alone, refused)

    def _in_sequence(self, ask: Ask, scope: Scope, request: InferRequest | None = None) -> Ask:
        """With the sequence that the call names, if the function keeps any."""
        if self.function.keeper is None:
            return ask
        return ask._replace(sequence=sequence.of_headers(scope) if request is None else sequence.of_parameters(request.parameters, scope))

    async def _look(self, route: str, send: Send) -> None:
        """Metadata and readiness."""
        function = self.function
        if not route:
            told = function.protocol.metadata()
            kinds = {name: True for name, holds in (("streams", function.streams), ("sequences", function.keeper is not None)) if holds}
            await exchange.send_json(send, dumps({**told, "parameters": kinds} if kinds else told))
            return
        trouble = function.trouble
        look = {"name": function.spec.name, "ready": not trouble, **({"reason": trouble} if trouble else {})}
        await exchange.send_json(send, dumps(look), status=503 if trouble else 200)


def _takes_long(body: bytes | memoryview, length: int | None) -> bool:
    """Whether reading a request does: much JSON, or many texts. Numbers in binary are taken from where they lie."""
    return len(body) >= LARGE_BYTES and (length is None or length >= LARGE_BYTES or b'"BYTES"' in bytes(body[:length]))


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
