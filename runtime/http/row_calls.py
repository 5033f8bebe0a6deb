"""Calls from one function to another over HTTP: rows of Python values in, the values of the last
stage out; and the secret that such calls carry.

A split stage is a function of its own, at a prefix of its own that HAProxy routes from anywhere.
The stages before it in its graph may be a guard, so only functions of the same cluster may call it,
by the cluster's secret; for all other clients it does not exist.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, MalformedBody, NotFound, WakefulError
from runtime.execution.function import Function
from runtime.http.bodies.byte_budget import LARGE_BYTES
from runtime.http.exchange import Request, Response
from runtime.http.request_headers import Header
from runtime.protocol.row_codec import CONTENT_TYPE, Buffer, Outcome, decode_rows, encode_rows

SECRET_HEADER: Final = b"x-wakeful-internal"

_ROWS: Final[Header] = (b"content-type", CONTENT_TYPE)


def is_row_call(request: Request) -> bool:
    """Whether the body is rows of Python values, by its media type."""
    return request.get(b"content-type") == CONTENT_TYPE


def takes_long(body: Buffer) -> bool:
    """Whether reading the body does, judged by its head; arrays are used from where they lie."""
    return len(body) >= LARGE_BYTES and int.from_bytes(body[4:8], "little") >= LARGE_BYTES


def check_row_call(function: Function, body: Buffer) -> list[Outcome]:
    """Return the rows of a body, each checked, or its error; runs in any thread.

    Raises:
        MalformedBody: the body is not such rows, or has errors among them.
        TooLarge: more rows than the function takes.
    """
    rows = decode_rows(body, function.spec.limits.max_rows)
    if any(isinstance(row, WakefulError) for row in rows):
        raise MalformedBody("a call has no errors among its rows.", where="errors")
    return function.validate_rows(rows, as_values=True)


def rows_response(outcomes: Sequence[Outcome], headers: Sequence[Header]) -> Response:
    """Return the response; a row that cannot go to another process fails alone."""
    try:
        buffers = encode_rows(outcomes)
    except FunctionError:
        buffers = encode_rows([_to_serializable(outcome) for outcome in outcomes])
    return Response(buffers, headers, content_type=_ROWS)


def _to_serializable(outcome: Outcome) -> Outcome:
    try:
        encode_rows([outcome])
    except FunctionError as error:
        return error
    return outcome


def is_hidden(spec: FunctionSpec, request: Request, secret: bytes) -> bool:
    """Whether the function does not exist for this request: it is a split stage, and the request
    does not carry the secret.

    Args:
        secret: of the cluster; empty: no request from outside of this process carries it.
    """
    return bool(spec.part_of) and not (
        secret and hmac.compare_digest(request.get(SECRET_HEADER), secret)
    )


def not_found_error(hint: str = "") -> NotFound:
    """Return the error for a path at which no function answers."""
    return NotFound(
        f"no function answers here{hint or '; the catalogue lists those that are declared.'}"
    )
