"""A streamed answer over HTTP: as it comes, or whole, in the form that the caller accepts.

What ends a stream before its first item is an ordinary error answer with its status. Behind it the status is said, so the error comes
in the stream, and nothing comes after it. A connection that ends without ``event: done``, or in the middle of a chunked body, was cut.
``Server-Timing`` in the head is that of the first item; ``event: done`` has that of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from starlette.types import Send

from runtime.batching.rows import Ask
from runtime.errors import Draining, FunctionError, RequestError, TooLarge, WakefulError, WrongDatatype
from runtime.flow import STREAMS
from runtime.function import Function
from runtime.http import exchange
from runtime.http.forms import GENERATED, SINGLE, WHOLE, Form, form_of
from runtime.streaming import Streaming
from runtime.wire import dumps, loads, refuse_repeated_keys_of
from runtime.wire.responses import MODEL_VERSION

BEAT_S: Final = 15.0
"""How long a stream of events is silent before a comment shows that it lives; the shortest patience of usual proxies is 30 s."""

UNREAD_S: Final = 1.0
"""Beyond the call's deadline, within which its caller must have read what was sent; then the connection is cut."""

LAST_WORD_S: Final = 0.2
"""How long the end of a stream may take to be said in a process that ends."""

Item = dict[str, Any]
Shape = Callable[[Item], Item]
"""What becomes of an item before it is written."""


class Writing:
    """One answer that streams.

    Args:
        send: of the exchange.
        identity: the request's id, which an error repeats.
        shape: of the items.

    Mutable state: ``_fault``, of an item that could not be written, once those before it were.
    """

    def __init__(self, form: Form, send: Send, identity: str, shape: Shape | None = None) -> None:
        self._form = form
        self._send = send
        self._identity = identity
        self._shape = shape
        self._fault: FunctionError | None = None

    async def run(self, function: Function, row: Item, ask: Ask) -> None:
        """Computes and sends it.

        Args:
            row: validated.

        Raises:
            WakefulError: nothing has been sent.
        """
        async with Streaming(function, row, ask) as streaming:
            if self._form is WHOLE or self._form is SINGLE:
                most = function.spec.limits.max_body_bytes
                text = await (self._whole(streaming, most) if self._form is WHOLE else self._single(streaming))
                await exchange.send_json(self._send, text, (exchange.server_timing(streaming.call),))
                return
            texts = await self._next(streaming) or []
            left_s = streaming.call.deadline - time.monotonic() + UNREAD_S
            with contextlib.suppress(TimeoutError):  # he does not read; an answer without its last message cuts the connection
                async with asyncio.timeout(left_s):
                    await self._as_it_comes(streaming, texts)

    async def _next(self, streaming: Streaming, for_s: float = math.inf) -> list[bytes] | None:
        """As ``Streaming.take``, written; an item that cannot be is an error behind those before it."""
        if self._fault is not None:
            raise self._fault
        texts: list[bytes] = []
        items = await streaming.take(for_s)
        for item in items or ():
            try:
                texts.append(dumps(item if self._shape is None else self._shape(item)))
            except FunctionError as error:
                if not texts:
                    raise
                self._fault = error
                break
        return None if items is None else texts

    async def _single(self, streaming: Streaming) -> bytes:
        texts: list[bytes] = []
        while len(texts) < 2 and (more := await self._next(streaming)):
            texts += more
        if len(texts) != 1:
            found = "more than one" if texts else "none"
            raise RequestError(f"/generate answers with exactly one response, and there is {found}. POST to /generate_stream.")
        return texts[0]

    async def _whole(self, streaming: Streaming, most: int) -> bytes:
        texts: list[bytes] = []
        size = 0
        while more := await self._next(streaming):
            texts += more
            size += sum(map(len, more))
            if size > most:
                reason = f"the whole answer has more than the {most} bytes of limits.max_body_bytes"
                raise TooLarge(f"{reason}; accept text/event-stream instead.")
        return b"[%b]" % b",".join(texts)

    async def _as_it_comes(self, streaming: Streaming, texts: list[bytes] | None) -> None:
        head = [
            (b"content-type", self._form.content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            exchange.server_timing(streaming.call),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})
        try:
            while texts != []:
                await self._say(self._form.beat if texts is None else b"".join([self._form.item % text for text in texts]))
                texts = await self._next(streaming, BEAT_S)
        except asyncio.CancelledError:  # he left, and hears nothing; or he does not read; or the process ends
            if time.monotonic() < streaming.call.deadline:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(LAST_WORD_S):
                        await self._end(self._error(Draining("the process ended before the stream did; call again.", retry_after_s=1)))
            raise
        except Exception as error:  # behind the head an error comes in the stream
            await self._end(self._error(exchange.shown(error, self._identity)))
        else:
            await self._end(self._done(streaming))

    async def _say(self, text: bytes) -> None:
        if text:
            await self._send({"type": "http.response.body", "body": text, "more_body": True})

    async def _end(self, text: bytes) -> None:
        await self._send({"type": "http.response.body", "body": text})

    def _error(self, error: WakefulError) -> bytes:
        return self._form.error % dumps(error.body(self._identity))

    def _done(self, streaming: Streaming) -> bytes:
        if not self._form.done:
            return b""
        _, timing = exchange.server_timing(streaming.call)
        return self._form.done % dumps({"items": streaming.count, "server_timing": timing.decode()})


def form_for(route: str, accept: Sequence[str]) -> Form:
    """The form of an answer at a route.

    Raises:
        RequestError: the route is for answers of another kind.
        NotAcceptable: as ``form_of``.
    """
    if route == "/infer":
        raise RequestError(STREAMS)
    return form_of(accept) if not route else GENERATED if route == "/generate_stream" else SINGLE


def read(function: Function, route: str, body: bytes, is_raw: bool, form: Form, send: Send, identity: str) -> tuple[Item, Writing]:
    """The validated row of a body, and what will answer it; in any thread.

    Raises:
        RequestError: it is not one row of the function.
    """
    if is_raw:
        return function.validator.row({function.raw_field: body}), Writing(form, send, identity)
    data = loads(body)
    refuse_repeated_keys_of(body, data)
    if not route:
        if isinstance(data, list):
            raise RequestError("the function streams its answer to one row: send an object, and make a call for each.")
        return function.validator.row(data), Writing(form, send, identity)
    row = function.validator.row(fields_of(data, [tensor.name for tensor in function.protocol.inputs]))
    head: Item = {"model_name": function.spec.name, "model_version": MODEL_VERSION}
    if isinstance(data.get("id"), str) and "id" not in row:
        head["id"] = data["id"]
    return row, Writing(form, send, identity, lambda item: {**head, **item})


def fields_of(data: object, fields: Iterable[str]) -> Item:
    """The row in a request of Triton's generate extension: its properties, and those of its ``parameters`` that are fields.

    Other parameters are the caller's or a client library's (``stream``, ``temperature``), and no fault.

    Raises:
        WrongDatatype: it is no object, or ``parameters`` is none.
    """
    if not isinstance(data, dict):
        raise WrongDatatype("a request to generate is one JSON object.")
    known = set(fields)
    given = data.get("parameters") if "parameters" not in known else None
    if given is not None and not isinstance(given, dict):
        raise WrongDatatype("parameters is a JSON object.", where="parameters")
    row = {name: value for name, value in data.items() if name in known or name not in ("id", "parameters")}
    return {**{name: value for name, value in (given or {}).items() if name in known}, **row}
