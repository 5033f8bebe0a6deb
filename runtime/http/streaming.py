"""A streamed answer over HTTP: item by item, or whole, in the format that the client accepts.

An error before the first item is an ordinary error response with its status. After the head the
status is sent, so an error comes in the stream, and nothing comes after it. A connection that ends
without ``event: done``, or in the middle of a chunked body, was cut. ``Server-Timing`` in the head
is that of the first item; ``event: done`` has that of all items.

The formats:

    text/event-stream      data: {"n": 0}      then, at the end      event: done   WHATWG HTML 9.2
    application/x-ndjson   {"n": 0}            one line an item                    ndjson.org
    application/json       [{"n": 0}]          all at once, at the end

RFC 9110, section 12.5.1, decides between them: the most specific range that covers a media type
gives its weight. Of those with the highest weight, one that the client names wins over one that a
wildcard covers, and a stream wins over a whole answer, so that a client that asks for JSON and
would take anything else gets a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Send

from runtime.batching.calls import Call, CallOptions
from runtime.errors import (
    Draining,
    FunctionError,
    NotAcceptable,
    RequestError,
    TooLarge,
    WakefulError,
    WrongDatatype,
)
from runtime.execution.function import Function
from runtime.execution.in_flight import STREAMS
from runtime.execution.streaming import StreamSource
from runtime.http.bodies.accept import read_ranges, weigh
from runtime.http.bodies.rows import BodyKind, read_rows
from runtime.http.exchange import (
    json_response,
    server_timing,
    to_client_error,
)
from runtime.library.capture import recorder
from runtime.protocol import dumps, loads
from runtime.protocol.inference_codec import MODEL_VERSION
from runtime.system.telemetry.counters import CallRecording

KEEPALIVE_S: Final = 15.0
"""How long a stream of events is silent before a comment shows that it lives; the shortest timeout
of usual proxies is 30 s.
"""

UNREAD_TIMEOUT_S: Final = 1.0
"""Seconds after the call's deadline within which the client must have read what was sent; then the
connection is cut.
"""

FINAL_EVENT_TIMEOUT_S: Final = 0.2
"""How long sending the last event may take in a process that ends."""

Item = dict[str, Any]
ItemTransform = Callable[[Item], Item]
"""Changes an item before it is written."""

# Formats.


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How items, an error and the end are written.

    Attributes:
        content_type: of the response.
        item, error, done: patterns with one place for JSON text; an empty ``done`` writes nothing.
        keepalive: may be sent between two items and means nothing; empty where there is no such
            thing.
    """

    content_type: bytes
    item: bytes
    error: bytes
    done: bytes = b""
    keepalive: bytes = b""

    @property
    def media_type(self) -> str:
        """The content type without parameters."""
        return self.content_type.partition(b";")[0].decode()


EVENTS: Final = StreamFormat(
    b"text/event-stream",
    b"data: %b\n\n",
    b"event: error\ndata: %b\n\n",
    b"event: done\ndata: %b\n\n",
    b":\n\n",
)
LINES: Final = StreamFormat(b"application/x-ndjson", b"%b\n", b"%b\n")
WHOLE: Final = StreamFormat(b"application/json", b"%b", b"%b")
GENERATED: Final = StreamFormat(
    b"text/event-stream; charset=utf-8", b"data: %b\n\n", b"data: %b\n\n", keepalive=b":\n\n"
)
"""Of Triton's generate extension: an error is an event like the others, and the end has no event.
"""

SINGLE: Final = StreamFormat(b"application/json", b"%b", b"%b")
"""Of its ``/generate``, which has exactly one response."""

FORMATS: Final = (EVENTS, LINES, WHOLE)
"""First choice first."""


def choose_format(route: str, accept: Sequence[str]) -> StreamFormat:
    """Return the format of an answer at a route.

    Raises:
        RequestError: the route is for answers of another kind.
        NotAcceptable: as ``negotiate_format``.
    """
    if route == "/infer":
        raise RequestError(STREAMS)
    if not route:
        return negotiate_format(accept)
    return GENERATED if route == "/generate_stream" else SINGLE


