"""The rows of a call, from a body of any kind, or from another function; runs in any thread."""

from __future__ import annotations

from typing import Any

from runtime.errors import MalformedBody, WakefulError, WrongDatatype, refuse_too_many
from runtime.execution.function import Function
from runtime.http.bodies import forms
from runtime.http.bodies.answers import Outcome
from runtime.http.bodies.byte_budget import LARGE_BYTES
from runtime.http.bodies.media_types import BodyKind
from runtime.protocol import loads
from runtime.protocol.row_codec import Buffer, decode_rows


def read_rows(
    function: Function, body: bytes, kind: BodyKind, content_type: bytes = b""
) -> dict[str, Any] | list[Outcome]:
    """Return the row of a body, validated; or its rows, each validated or with its error.

    Args:
        content_type: the header's value, of a form in parts.

    Raises:
        RequestError: the body is not what its kind says, has too many rows, or is one row that is
            refused.
        FunctionError: as of ``RowValidator.validate``.
    """
    if kind is BodyKind.JSON:
        data = loads(body)
        if isinstance(data, dict):
            return function.validator.validate(data)
        if isinstance(data, list):
            refuse_too_many(len(data), function.spec.limits.max_rows)
            return function.validate_rows(data)
        raise WrongDatatype("a call is a JSON object, or an array of them.")
    if kind is BodyKind.RAW:
        return function.validator.validate({function.raw_field: body})
    if kind is BodyKind.LINES:
        return _read_lines(function, body)
    parts = (
        forms.read_urlencoded(body)
        if kind is BodyKind.FORM
        else forms.read_multipart(body, content_type)
    )
    return function.validator.validate(function.validator.form_converter.read_row(parts))


def _read_lines(function: Function, body: bytes) -> list[Outcome]:
    """A line that is no JSON fails alone; empty ones are none."""
    text = body.strip()
    refuse_too_many(text.count(b"\n") + bool(text), function.spec.limits.max_rows)
    lines = [line for line in text.split(b"\n") if line.strip()]
    rows: list[Any] = []
    errors: dict[int, WakefulError] = {}
    for index, line in enumerate(lines):
        try:
            rows.append(loads(line))
        except WakefulError as error:
            error.where = f"[{index}]"
            errors[index] = error
            rows.append(None)
    outcomes: list[Outcome] = list(function.validate_rows(rows))
    for index, refused in errors.items():
        outcomes[index] = refused
    return outcomes


def read_row_call(function: Function, body: Buffer) -> list[Outcome]:
    """Return the rows that another function sends (``runtime.protocol.row_codec``), each checked,
    or its error.

    Raises:
        MalformedBody: the body is not such rows, or has errors among them.
        TooLarge: more rows than the function takes.
    """
    rows = decode_rows(body, function.spec.limits.max_rows)
    if any(isinstance(row, WakefulError) for row in rows):
        raise MalformedBody("a call has no errors among its rows.", where="errors")
    return function.validate_rows(rows, as_values=True)


def is_large_row_call(body: Buffer) -> bool:
    """Whether reading the body takes long, judged by its head: arrays are used where they lie."""
    return len(body) >= LARGE_BYTES and int.from_bytes(body[4:8], "little") >= LARGE_BYTES
