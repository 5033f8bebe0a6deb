"""Answers the calls of functions, each in its form: rows or tensors, whole, as lines, as a file or
as a stream.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.types import Send

from runtime.batching.calls import Call, CallOptions
from runtime.errors import Quarantined
from runtime.execution.function import Function
from runtime.execution.streaming import RowsSource
from runtime.http import request_headers, streaming
from runtime.http.bodies.accept import prefers_file
from runtime.http.bodies.answers import (
    Outcome,
    answer_size,
    encode_outcomes,
    response_size,
    tensors_size,
    write_lines,
    write_rows,
)
from runtime.http.bodies.files import VARY_ACCEPT, file_response
from runtime.http.bodies.offloading import (
    LARGE_BYTES,
    Offloader,
    OffloadThreads,
    deadline_check,
    reserve_json_memory,
)
from runtime.http.bodies.row_lines import LinesWriter
from runtime.http.bodies.rows import (
    BodyKind,
    read_row_call,
    read_rows,
    reading_size,
    row_call_size,
)
from runtime.http.exchange import (
    BINARY,
    JSON,
    LINES,
    AnyResponse,
    ClientDisconnected,
    Response,
    StreamedResponse,
    json_response,
    server_timing,
)
from runtime.http.function_routes import (
    GENERATE_ROUTES,
    INFER,
    RoutedRequest,
    call_form,
    is_plain_json,
    keep_answer,
    route_error,
)
from runtime.http.request_headers import Header
from runtime.protocol import (
    InferRequest,
    check_outputs,
    decode_request,
    dumps,
    encode_response,
    read_header_length,
)
from runtime.protocol.row_codec import CONTENT_TYPE
from runtime.system.crash.quarantine import RowQuarantine, quarantine_error
from runtime.system.crash.recorder import fingerprint
from runtime.types.headers import choose_headers

TEXTS_FACTOR: Final = 8
"""A binary request of texts may take as long to read as so many times its bytes of JSON: an empty
text has four bytes, and takes half a microsecond.
"""

MIN_JSON_MEMORY_BYTES: Final = 64 << 20
"""Memory that a JSON body may take once it is read, however little ``max_ongoing_bytes`` allows:
that bounds how many bodies there are at once.
"""

_FORMS: Final = (BodyKind.FORM, BodyKind.MULTIPART)
_NOT_JSON: Final = (BodyKind.RAW, BodyKind.VALUES)

ROWS: Final[Header] = (b"content-type", CONTENT_TYPE)

HEADER_LENGTH: Final = b"inference-header-content-length"


class CallHandler:
    """Answers the calls of loaded functions.

    Args:
        row_quarantine: decides which rows must not share a batch, or not run; None: all may.
    """

    def __init__(self, row_quarantine: RowQuarantine | None) -> None:
        self._row_quarantine = row_quarantine
        self._threads = OffloadThreads()

    async def answer(
        self, routed: RoutedRequest, function: Function, quarantine: str = ""
    ) -> AnyResponse:
        """Return the response of a call; every error becomes one.

        Args:
            function: of the request, loaded.
            quarantine: why no call is computed any more; empty: calls are.

        Raises:
            ClientDisconnected: the client disconnected.
        """
        request, record = routed.request, routed.request.record
        try:
            if record.recording is not None:
                # a body of another type may be one field as it is, which is not known here
                is_known = not function.spec.accepts or is_plain_json(request)
                routed.keep_route(function.protocol.input_names if is_known else None)
            if routed.refusal is not None:
                raise routed.refusal
            if quarantine:
                raise Quarantined.of(function.spec.name, quarantine)
            call = _HttpCall(routed, function, self._row_quarantine, self._threads)
            answer = await call.answer()
            if record.recording is not None and isinstance(answer, Response):
                keep_answer(record.recording, answer)
            return answer
        except ClientDisconnected:
            raise
        except Exception as error:  # every fault becomes a response here
            told = routed.explain(error, lambda: call_form(function))
            refused = request.error_response(told)
            # a row has its error, and what the error came through has the row: only a garbage
            # collection would free both, and a function with them
            error.__traceback__ = None
            return refused


class _HttpCall:
    """One call of a loaded function: its body is read and decoded, it is run, and its answer
    encoded. Nothing is wrong with its head.

    Args:
        routed, function: as of ``CallHandler.answer``.
        row_quarantine: as of ``CallHandler``.
        threads: for large work.

    Mutable state: ``deadline``, which the body may shorten.
    """

    __slots__ = (
        "_row_quarantine",
        "_threads",
        "deadline",
        "function",
        "record",
        "request",
        "reservation",
        "routed",
    )

    def __init__(
        self,
        routed: RoutedRequest,
        function: Function,
        row_quarantine: RowQuarantine | None,
        threads: OffloadThreads,
    ) -> None:
        self.routed = routed
        self.request = request = routed.request
        self.record = request.record
        self.deadline = routed.deadline
        self.reservation = routed.reservation
        self.function = function
        self._row_quarantine = row_quarantine
        self._threads = threads

    async def answer(self) -> AnyResponse:
        """Return the response.

        Raises:
            ClientDisconnected: the client disconnected.
            Exception: whatever the call is refused for, or fails of.
        """
        request, route, kind = self.request, self.routed.route, self.routed.kind
        function, reservation = self.function, self.reservation
        if route in GENERATE_ROUTES and not function.streams:  # not known before it was loaded
            raise route_error(function.spec.name, self.routed.prefix, None)
        if self.deadline.at <= time.monotonic():
            raise self.deadline.expired_error()
        tensors_at = 0 if kind is BodyKind.VALUES else None
        if route == INFER:
            tensors_at = read_header_length(request.get_all(HEADER_LENGTH))
        max_body_bytes = function.spec.limits.max_body_bytes
        body = await request.read_body(max_body_bytes, reservation, self.deadline, tensors_at)
        head = body if tensors_at is None else body[:tensors_at]
        if kind in _FORMS:
            reservation.add(len(body), 0)  # its parts are copied
        elif len(head) >= LARGE_BYTES and kind not in _NOT_JSON:
            limit = max(function.in_flight.admission_limits.bytes, MIN_JSON_MEMORY_BYTES)
            await reserve_json_memory(
                head, len(body), limit, reservation, self._offloader, self.deadline
            )
        if kind is BodyKind.VALUES:
            return await self._answer_row_call(body)
        if function.streams:
            return await self._stream(bytes(body), kind or BodyKind.JSON)
        if route:
            return await self._infer(body, tensors_at)
        return await self._call(bytes(body), kind or BodyKind.JSON)

    @property
    def _offloader(self) -> Offloader:
        """Has turns in the threads with those of other functions."""
        return Offloader(self._threads, self.function)

    async def _call(self, body: bytes, kind: BodyKind) -> AnyResponse:
        function = self.function
        content_type, size = self.request.get(b"content-type"), reading_size(kind, len(body))
        if size < LARGE_BYTES:
            rows = read_rows(function, body, kind, content_type)
        else:
            check = deadline_check(self.deadline)
            rows = await self._offloader.run(
                size, self.deadline, lambda: read_rows(function, body, kind, content_type, check)
            )
        options = self._make_options(body)
        accept = self.request.get(b"accept")
        as_lines = b"ndjson" in accept and streaming.prefers_lines(self.request.get_all(b"accept"))
        call: Call | None
        if isinstance(rows, dict) and function.files.media_type:
            return await self._call_for_file(rows, options, as_lines=as_lines)
        if isinstance(rows, dict):
            call = self.record.call = await function.run((rows,), options)
            text = dumps(function.answer_of(call.rows[0]))
            if as_lines:
                text += b"\n"
        elif as_lines and self._can_answer_by_row and len(rows) > 1:
            return await self._answer_lines(rows, options)
        else:
            outcomes, call = await function.run_rows(rows, options)
            self.record.call = call
            write, request_id = write_lines if as_lines else write_rows, self.request.id
            text = await self._offloader.run(
                answer_size(outcomes), self.deadline, lambda: write(outcomes, request_id)
            )
        return Response((text,), (server_timing(call),), content_type=LINES if as_lines else JSON)

    @property
    def _can_answer_by_row(self) -> bool:
        """Files on disk are read once a call is answered."""
        return self.function.sequences is None and not self.function.files.are_on_disk

    async def _answer_lines(self, rows: Sequence[Outcome], options: CallOptions) -> AnyResponse:
        """Return the rows' lines: whole where they are soon done, else as they are done."""
        request, offloader, deadline = self.request, self._offloader, self.deadline
        source = RowsSource(self.function, rows, options)
        self.record.call = source.call

        def write_large(size: int, write: Callable[[], bytes]) -> Awaitable[bytes]:
            return offloader.run(size, deadline, write)

        writer = LinesWriter(source, request.id, write_large, self.record.recording)
        try:
            first = await writer.take()
            if not source.is_at_end:
                return StreamedResponse(lambda send: writer.send_to(first, send))
            text = await write_large(answer_size(first), lambda: write_lines(first, request.id))
        except BaseException:
            source.close()
            raise
        source.close()
        return Response((text,), (server_timing(source.call),), content_type=LINES)

    async def _call_for_file(
        self, row: dict[str, Any], options: CallOptions, *, as_lines: bool
    ) -> Response:
        """The answer is a file; a client that accepts JSON gets it as base64 text in JSON."""
        function, request = self.function, self.request
        call = self.record.call = await function.run((row,), options, keeps_files=True)
        file = await function.files.open(call, function.spec.limits.max_body_bytes)
        timing = server_timing(call)
        if prefers_file(request.get_all(b"accept"), file.media_type):
            return file_response(file, request, timing, self.reservation)
        answer = await function.files.read(call, file)
        text = await self._offloader.run(file.size, self.deadline, lambda: dumps(answer))
        buffers = (text, b"\n") if as_lines else (text,)
        content_type = LINES if as_lines else JSON
        return Response(buffers, (VARY_ACCEPT, timing), content_type=content_type)

    async def _stream(self, body: bytes, kind: BodyKind) -> StreamedResponse:
        function, request, route = self.function, self.request, self.routed.route or ""
        stream_format = streaming.choose_format(route, request.get_all(b"accept"))
        content_type = request.get(b"content-type")
        check = deadline_check(self.deadline)
        row, writer = await self._offloader.run(
            reading_size(kind, len(body)),
            self.deadline,
            lambda: streaming.read_stream_request(
                function, route, body, kind, content_type, stream_format, request.id, check
            ),
        )
        options = self._make_options(body)
        record = self.record
        writer.recording = record.recording

        async def send_to(send: Send) -> None:
            try:
                await writer.run(function, row, options, send)
            finally:
                record.call = writer.call
                record.code, record.reason = writer.code, writer.reason

        return StreamedResponse(send_to)

    async def _infer(self, body: bytes | memoryview, length: int | None) -> Response:
        """Answer a v2 request.

        Args:
            length: of its JSON; None: its tensors are in it.
        """
        function, offload = self.function, self._offloader.run
        infer, rows = await offload(
            _decoding_size(body, length), self.deadline, lambda: self._decode(body, length)
        )
        deadline = self.deadline = self.deadline.shortened(infer.timeout_s)
        options = self._make_options(body, infer)
        call = self.record.call = await function.run(rows, options)
        make_response = function.protocol.response
        size = tensors_size([row.values for row in call.rows], function.answer)
        response = await offload(size, deadline, lambda: make_response(infer, call.rows))
        encoded, json_bytes = await offload(
            response_size(response, infer), deadline, lambda: encode_response(response, infer)
        )
        timing = server_timing(call)
        if isinstance(encoded, bytes):
            return json_response(encoded, (timing,))
        assert json_bytes is not None
        head = (HEADER_LENGTH, b"%d" % json_bytes)
        return Response(encoded, (head, timing), content_type=BINARY)

    async def _answer_row_call(self, body: bytes | memoryview) -> Response:
        function = self.function
        rows = await self._offloader.run(
            row_call_size(body), self.deadline, lambda: read_row_call(function, body)
        )
        options = self._make_options(body, has_sequence=False)
        outcomes, call = await function.run_rows(rows, options, as_values=True)
        self.record.call = call
        return Response(encode_outcomes(outcomes), (server_timing(call),), content_type=ROWS)

    def _decode(
        self, body: bytes | memoryview, length: int | None
    ) -> tuple[InferRequest, Sequence[dict[str, Any]]]:
        """Return the v2 request of a body, and its rows; runs in any thread."""
        request = decode_request(body, length, self.function.protocol.input_names)
        check_outputs(request, self.function.answer)
        return request, self.function.protocol.rows(request, self.function.spec.limits.max_rows)

    def _make_options(
        self,
        body: bytes | memoryview,
        infer: InferRequest | None = None,
        *,
        has_sequence: bool = True,
    ) -> CallOptions:
        """Return the options of the call, built once.

        Args:
            infer: its parameters name the sequence; None: the headers do.
            has_sequence: False: the call belongs to no sequence, whatever its headers say.
        """
        function, request, deadline = self.function, self.request, self.deadline
        headers = choose_headers(request.headers, function.headers) if function.headers else None
        sequence = None
        if has_sequence and function.sequences is not None:
            sequence = (
                request_headers.sequence_from_headers(request.fields)
                if infer is None
                else request_headers.sequence_from_parameters(infer.parameters, request.fields)
            )
            if sequence is not None and self.record.recording is not None:
                self.record.recording.sequence = sequence.id
        if self._row_quarantine is None:
            return CallOptions(
                request.id,
                deadline.at,
                sequence=sequence,
                headers=headers,
                account=self.reservation,
                trace=self.record.trace,
            )
        mark = fingerprint(body, function.label)
        decision = self._row_quarantine.decide(mark, deadline.age_s(time.monotonic()))
        refused = (
            dict.fromkeys(decision.refused, quarantine_error(function.spec.name))
            if decision.refused
            else None
        )
        return CallOptions(
            request.id,
            deadline.at,
            mark,
            decision.alone,
            refused,
            sequence,
            headers,
            self.reservation,
            self.record.trace,
        )


def _decoding_size(body: bytes | memoryview, length: int | None) -> int:
    """Return the bytes of JSON that take as long to read as a v2 request: those of its JSON, and of
    all of it where there may be texts, each of which is an object. Numbers in binary are used from
    where they lie.
    """
    if length is None or length >= LARGE_BYTES or TEXTS_FACTOR * len(body) < LARGE_BYTES:
        return len(body)
    head = bytes(body[: max(0, length)])
    if b"BYTES" in head or b"\\" in head:  # JSON can write it with escapes
        return TEXTS_FACTOR * len(body)
    return len(head)