def prefers_lines(accept: Sequence[str]) -> bool:
    """Whether a client takes a whole answer rather as a line for each row than as JSON."""
    try:
        return negotiate_format(accept, (WHOLE, LINES)) is LINES
    except NotAcceptable:
        return False


def negotiate_format(
    accept: Sequence[str], formats: Sequence[StreamFormat] = FORMATS
) -> StreamFormat:
    """Return the format that the client prefers.

    Args:
        accept: values of the ``Accept`` headers; none, or empty ones, take anything. Beyond
            ``accept.MAX_RANGES`` they are not read.
        formats: that the answer can have, first choice first.

    Raises:
        NotAcceptable: the client takes none of the formats.
    """
    ranges = read_ranges(accept)
    if not ranges:
        return formats[0]
    weighted = [(*weigh(option.media_type, ranges), option) for option in formats]
    # of equal ones the first
    weight, _, chosen = max(weighted, key=lambda w: (w[0], w[1] and w[2] is not WHOLE))
    if weight <= 0:
        offered = ", ".join(option.media_type for option in formats)
        raise NotAcceptable(f"the answer streams as {offered}; accept one of them.", where="accept")
    return chosen


# Requests.


def read_stream_request(
    function: Function,
    route: str,
    body: bytes,
    kind: BodyKind,
    content_type: bytes,
    stream_format: StreamFormat,
    request_id: str,
    check: Callable[[], None],
) -> tuple[Item, StreamWriter]:
    """Return the validated row of a body, and the writer of its answer; runs in any thread.

    Args:
        check: raises once the call's time is over.

    Raises:
        RequestError: the body is not one row of the function.
        DeadlineExceeded: as of ``check``.
    """
    writer = StreamWriter(stream_format, request_id)
    if not route:
        row = read_rows(function, body, kind, content_type, check)
        if isinstance(row, list):
            raise RequestError(
                "the function streams its answer to one row: send an object, and make a call for "
                "each."
            )
        return row, writer
    data = loads(body)
    fields = [tensor.name for tensor in function.protocol.inputs]
    row = function.validator.validate(read_generate_row(data, fields))
    head: Item = {"model_name": function.spec.name, "model_version": MODEL_VERSION}
    if isinstance(data.get("id"), str) and "id" not in row:
        head["id"] = data["id"]
    return row, StreamWriter(stream_format, request_id, lambda item: {**head, **item})


def read_generate_row(data: object, fields: Iterable[str]) -> Item:
    """Return the row in a request of Triton's generate extension: its properties, and those of its
    ``parameters`` that are fields.

    Other parameters are the client's or its library's (``stream``, ``temperature``), and no fault.

    Raises:
        WrongDatatype: it is no object, or ``parameters`` is none.
    """
    if not isinstance(data, dict):
        raise WrongDatatype("a request to generate is one JSON object.")
    known = set(fields)
    parameters = data.get("parameters") if "parameters" not in known else None
    if parameters is not None and not isinstance(parameters, dict):
        raise WrongDatatype("parameters is a JSON object.", where="parameters")
    row = {
        name: value
        for name, value in data.items()
        if name in known or name not in ("id", "parameters")
    }
    return {**{name: value for name, value in (parameters or {}).items() if name in known}, **row}


# Answers.


