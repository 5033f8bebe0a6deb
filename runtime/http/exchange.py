"""A request and its response, as every handler sees them, however they travel.

A *handler* takes a ``Request`` and returns a ``Response``: ``FunctionHandler`` of one function,
``LibraryHandler`` of all functions of a process, ``HostRouter`` of one host among several. Two
transports carry requests to it and write its responses, and know nothing of their meaning:
``runtime.http.asgi`` for everything, ``runtime.http.transport.hot_connection`` for short calls on a
connection that has served one before.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from starlette.types import Send

from runtime.batching.calls import TIMINGS
from runtime.batching.reservation import BodyReservation
from runtime.errors import LoadError, MethodNotAllowed, WakefulError
from runtime.http.bodies import chunks
from runtime.http.bodies.chunks import too_large_error
from runtime.http.bodies.content_encoding import IDENTITY, ContentDecoder
from runtime.http.cors import CorsPolicy
from runtime.http.request_headers import (
    KEY,
    MAX_ID_LENGTH,
    Header,
    RequestDeadline,
    arrival_age_s,
    printable_id,
)
from runtime.protocol import dumps
from runtime.system.telemetry.counters import (
    CallRecord,
    CallRecorder,
    ComputedCall,
    FunctionCounters,
)

logger = logging.getLogger("wakeful.http")

JSON: Final[Header] = (b"content-type", b"application/json")
BINARY: Final[Header] = (b"content-type", b"application/octet-stream")

LINES: Final[Header] = (b"content-type", b"application/x-ndjson")

REQUEST_ID: Final = b"x-request-id"

SCOPE_KEY: Final = "wakeful.request"
"""The request in the scope of an application that answers what no handler does."""


class ClientDisconnected(Exception):
    """The client disconnected before its answer was complete."""


# Requests.


class Request:
    """One HTTP request, whose body may be still to come. Used on the event loop.

    Args:
        headers: in order, names in lower case.
        gives_id: whether a request without an id gets one here, and its response has it; else the
            server does both.
        fields: the headers by name, where no name is there twice.

    Attributes:
        path: as HAProxy compares it, which decides by it what a key opens: letters that need not be
            encoded are decoded, all else is as it came (``normalized_path``); ``raw_path`` as it
            arrived, where that differs.
        prefix: of the path, below which the handler is mounted; a handler sets it.
        fields: the headers by name; of several of one name the first.
        id_bytes: the request's id as it came, or the new one; empty where there is none.
        error_form: how an error that no handler answers is written: its route says so as soon as it
            is known.
        cors: adds headers to its response; its transport sets it. None: none are added.
        timing: returns further entries of the response's ``Server-Timing``, which may be none;
            called when its head is sent.
        record: what is told of it once it is over.

    Mutable state: the headers, ``prefix``, ``error_form``, ``timing``, ``body`` once it is read,
    ``record``, and the callbacks of the end.
    """

    __slots__ = (
        "_at_end",
        "body",
        "cors",
        "error_form",
        "fields",
        "gives_id",
        "headers",
        "id_bytes",
        "method",
        "path",
        "prefix",
        "query",
        "raw_path",
        "record",
        "timing",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: list[Header],
        *,
        raw_path: bytes = b"",
        query: bytes = b"",
        gives_id: bool = True,
        fields: dict[bytes, bytes] | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        # of several of one name ``dict`` keeps the last
        self.fields = dict(reversed(headers)) if fields is None else fields
        self.prefix = ""
        self.error_form: ErrorForm = write_error
        self.cors: CorsPolicy | None = None
        self.timing: Callable[[], bytes] | None = None
        self.body: bytes | memoryview | None = None
        self._at_end: list[Callable[[], object]] = []
        self.gives_id = gives_id
        self.id_bytes = self.fields.get(REQUEST_ID, b"")[:MAX_ID_LENGTH]
        if gives_id and not self.id_bytes:
            # uuid4 asks the kernel for each: 0.7 % of a short call
            self.id_bytes = b"%032x" % random.getrandbits(128)
            self.headers = [*headers, (REQUEST_ID, self.id_bytes)]
        self.record = CallRecord(method, path, self.id_bytes)

    def error_response(self, error: Exception) -> Response:
        """Return an error in the form of the request's route."""
        shown = to_client_error(error, self.id)
        self.record.reason = shown.message
        return self.error_form(self.told(shown), self)

    def told(self, error: WakefulError) -> WakefulError:
        """Return what the client hears of an error: one with a key not why a function does not
        load, since the key may be one that calls, and sees nothing.
        """
        if isinstance(error, LoadError) and KEY in self.fields:
            return error.brief()
        return error

    def count_as_call(self, counters: FunctionCounters) -> None:
        """It is a call of this function: it is counted, logged and traced as such when it ends, and
        perhaps recorded. A handler says so once.
        """
        record = self.record
        record.counters = counters
        if counters.begin_trace is not None:
            record.trace = counters.begin_trace(self.fields)
        if counters.recorder is not None:
            self.begin_recording(counters.recorder)

    def begin_recording(self, recorder: CallRecorder) -> None:
        """It is a call of a function that is captured: a share of them is recorded."""
        record = self.record
        recording = record.recording = recorder.begin()
        if recording is not None and (age_s := arrival_age_s(self.fields, time.time())):
            recording.age_s = max(0.0, age_s - (time.monotonic() - record.began))

    @property
    def id(self) -> str:
        """The request's id, printable and bounded."""
        return printable_id(self.id_bytes)

    def set_headers(self, headers: list[Header]) -> None:
        """Take these headers instead."""
        self.headers, self.fields = headers, dict(reversed(headers))

    def get(self, name: bytes) -> bytes:
        """Return the first header of that name (lower case), empty when there is none."""
        return self.fields.get(name, b"")

    def get_all(self, name: bytes) -> list[str]:
        """Return every header of that name (lower case)."""
        if name not in self.fields:
            return []
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    @property
    def undecoded_path(self) -> str:
        """The path as it arrived. Behind HAProxy a character that is still encoded is none of a
        prefix's: HAProxy would have decoded it.
        """
        raw_path = self.raw_path
        return raw_path.decode("latin-1") if b"%" in raw_path else self.path

    async def read_body(
        self,
        max_body_bytes: int,
        reservation: BodyReservation,
        deadline: RequestDeadline,
        tensors_at: int | None = None,
    ) -> bytes | memoryview:
        """Return the whole body, which is read once; from then on a disconnect of the client ends
        the work for the request.

        Args:
            reservation: grows with what has arrived. The Content-Length must fit before anything is
                read, and reserves nothing.
            tensors_at: offset in the body from which arrays are used from where they lie; a large
                body is then a read-only view of memory in which they are aligned. None: there are
                none, the body is ``bytes``.

        Raises:
            TooLarge: more than ``max_body_bytes``.
            Overloaded: it does not fit in the reservation's budgets.
            UnsupportedMediaType: it is compressed otherwise than with gzip or zstd.
            MalformedBody: it is compressed, and cannot be decoded.
            SlowUpload: not all of the body arrived within ``UPLOAD_TIMEOUT_S``.
            DeadlineExceeded: the deadline passed before all of the body was there.
            ClientDisconnected: the client disconnected.
        """
        value = self.fields.get(b"content-length", b"")
        length = int(value) if value.isdigit() else 0
        if length > max_body_bytes:
            raise too_large_error(max_body_bytes)
        encoding = self.fields.get(b"content-encoding", IDENTITY)
        if encoding.lower() != IDENTITY:
            decoder = ContentDecoder(encoding, max_body_bytes, reservation)
            await self._decode_body(decoder, length, max_body_bytes, reservation, deadline)
        if self.body is None:
            reservation.require(length)
            self.body = await self._receive_body(
                length, max_body_bytes, reservation, deadline, tensors_at
            )
        elif len(self.body) > max_body_bytes:
            raise too_large_error(max_body_bytes)
        reservation.extend_to(len(self.body))
        return self.body

    async def _decode_body(
        self,
        decoder: ContentDecoder,
        length: int,
        max_body_bytes: int,
        reservation: BodyReservation,
        deadline: RequestDeadline,
    ) -> None:
        """Read a compressed body. The request is a plain one from then on, also for a host that it
        is forwarded to.
        """
        if self.body is None:
            reservation.require(length)
            await self._receive_body(length, max_body_bytes, reservation, deadline, None, decoder)
        else:
            await decoder.feed(bytes(self.body))
        body = self.body = await decoder.finish()
        plain = [
            header
            for header in self.headers
            if header[0] not in (b"content-encoding", b"content-length")
        ]
        self.set_headers([*plain, (b"content-length", b"%d" % len(body))])

    async def _receive_body(
        self,
        length: int,
        max_body_bytes: int,
        reservation: BodyReservation,
        deadline: RequestDeadline,
        tensors_at: int | None,
        decoder: ContentDecoder | None = None,
    ) -> bytes | memoryview:
        """As ``read_body``; called where the body is not there yet.

        Args:
            length: the Content-Length; 0 where there is none.
            decoder: takes a compressed body as it arrives, and nothing is returned.
        """
        return b""

    def watch(self) -> None:
        """End the work for the request at once when the client disconnects; called once the body is
        read, for work that takes long.
        """

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call this when the response is sent, or the request is over in any other way."""
        self._at_end.append(callback)

    def end(self) -> None:
        """The request is over; its transport calls this once, last of all."""
        record = self.record
        if self.body is not None:
            record.received_bytes = len(self.body)
        if record.counters is not None:
            record.counters.record_answered(record)
        if record.recording is not None:
            record.recording.end(record, self.fields, self.body)
        for callback in reversed(self._at_end):
            callback()
        self._at_end.clear()


def normalized_path(path: str, raw_path: bytes) -> str:
    """Return a path with each character decoded that need not be encoded (RFC 3986, 6.2.2.2), as
    HAProxy normalizes it. All others stay encoded: `%2F` is no `/`. Whatever compares a path
    compares this one, or a key opens one thing and another answers.

    Args:
        path: of ASGI, which has all decoded.
        raw_path: as it arrived.
    """
    if b"%" not in raw_path:
        return path
    return _ENCODED.sub(_decode_unreserved, raw_path).decode("latin-1")


_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(
    bytes((code,)) for code in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)


def _decode_unreserved(found: re.Match[bytes]) -> bytes:
    character = bytes((int(found[1], 16),))
    return character if character in _UNRESERVED else found[0]


# Responses.


class Response:
    """A whole response.

    Attributes:
        buffers: the body, not joined.
        length: bytes of the body.
        content_type: its header.
        headers: the others, but for those that follow from the body and the request.
        code: of the error that it tells; empty where it tells none.
    """

    __slots__ = ("buffers", "code", "content_type", "headers", "length", "status")

    def __init__(
        self,
        buffers: Sequence[bytes | memoryview],
        headers: Sequence[Header] = (),
        status: int = 200,
        content_type: Header = JSON,
    ) -> None:
        self.buffers = buffers
        self.headers = headers
        self.status = status
        self.code = ""
        self.content_type = content_type
        self.length = sum(map(len, buffers))

    async def send_to(self, send: Send) -> None:
        """Send it as ASGI messages.

        A long one is sent in chunks, each when the one before is on its way and all other work has
        had its turn: a client that reads as fast as the server writes never makes the server wait.
        """
        length = (b"content-length", b"%d" % self.length)
        headers = [self.content_type, length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        pieces = chunks.chunked(self.buffers)
        for index, piece in enumerate(pieces, 1):
            has_more = index < len(pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": has_more})
            if len(piece) == chunks.CHUNK_BYTES:
                await asyncio.sleep(0)


class StreamedResponse:
    """A response that is sent while it is computed.

    Attributes:
        send_to: sends it as ASGI messages. An exception before the first of them becomes an
            ordinary response.
    """

    __slots__ = ("send_to",)

    def __init__(self, send_to: Callable[[Send], Awaitable[None]]) -> None:
        self.send_to = send_to


AnyResponse = Response | StreamedResponse


class Handler(Protocol):
    """Answers requests; see the module's docstring. Used on one event loop.

    Attributes:
        prefix: where it is mounted; None or empty before it is known.
        exchanges: requests that have begun and have not ended.
    """

    @property
    def prefix(self) -> str | None: ...
    @property
    def exchanges(self) -> int: ...

    async def handle(self, request: Request) -> AnyResponse | None:
        """Return the response; None: the path is not one of its own.

        Raises:
            ClientDisconnected: the client disconnected.
        """

    def is_hot(self, target: bytes) -> bool:
        """Whether a POST to this target (a path as it travels, without a query) is the short call
        of a function: ``handle`` then needs no task of its own, and the response is whole.
        """


def json_response(body: bytes, headers: Sequence[Header] = (), status: int = 200) -> Response:
    """Return a response of JSON text."""
    return Response((body,), headers, status)


def response_headers(request: Request, headers: Sequence[Header]) -> list[Header]:
    """Return the headers of a response with the request's id and timing."""
    entries = b"" if request.timing is None else request.timing()
    complete = with_server_timing(headers, entries) if entries else list(headers)
    if request.gives_id:
        complete.append((REQUEST_ID, request.id_bytes))
    if request.cors is not None:
        complete += request.cors.headers_for(request.get(b"origin"))
    return complete


