"""The routes of one function, and what is refused by path, method and headers alone, whether the
function is in memory or not. Pure.

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
from typing import Final

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
from runtime.http.request_headers import Header
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

READINESS: Final = "/ready"
CONFIGURATION: Final = "/config"
STATISTICS: Final = "/stats"
ALL_STATISTICS: Final = "/v2/models/stats"
"""Of all functions, where none is declared at that path."""

METHODS: Final[Mapping[str, Sequence[str]]] = {
    "": ("GET", "HEAD", "POST"),
    "/infer": ("POST",),
    READINESS: ("GET", "HEAD"),
    CONFIGURATION: ("GET", "HEAD"),
    STATISTICS: ("GET", "HEAD"),
    **dict.fromkeys(GENERATE_ROUTES, ("POST",)),
}
"""By route."""

ROUTES: Final = {f"{version}{route}": route for version in ("", "/versions/1") for route in METHODS}
"""By the rest of the path behind the prefix."""


def keep_route(request: Request, prefix: str, known: Collection[str] | None) -> None:
    """Have a call recorded with its address. One that is none of the function's is not recorded,
    since it may be anything, nor are rows of another function: its own call is.

    Args:
        known: fields that the function takes; None: it is not loaded.
    """
    assert request.recording is not None
    route = ROUTES.get(request.path[len(prefix) :])
    if route is None or is_row_call(request):
        request.recording = None
    else:
        request.recording.keep_route(request.path, route, known)


def keep_answer(recording: CallRecording, response: Response) -> None:
    """Have a whole answer recorded, but for one that is sent from the disk."""
    if sum(map(len, response.buffers)) == response.length:
        # a file may say that it is of these types, and have anything in it
        is_json, is_lines = response.content_type is JSON, response.content_type is LINES
        kind = recorder.JSON if is_json else recorder.LINES if is_lines else recorder.BYTES
        recording.keep_answer(response.buffers, kind)


def refusal(name: str, prefix: str, route: str | None) -> WakefulError:
    """Return the error for a request whose path or method is none of the function's.

    Args:
        name: of the function.
        route: of the path; None: it has none.
    """
    if route is not None:
        return MethodNotAllowed.of(METHODS[route])
    return NotFound(f"no such route; the function {name!r} answers at {prefix}, /infer and /ready.")


def reads_body(request: Request, name: str, prefix: str, accepts: Sequence[str]) -> bool:
    """Whether the body of a request would be read, by a function at ``prefix`` that ``accepts``
    these media types and may stream.

    Raises:
        NotFound, MethodNotAllowed: as of ``refusal``; a preflight's method is among them.
        UnsupportedMediaType: it is of a type, or compressed in a way, that is not taken.
        UnknownInput: the URL has parameters.
    """
    route = ROUTES.get(request.path[len(prefix) :])
    if route is None or request.method not in METHODS[route]:
        raise refusal(name, prefix, route)
    if request.method != "POST":
        return False
    if not (route or is_row_call(request)):
        choose_kind(request.get(b"content-type"), accepts)
    if encoding := request.get(b"content-encoding"):
        check_encoding(encoding)
    if request.query:
        raise query_error(request.query)
    return True


def is_plain_json(request: Request) -> bool:
    """Whether a body is JSON by its media type, or has none, which is the same."""
    name = request.get(b"content-type").partition(b";")[0].strip().lower()
    return name in (b"", b"application/json")


def is_row_call(request: Request) -> bool:
    """Whether the body is rows of Python values, by its media type: one function calls another."""
    return request.get(b"content-type") == CONTENT_TYPE


def is_for_another(request: Request, name: str) -> bool:
    """Whether a call by another function means another one than ``name``."""
    return request.get(CALLEE_HEADER) not in (b"", name.encode())


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


def explain_refusal(
    error: Exception, request: Request, spec: FunctionSpec, form: Callable[[], CallForm | None]
) -> Exception:
    """Return the error that a client gets, which says how a file is sent where it sent one
    otherwise (``runtime.http.bodies.sent_files``).

    Args:
        form: returns what a call of the function sends; None: it is not known here.
    """
    if not isinstance(error, RequestError) or request.method != "POST" or is_row_call(request):
        return error
    if request.get(b"content-encoding"):  # what is known of the body may be as it came
        return error
    route = ROUTES.get(request.path[len(spec.route_prefix) :])
    content_type, body = request.get(b"content-type"), request.body
    kind: BodyKind | None = None if route == "/infer" else BodyKind.JSON
    if route is None or (kind is None and request.get(_BINARY_BEHIND)):
        return error
    if not route:
        try:
            kind = choose_kind(content_type, spec.accepts)
        except UnsupportedMediaType:
            body = None  # a short one has come with the head, and was not looked at
    host, scheme = request.get(b"host"), request.get(b"x-forwarded-proto")
    url = sent_files.url_of(host, scheme, spec.route_prefix)
    sent = sent_files.Sent(content_type, kind, body, url)
    return sent_files.explain(error, sent, spec.accepts, form)


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


def reads_statistics(request: Request, prefix: str) -> bool:
    """Whether a request asks what was counted of the function at ``prefix``."""
    return (
        request.method in METHODS[STATISTICS]
        and ROUTES.get(request.path[len(prefix) :]) == STATISTICS
    )


def reads_readiness(request: Request, prefix: str) -> bool:
    """Whether a request asks if the function at ``prefix`` can answer."""
    return (
        request.method in METHODS[READINESS]
        and ROUTES.get(request.path[len(prefix) :]) == READINESS
    )


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


def hot_targets(function: Function, prefix: str) -> tuple[bytes, ...]:
    """Return the paths, as they travel, at which a function of this prefix is called with a short
    body as a rule. A stream needs a task of its own, and so does a wait for a sequence's turn, or
    for a file on disk.
    """
    if function.streams or function.sequences is not None or function.files.are_on_disk:
        return ()
    return (prefix.encode(), f"{prefix}/infer".encode())