class StreamWriter:
    """Writes one streamed answer.

    Args:
        request_id: repeated in errors.
        transform: applied to each item.

    Attributes:
        call: what it is computed as, once that has begun.
        code, reason: of the error that stands in the stream, and its message; empty: none does.
        recording: of the call; None: it is not recorded.

    Mutable state: these; ``_send`` of the request, once it runs; ``_error``, of an item that could
    not be written, once those before it were.
    """

    def __init__(
        self,
        stream_format: StreamFormat,
        request_id: str,
        transform: ItemTransform | None = None,
    ) -> None:
        self._send: Send
        self._format = stream_format
        self._request_id = request_id
        self._transform = transform
        self._error: FunctionError | None = None
        self.call: Call | None = None
        self.recording: CallRecording | None = None
        self.code = self.reason = ""

    async def run(self, function: Function, row: Item, options: CallOptions, send: Send) -> None:
        """Compute and send the answer.

        Args:
            row: validated.

        Raises:
            WakefulError: nothing has been sent.
        """
        self._send = send
        if self.recording is not None:
            self.recording.begin_parts(recorder.ITEMS)
        async with StreamSource(function, row, options) as source:
            self.call = source.call
            if self._format is WHOLE or self._format is SINGLE:
                text = await (
                    self._buffered(source, function.spec.limits.max_body_bytes)
                    if self._format is WHOLE
                    else self._single(source)
                )
                await json_response(text, (server_timing(source.call),)).send_to(send)
                self._end_recorded()
                return
            texts = await self._next(source) or []
            remaining_s = source.call.deadline - time.monotonic() + UNREAD_TIMEOUT_S
            # a client that does not read: a response without its last message cuts the connection
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await self._incremental(source, texts)

    async def _next(self, source: StreamSource, for_s: float = math.inf) -> list[bytes] | None:
        """Return what ``StreamSource.take`` does, written. An item that cannot be written is an
        error after those before it.
        """
        if self._error is not None:
            raise self._error
        texts: list[bytes] = []
        items = await source.take(for_s)
        for item in items or ():
            try:
                texts.append(dumps(item if self._transform is None else self._transform(item)))
            except FunctionError as error:
                if not texts:
                    raise
                self._error = error
                break
        if self.recording is not None and texts:
            self.recording.keep_parts(texts)
        return None if items is None else texts

    async def _single(self, source: StreamSource) -> bytes:
        texts: list[bytes] = []
        while len(texts) < 2 and (more := await self._next(source)):
            texts += more
        if len(texts) != 1:
            found = "more than one" if texts else "none"
            raise RequestError(
                f"/generate answers with exactly one response, and there is {found}. "
                "POST to /generate_stream."
            )
        return texts[0]

    async def _buffered(self, source: StreamSource, max_bytes: int) -> bytes:
        texts: list[bytes] = []
        size = 0
        while more := await self._next(source):
            texts += more
            size += sum(map(len, more))
            if size > max_bytes:
                raise TooLarge(
                    f"the whole answer has more than the {max_bytes} bytes of "
                    "limits.max_body_bytes; accept text/event-stream instead."
                )
        return b"[%b]" % b",".join(texts)

    async def _incremental(self, source: StreamSource, texts: list[bytes] | None) -> None:
        headers = [
            (b"content-type", self._format.content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            server_timing(source.call),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while texts != []:
                await self._send_part(
                    self._format.keepalive
                    if texts is None
                    else b"".join([self._format.item % text for text in texts])
                )
                texts = await self._next(source, KEEPALIVE_S)
        except asyncio.CancelledError:
            # The client disconnected, and gets nothing; or it does not read; or the process ends.
            if time.monotonic() < source.call.deadline:
                await self._send_draining()
            raise
        except Exception as error:  # after the head an error comes in the stream
            await self._send_last(self._write_error(to_client_error(error, self._request_id)))
            self._end_recorded()
        else:
            await self._send_last(self._write_done(source))
            self._end_recorded()

    async def _send_draining(self) -> None:
        error = Draining("the process ended before the stream did; call again.", retry_after_s=1)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(FINAL_EVENT_TIMEOUT_S):
                await self._send_last(self._write_error(error))

    async def _send_part(self, text: bytes) -> None:
        if text:
            await self._send({"type": "http.response.body", "body": text, "more_body": True})

    async def _send_last(self, text: bytes) -> None:
        await self._send({"type": "http.response.body", "body": text})

    def _end_recorded(self) -> None:
        if self.recording is not None:
            self.recording.end_parts()

    def _write_error(self, error: WakefulError) -> bytes:
        self.code, self.reason = error.code, error.message
        return self._format.error % dumps(error.element(self._request_id))

    def _write_done(self, source: StreamSource) -> bytes:
        if not self._format.done:
            return b""
        _, timing = server_timing(source.call)
        return self._format.done % dumps({"items": source.count, "server_timing": timing.decode()})
