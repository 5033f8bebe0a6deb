"""What a body is, by its content type, and the rows of a call in it; in any thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, Final

from runtime.errors import (
    MalformedBody,
    UnsupportedMediaType,
    WakefulError,
    WrongDatatype,
    refuse_too_many,
)
from runtime.execution.function import Function
from runtime.http.bodies import forms
from runtime.http.bodies.answers import Outcome
from runtime.protocol import loads
from runtime.protocol.content_kinds import kind_of_content
from runtime.protocol.row_codec import Buffer, decode_rows
from runtime.system.messages import quote_names
from runtime.types.annotations import covers


class BodyKind(Enum):
    """How the rows of a call stand in its body.

    ``JSON``: an object, or an array of them. ``LINES``: a line of JSON for each row. ``FORM`` and
    ``MULTIPART``: a form's fields are one row's. ``RAW``: it fills one field as it is. ``VALUES``:
    rows of Python values, that another function sends (``runtime.protocol.row_codec``).
    """

    JSON = "application/json"
    LINES = "application/x-ndjson"
    FORM = "application/x-www-form-urlencoded"
    MULTIPART = "multipart/form-data"
    RAW = "raw"
    VALUES = "values"


_KINDS: Final = {
    b"": BodyKind.JSON,
    **{
        kind.value.encode(): kind
        for kind in BodyKind
        if kind not in (BodyKind.RAW, BodyKind.VALUES)
    },
}

_PLAIN_JSON: Final = frozenset({b"", b"application/json"})
"""What nearly all calls have."""


PAIRS_FACTOR: Final = 8
"""A form in pairs takes as long to read as so many times its bytes of JSON: an escape of three
takes 0.4 us.
"""

STEP_BYTES: Final = 256 << 10
"""Of blank lines that are passed over at once, in a millisecond."""

_NOT_BLANK: Final = re.compile(rb"\S")


def choose_kind(content_type: bytes, accepts: Sequence[str]) -> BodyKind:
    """Return what a body of this content type is. What a function accepts comes before lines and
    forms of one part; a body without a content type is JSON.

    Args:
        content_type: the header's value; parameters such as ``charset`` are ignored.
        accepts: as declared, ranges among them.

    Raises:
        UnsupportedMediaType: with the types that are taken.
    """
    if content_type in _PLAIN_JSON:
        return BodyKind.JSON
    name = content_type.split(b";", 1)[0].strip().lower()
    kind = _KINDS.get(name)
    if kind in (BodyKind.JSON, BodyKind.MULTIPART):
        return kind
    if not name.startswith(b"multipart/") and any(
        covers(media, name.decode("latin-1")) for media in accepts
    ):
        return BodyKind.RAW
    if kind is not None:
        return kind
    taken = ", ".join([BodyKind.JSON.value, *accepts, f"{BodyKind.LINES.value} and forms"])
    raise UnsupportedMediaType(
        f"the body is {quote_names(name.decode('latin-1'))}, and the call takes {taken}.",
        where="content-type",
    )


def reading_size(kind: BodyKind, size: int) -> int:
    """Return the bytes of JSON that take as long to read as a body of so many bytes: nothing is
    read of one that is a field as it is, and each escape of a form in pairs by itself.
    """
    if kind is BodyKind.RAW:
        return 0
    return PAIRS_FACTOR * size if kind is BodyKind.FORM else size


def read_rows(
    function: Function,
    body: bytes,
    kind: BodyKind,
    content_type: bytes = b"",
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any] | list[Outcome]:
    """Return the row of a body, validated; or its rows, each validated or with its error.

    Args:
        content_type: the header's value, of a form in parts.
        check: raises once the call's time is over; called between parts and lines.

    Raises:
        RequestError: the body is not what its kind says, has too many rows, or is one row that is
            refused, or lines that begin as a file of another kind does.
        DeadlineExceeded: as of ``check``.
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
        return _read_lines(function, body, check)
    parts = (
        forms.read_urlencoded(body)
        if kind is BodyKind.FORM
        else forms.read_multipart(body, content_type, check)
    )
    return function.validator.validate(function.validator.form_converter.read_row(parts))


def _read_lines(function: Function, body: bytes, check: Callable[[], None]) -> list[Outcome]:
    """A line that is no JSON fails alone; empty ones are none."""
    max_rows = function.spec.limits.max_rows
    lines = list(islice(_lines(body, check), max_rows + 1))
    refuse_too_many(len(lines), max_rows)
    rows: list[Any] = []
    errors: dict[int, WakefulError] = {}
    for index, line in enumerate(lines):
        check()
        try:
            rows.append(loads(line))
        except WakefulError as error:
            if not index and kind_of_content(body):  # its lines are none
                raise
            error.where = f"[{index}]"
            errors[index] = error
            rows.append(None)
    outcomes: list[Outcome] = list(function.validate_rows(rows))
    for index, refused in errors.items():
        outcomes[index] = refused
    return outcomes


def _lines(body: bytes, check: Callable[[], None]) -> Iterator[bytes]:
    """Yield the lines that are not blank. A body may be blank for megabytes: it is looked at a step
    at a time, and no object is made of a blank line.
    """
    start = 0
    while start < len(body):
        found = _NOT_BLANK.search(body, start, start + STEP_BYTES)
        if found is None:
            check()
            start += STEP_BYTES
            continue
        end = body.find(b"\n", found.start())
        end = len(body) if end < 0 else end
        yield body[found.start() : end]
        start = end + 1


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


def row_call_size(body: Buffer) -> int:
    """Return the bytes of a call by another function that are read, by its head: arrays are used
    where they lie.
    """
    return min(len(body), int.from_bytes(body[4:8], "little"))
