"""A call by a stage of a function in another process: rows of Python values in, the values of the last stage out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Scope, Send

from runtime.errors import FunctionError, MalformedBody, WakefulError
from runtime.function import Function
from runtime.http import exchange
from runtime.http.aside import LARGE_BYTES
from runtime.http.exchange import Header
from runtime.wire.rows_codec import CONTENT_TYPE, Outcome, encode
from runtime.wire.rows_reader import Buffer, decode

KIND: Final[Header] = (b"content-type", CONTENT_TYPE)


def is_sent(scope: Scope) -> bool:
    """Whether the body says it is such rows."""
    return exchange.header(scope, b"content-type") == CONTENT_TYPE


def takes_long(body: Buffer) -> bool:
    """Whether reading it does: by its head; arrays are taken from where they lie."""
    return len(body) >= LARGE_BYTES and int.from_bytes(body[4:8], "little") >= LARGE_BYTES


def checked(function: Function, body: Buffer) -> list[Outcome]:
    """The rows of a body, each checked, or its error; in any thread.

    Raises:
        MalformedBody: the body is none of such rows, or has errors among them.
        TooLarge: more rows than the function takes.
    """
    rows = decode(body, function.spec.limits.max_rows)
    if any(isinstance(row, WakefulError) for row in rows):
        raise MalformedBody("a call has no errors among its rows.", where="errors")
    return function.check_rows(rows, as_values=True)


async def send(send: Send, outcomes: Sequence[Outcome], headers: Sequence[Header]) -> None:
    """The answer; a row that cannot go to another process fails alone."""
    try:
        pieces = encode(outcomes)
    except FunctionError:
        pieces = encode([_travelling(outcome) for outcome in outcomes])
    length = sum(map(len, pieces))
    await send({"type": "http.response.start", "status": 200, "headers": [KIND, (b"content-length", b"%d" % length), *headers]})
    for index, piece in enumerate(pieces, 1):
        await send({"type": "http.response.body", "body": piece, "more_body": index < len(pieces)})


def _travelling(outcome: Outcome) -> Outcome:
    try:
        encode([outcome])
    except FunctionError as error:
        return error
    return outcome
