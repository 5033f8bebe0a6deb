"""Answers the calls of one function, each in its form: rows or tensors, whole, as lines, as a file
or as a stream.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.types import Send

from runtime.batching.calls import Call, CallOptions
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
from runtime.http.bodies.byte_budget import BodyReservation, ByteBudget
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
    choose_kind,
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
    Request,
    Response,
    StreamedResponse,
    json_response,
    server_timing,
)
from runtime.http.function_routes import is_for_another, is_row_call, not_found_error, query_error
from runtime.http.request_headers import Header, RequestDeadline, read_deadline
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

ROWS: Final[Header] = (b"content-type", CONTENT_TYPE)

HEADER_LENGTH: Final = b"inference-header-content-length"


class CallHandler:
    """Answers the calls of one loaded function: reads the body, decodes, calls, encodes.

    Args:
        function: as of ``FunctionHandler``, with all that follows.
    """

    def __init__(
        self,
        function: Function,
        row_quarantine: RowQuarantine | None,
        *,
        budgets: Sequence[ByteBudget],
        threads: OffloadThreads | None,
    ) -> None:
        self.function = function
        self._row_quarantine = row_quarantine
        self._budgets = tuple(budgets) or (
            ByteBudget(lambda: function.in_flight.admission_limits.bytes),
        )
        self._offloader = Offloader(threads)
        # files on disk are read once a call is answered
        self._can_answer_by_row = function.sequences is None and not function.files.are_on_disk

    async def answer(
        self, route: str, request: Request, deadline: RequestDeadline | None
    ) -> AnyResponse:
        """Return the response of a call.

        Args:
            route: of the function (``runtime.http.function_routes.ROUTES``); empty: its own.
            deadline: as of ``FunctionHandler.handle``.

        Raises:
            ClientDisconnected: the client disconnected.
            Exception: whatever the call is refused for, or fails of.
        """
        limits, now = self.function.spec.limits, time.monotonic()
        if deadline is None:
            deadline = read_deadline(request.fields, limits.request_timeout_s, now, time.time())
        if deadline.remaining_s(now) <= 0:
            raise deadline.expired_error()
        has_rows = not route and is_row_call(request)
        if has_rows and is_for_another(request, self.function.spec.name):
            raise not_found_error()
        kind = BodyKind.JSON
        if not (route or has_rows):
            kind = choose_kind(request.get(b"content-type"), self.function.spec.accepts)
        if request.query:
            raise query_error(request.query)
        tensors_at = 0 if has_rows else None
        if route == "/infer":
            tensors_at = read_header_length(request.get_all(HEADER_LENGTH))
        reservation = BodyReservation(self._budgets, self._retry_after_s)
        request.at_end(reservation.end)
        body = await request.read_body(limits.max_body_bytes, reservation, deadline, tensors_at)
        head = body if tensors_at is None else body[:tensors_at]
        if kind in _FORMS:
            reservation.add(len(body), 0)  # its parts are copied
        elif len(head) >= LARGE_BYTES and kind is not BodyKind.RAW and not has_rows:
            limit = max(self.function.in_flight.admission_limits.bytes, MIN_JSON_MEMORY_BYTES)
            await reserve_json_memory(
                head, len(body), limit, reservation, self._offloader, deadline
            )
        if has_rows:
            return await self._answer_row_call(request, body, deadline, reservation)
        if self.function.streams:
            return await self._stream(route, request, bytes(body), kind, deadline, reservation)
        if route:
            return await self._infer(request, body, deadline, reservation)
        return await self._call(request, bytes(body), kind, deadline, reservation)

    async def _call(
        self,
        request: Request,
        body: bytes,
        kind: BodyKind,
        deadline: RequestDeadline,
        reservation: BodyReservation,
    ) -> AnyResponse:
        content_type, size = request.get(b"content-type"), reading_size(kind, len(body))
        if size < LARGE_BYTES:
            rows = read_rows(self.function, body, kind, content_type)
        else:
            check = deadline_check(deadline)
            rows = await self._offloader.run(
                size, deadline, lambda: read_rows(self.function, body, kind, content_type, check)
            )
        options = self._make_options(body, request, deadline, reservation)
        as_lines = b"ndjson" in request.get(b"accept") and streaming.prefers_lines(
            request.get_all(b"accept")
        )
        call: Call | None
        if isinstance(rows, dict) and self.function.files.media_type:
            return await self._call_for_file(
                request, rows, options, deadline, reservation, as_lines=as_lines
            )
        if isinstance(rows, dict):
            call = request.call = await self.function.run((rows,), options)
            text = dumps(self.function.answer_of(call.rows[0]))
            if as_lines:
                text += b"\n"
        elif as_lines and self._can_answer_by_row and len(rows) > 1:
            return await self._answer_lines(request, rows, options, deadline)
        else:
            outcomes, call = await self.function.run_rows(rows, options)
            request.call = call
            write = write_lines if as_lines else write_rows
            text = await self._offloader.run(
                answer_size(outcomes), deadline, lambda: write(outcomes, request.id)
            )
        return Response((text,), (server_timing(call),), content_type=LINES if as_lines else JSON)

    async def _answer_lines(
        self,
        request: Request,
        rows: Sequence[Outcome],
        options: CallOptions,
        deadline: RequestDeadline,
    ) -> AnyResponse:
        """Return the rows' lines: whole where they are soon done, else as they are done."""
        source = RowsSource(self.function, rows, options)
        request.call = source.call

        def write_large(size: int, write: Callable[[], bytes]) -> Awaitable[bytes]:
            return self._offloader.run(size, deadline, write)

        writer = LinesWriter(source, request.id, write_large, request.recording)
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
        self,
        request: Request,
        row: dict[str, Any],
        options: CallOptions,
        deadline: RequestDeadline,
        reservation: BodyReservation,
        *,
        as_lines: bool,
    ) -> Response:
        """The answer is a file; a client that accepts JSON gets it as base64 text in JSON."""
        function = self.function
        call = request.call = await function.run((row,), options, keeps_files=True)
        file = await function.files.open(call, function.spec.limits.max_body_bytes)
        timing = server_timing(call)
        if prefers_file(request.get_all(b"accept"), file.media_type):
            return file_response(file, request, timing, reservation)
        answer = await function.files.read(call, file)
        text = await self._offloader.run(file.size, deadline, lambda: dumps(answer))
        buffers = (text, b"\n") if as_lines else (text,)
        content_type = LINES if as_lines else JSON
        return Response(buffers, (VARY_ACCEPT, timing), content_type=content_type)

    async def _stream(
        self,
        route: str,
        request: Request,
        body: bytes,
        kind: BodyKind,
        deadline: RequestDeadline,
        reservation: BodyReservation,
    ) -> StreamedResponse:
        stream_format = streaming.choose_format(route, request.get_all(b"accept"))
        content_type, check = request.get(b"content-type"), deadline_check(deadline)
        row, writer = await self._offloader.run(
            reading_size(kind, len(body)),
            deadline,
            lambda: streaming.read_stream_request(
                self.function, route, body, kind, content_type, stream_format, request.id, check
            ),
        )
        options = self._make_options(body, request, deadline, reservation)
        writer.recording = request.recording

        async def send_to(send: Send) -> None:
            try:
                await writer.run(self.function, row, options, send)
            finally:
                request.call = writer.call
                request.code, request.reason = writer.code, writer.reason

        return StreamedResponse(send_to)

    async def _infer(
        self,
        request: Request,
        body: bytes | memoryview,
        deadline: RequestDeadline,
        reservation: BodyReservation,
    ) -> Response:
        offload = self._offloader.run
        length = read_header_length(request.get_all(HEADER_LENGTH))
        infer, rows = await offload(
            _decoding_size(body, length), deadline, lambda: self._decode(body, length)
        )
        deadline = deadline.shortened(infer.timeout_s)
        options = self._make_options(body, request, deadline, reservation, infer)
        call = request.call = await self.function.run(rows, options)
        make_response = self.function.protocol.response
        size = tensors_size([row.values for row in call.rows], self.function.answer)
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

    async def _answer_row_call(
        self,
        request: Request,
        body: bytes | memoryview,
        deadline: RequestDeadline,
        reservation: BodyReservation,
    ) -> Response:
        rows = await self._offloader.run(
            row_call_size(body),
            deadline,
            lambda: read_row_call(self.function, body),
        )
        options = self._make_options(body, request, deadline, reservation, has_sequence=False)
        outcomes, call = await self.function.run_rows(rows, options, as_values=True)
        request.call = call
        return Response(encode_outcomes(outcomes), (server_timing(call),), content_type=ROWS)

    def _retry_after_s(self) -> float:
        return self.function.in_flight.retry_after_s

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
        request: Request,
        deadline: RequestDeadline,
        reservation: BodyReservation,
        infer: InferRequest | None = None,
        *,
        has_sequence: bool = True,
    ) -> CallOptions:
        """Return the options of a call, built once.

        Args:
            infer: its parameters name the sequence; None: the headers do.
            has_sequence: False: the call belongs to no sequence, whatever its headers say.
        """
        function, now = self.function, time.monotonic()
        headers = choose_headers(request.headers, function.headers) if function.headers else None
        sequence = None
        if has_sequence and function.sequences is not None:
            sequence = (
                request_headers.sequence_from_headers(request.fields)
                if infer is None
                else request_headers.sequence_from_parameters(infer.parameters, request.fields)
            )
            if sequence is not None and request.recording is not None:
                request.recording.sequence = sequence.id
        remaining_s = deadline.remaining_s(now)
        if self._row_quarantine is None:
            return CallOptions(
                request.id,
                remaining_s,
                sequence=sequence,
                headers=headers,
                account=reservation,
                trace=request.trace,
            )
        mark = fingerprint(body, function.label)
        decision = self._row_quarantine.decide(mark, deadline.age_s(now))
        refused = (
            dict.fromkeys(decision.refused, quarantine_error(function.spec.name))
            if decision.refused
            else None
        )
        return CallOptions(
            request.id,
            remaining_s,
            mark,
            decision.alone,
            refused,
            sequence,
            headers,
            reservation,
            request.trace,
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
