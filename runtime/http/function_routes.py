"""The routes of one function, and what a request asks of it: decided once, by path, method and
headers alone, whether the function is in memory or not (``route_request``). Pure.

    POST PREFIX            call it: an object in, an object out; an array in, an array out; a form,
                           lines of JSON, or a body as it is (``runtime.http.bodies``)
    POST PREFIX/infer      Open Inference Protocol v2 inference
    GET  PREFIX            v2 model metadata
    GET  PREFIX/ready      v2 model readiness
    GET  PREFIX/config         Triton's model configuration extension
    GET  PREFIX/stats          Triton's statistics extension; wakes no function
    POST PREFIX/generate_stream, PREFIX/generate      Triton's generate extension, if it streams
    the same under PREFIX/versions/1

Fourteen fixed paths need one dictionary: Starlette's router, Request and Response cost as much
again as the rest of a short call.

A split stage is a function of its own, at a prefix of its own that HAProxy routes from anywhere.
The stages before it in its graph may be a guard, so only functions of the same cluster may call it,
by the cluster's secret; for all other clients it does not exist.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from runtime.batching.reservation import BodyReservation
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import (
    MethodNotAllowed,
    NotFound,
    RequestError,
    UnknownInput,
    UnsupportedMediaType,
    WakefulError,
)
from runtime.execution.function import Function
from runtime.graph.requests.curl_lines import CallForm
from runtime.http.bodies import sent_files
from runtime.http.bodies.content_encoding import check_encoding
from runtime.http.bodies.rows import BodyKind, choose_kind
from runtime.http.exchange import JSON, LINES, Request, Response, json_response
from runtime.http.request_headers import Header, RequestDeadline, read_deadline
from runtime.library.capture import recorder
from runtime.protocol import dumps
from runtime.protocol.row_codec import CONTENT_TYPE
from runtime.system.messages import quote_names
from runtime.system.telemetry.counters import CallRecording
from runtime.types.annotations import REQUEST_ID

SECRET_HEADER: Final = b"x-wakeful-internal"

CALLEE_HEADER: Final = b"x-wakeful-function"
"""The function that another one means to call: while an update gives prefixes from one function to
another, any other function does not exist for that call.
"""

GENERATE_ROUTES: Final = ("/generate", "/generate_stream")
"""Of functions that stream."""

INFER: Final = "/infer"
READINESS: Final = "/ready"
CONFIGURATION: Final = "/config"
STATISTICS: Final = "/stats"
ALL_STATISTICS: Final = "/v2/models/stats"
"""Of all functions, where none is declared at that path."""

METHODS: Final[Mapping[str, Sequence[str]]] = {
    "": ("GET", "HEAD", "POST"),
    INFER: ("POST",),
    READINESS: ("GET", "HEAD"),
    CONFIGURATION: ("GET", "HEAD"),
    STATISTICS: ("GET", "HEAD"),
    **dict.fromkeys(GENERATE_ROUTES, ("POST",)),
}
"""By route."""

ROUTES: Final = {f"{version}{route}": route for version in ("", "/versions/1") for route in METHODS}
"""By the rest of the path behind the prefix."""


class RoutedRequest(NamedTuple):
    """What a request asks of one function: decided once, where it arrives, by its path, its method
    and its headers, whether the function is in memory or not. A tuple, since every call makes one.

    Attributes:
        request: the request.
        spec: of the function.
        prefix: where the function is mounted for this request.
        route: of ``METHODS``; None: the path is none of the function's.
        is_call: it is to be computed, and so it is counted, logged, traced and recorded, refused or
            not.
        is_hidden: the function does not exist for this request (``is_hidden``).
        kind: how the rows of a call stand in its body; None: in the Open Inference Protocol.
        began: when it was routed, seconds of ``time.monotonic``.
        deadline: until when its answer is of use.
        reservation: counts its body, in the budgets of the function and of the process.
        refusal: why it is not answered, whatever its body is; None: nothing is wrong with it.
    """

    request: Request
    spec: FunctionSpec
    prefix: str
    route: str | None
    is_call: bool
    is_hidden: bool
    kind: BodyKind | None
    began: float
    deadline: RequestDeadline
    reservation: BodyReservation
    refusal: WakefulError | None

    def keep_route(self, known: Collection[str] | None) -> None:
        """Have a call recorded with its address. One that is none of the function's is not
        recorded, since it may be anything, nor are rows of another function: its own call is.

        Args:
            known: fields that the function takes; None: it is not loaded.
        """
        request, record = self.request, self.request.record
        assert record.recording is not None
        if self.route is None or is_row_call(request):
            record.recording = None
        else:
            record.recording.keep_route(request.path, self.route, known)

    def explain(self, error: Exception, form: Callable[[], CallForm | None]) -> Exception:
        """Return the error that a client gets, which says how a file is sent where it sent one
        otherwise (``runtime.http.bodies.sent_files``).

        Args:
            form: returns what a call of the function sends; None: it is not known here.
        """
        request = self.request
        if not isinstance(error, RequestError) or not self.is_call or is_row_call(request):
            return error
        if request.get(b"content-encoding"):  # what is known of the body may be as it came
            return error
        if self.route is None or (self.kind is None and request.get(_BINARY_BEHIND)):
            return error
        body = request.body
        if error is self.refusal and isinstance(error, UnsupportedMediaType):
            body = None  # a short one has come with the head, and was not looked at
        host, scheme = request.get(b"host"), request.get(b"x-forwarded-proto")
        url = sent_files.url_of(host, scheme, self.prefix)
        sent = sent_files.Sent(request.get(b"content-type"), self.kind, body, url)
        return sent_files.explain(error, sent, self.spec.accepts, form)


def route_request(
    request: Request,
    spec: FunctionSpec,
    prefix: str,
    function: Function | None,
    reservation: BodyReservation,
    secret: bytes,
    now: float,
    clock: float,
) -> RoutedRequest:
    """Return what a request asks of a function whose prefix its path is under.

    Args:
        function: the same, loaded; None: it is not, and may stream.
        reservation: has counted nothing yet.
        secret: as of ``is_hidden``.
        now: seconds of ``time.monotonic``.
        clock: seconds since the epoch, at the same moment.
    """
    route = ROUTES.get(request.path[len(prefix) :])
    if route in GENERATE_ROUTES and function is not None and not function.streams:
        route = None
    hidden = bool(spec.deployed.part_of) and is_hidden(spec, request, secret)
    is_call = request.method == "POST"
    kind: BodyKind | None = BodyKind.JSON
    refusal: WakefulError | None = None
    try:
        if hidden:
            raise not_found_error()
        if route is None or request.method not in METHODS[route]:
            raise route_error(spec.name, prefix, route)
        if is_call:
            kind = _kind_of_call(request, spec, route)
    except WakefulError as error:
        refusal = error.with_traceback(None)
    deadline = read_deadline(request.fields, spec.limits.request_timeout_s, now, clock)
    return RoutedRequest(
        request, spec, prefix, route, is_call, hidden, kind, now, deadline, reservation, refusal
    )


def _kind_of_call(request: Request, spec: FunctionSpec, route: str) -> BodyKind | None:
    """Return how the rows of a call stand in its body.

    Raises:
        NotFound: another function means another one.
        UnknownInput: the URL has parameters.
        UnsupportedMediaType: it is of a type, or compressed in a way, that is not taken.
    """
    kind, fields = None if route == INFER else BodyKind.JSON, request.fields
    if not route:
        content_type = fields.get(b"content-type", b"")
        if content_type != CONTENT_TYPE:
            kind = choose_kind(content_type, spec.accepts)
        elif fields.get(CALLEE_HEADER, b"") in (b"", spec.name.encode()):
            kind = BodyKind.VALUES
        else:
            raise not_found_error()
    if request.query:
        raise query_error(request.query)
    if b"content-encoding" in fields:
        check_encoding(fields[b"content-encoding"])
    return kind


def keep_answer(recording: CallRecording, response: Response) -> None:
    """Have a whole answer recorded, but for one that is sent from the disk."""
    if sum(map(len, response.buffers)) == response.length:
        # a file may say that it is of these types, and have anything in it
        is_json, is_lines = response.content_type is JSON, response.content_type is LINES
        kind = recorder.JSON if is_json else recorder.LINES if is_lines else recorder.BYTES
        recording.keep_answer(response.buffers, kind)


def route_error(name: str, prefix: str, route: str | None) -> WakefulError:
    """Return the error for a request whose path or method is none of the function's.

    Args:
        name: of the function.
        route: of the path; None: it has none.
    """
    if route is not None:
        return MethodNotAllowed.of(METHODS[route])
    return NotFound(f"no such route; the function {name!r} answers at {prefix}, /infer and /ready.")


def is_plain_json(request: Request) -> bool:
    """Whether a body is JSON by its media type, or has none, which is the same."""
    name = request.get(b"content-type").partition(b";")[0].strip().lower()
    return name in (b"", b"application/json")


def is_row_call(request: Request) -> bool:
    """Whether the body is rows of Python values, by its media type: one function calls another."""
    return request.get(b"content-type") == CONTENT_TYPE


def is_hidden(spec: FunctionSpec, request: Request, secret: bytes) -> bool:
    """Whether the function does not exist for this request: it is a split stage, and the request
    does not carry the secret.

    Args:
        secret: of the cluster; empty: no request from outside of this process carries it.
    """
    return bool(spec.deployed.part_of) and not (
        secret and hmac.compare_digest(request.get(SECRET_HEADER), secret)
    )


def not_found_error(hint: str = "") -> NotFound:
    """Return the error for a path at which no function answers."""
    return NotFound(
        f"no function answers here{hint or '; the catalogue lists those that are declared.'}"
    )


def query_error(query: bytes) -> UnknownInput:
    """Return the error for a URL with parameters."""
    name = query.partition(b"&")[0].partition(b"=")[0].decode("latin-1")
    return UnknownInput(
        f"a call has no query parameters, and {quote_names(name)} is given as one; send it as a "
        "field in the body.",
        where="query",
    )


_BINARY_BEHIND: Final = b"inference-header-content-length"
"""A v2 request whose tensors follow its JSON."""


def call_form(function: Function) -> CallForm | None:
    """Return what a call of a loaded function sends; None where its annotations have no schema."""
    try:
        schema = function.validator.form_converter.schema
    except Exception:  # whatever a user's annotations make pydantic raise
        return None
    headers = {
        header.name: header.example
        for header in function.headers.values()
        if header.is_required and header.name != REQUEST_ID.name
    }
    spec = function.spec
    return CallForm(schema, headers, spec.sequences is not None, spec.example)


def readiness_response(name: str, reason: str, headers: Sequence[Header] = ()) -> Response:
    """Return whether a function can answer, as the Open Inference Protocol has it.

    Args:
        reason: why it cannot; empty: it can.
    """
    readiness: dict[str, str | bool] = {"name": name, "ready": not reason}
    if reason:
        readiness["reason"] = reason
    return json_response(dumps(readiness), headers, 503 if reason else 200)


def reads_all_statistics(request: Request) -> bool:
    """Whether a request asks what was counted of all functions."""
    return request.path == ALL_STATISTICS and request.method in METHODS[STATISTICS]


def is_short_call(function: Function, rest: bytes) -> bool:
    """Whether a POST to this path behind the function's prefix is a call with a short body as a
    rule. A stream needs a task of its own, and so does a wait for a sequence's turn, or for a file
    on disk.
    """
    return rest in _SHORT and not (
        function.streams or function.sequences is not None or function.files.are_on_disk
    )


_SHORT: Final = (b"", INFER.encode())