def to_client_error(error: Exception, request_id: str) -> WakefulError:
    """Return what the client sees of an error. One that is not of our tree reaches the client as
    its request id only, and the log whole.
    """
    if isinstance(error, WakefulError):
        return error
    logger.error("request %s failed", request_id, exc_info=error)
    return WakefulError(
        "something failed here that is not the request's fault; "
        "the log has it under the request id."
    )


def error_response(error: Exception, request_id: str) -> Response:
    """Return ``to_client_error`` in the error form."""
    error = to_client_error(error, request_id)
    response = json_response(dumps(error.body(request_id)), error_headers(error), error.status)
    response.code = error.code
    return response


ErrorForm = Callable[[Exception, Request], Response]
"""Writes an error as the answer to a request."""


def write_error(error: Exception, request: Request) -> Response:
    """Implements ``ErrorForm``: the form of every route that has no other."""
    return error_response(error, request.id)


def error_headers(error: WakefulError) -> list[Header]:
    """Return the headers that say what to do: when to call again, if the error knows, or with which
    method.
    """
    headers: list[Header] = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if isinstance(error, MethodNotAllowed) and error.allowed:
        headers.append((b"allow", error.allowed.encode()))
    return headers


_TIMING = ", ".join([*(f"{name};dur=%.3f" for name in TIMINGS), "total;dur=%.3f"]).encode()


def server_timing(call: ComputedCall | None) -> Header:
    """``Server-Timing`` in milliseconds: the parts of the call's time, and the total."""
    if call is None:
        return (b"server-timing", b"total;dur=0")
    times = [call.timings[name] * 1000 for name in TIMINGS]
    return (b"server-timing", _TIMING % (*times, (time.monotonic() - call.started) * 1000))


def with_server_timing(headers: Sequence[Header], entries: bytes) -> list[Header]:
    """Return the headers of a response with more entries in its ``Server-Timing``."""
    values = [*(value for name, value in headers if name == b"server-timing"), entries]
    others = (header for header in headers if header[0] != b"server-timing")
    return [*others, (b"server-timing", b", ".join(values))]
