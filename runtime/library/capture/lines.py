"""The format of a capture, a line of JSON for each call, and how a call becomes one. Pure.

    {"wakeful_capture": 1, "function": "embed", "version": "3f…", "began": 1764400000.0,
     "keep_s": 604800.0}
    {"at": 1764400001.123456, "id": "4f…", "method": "POST", "path": "/v2/models/embed",
     "headers": {"content-type": "application/json"}, "body": {"text": "two words"},
     "status": 200, "code": "", "latency_ms": 3.1, "bytes_out": 4711, "rate": 0.01,
     "warm": true, "answer_sha256": "9f…"}

A file begins with the first line, and so does each part of it. Of a call:

    at             when it arrived, seconds since the epoch
    headers        those that decide what the body means, and until when an answer is of use
    body           JSON as it was sent; or body_base64, of any other body
    left_out       instead of a body, why there is none: ``omitted``, ``large``, ``unread``
    omitted        fields that were taken out
    status, code   of the answer; 499 ``disconnected``: the client left before it, and 200 with
                   this code: before its end
    latency_ms     from ``at`` until the answer was sent
    rate           share of the calls that was recorded when it came, 1 at most: so it stands for
                   1 / ``rate`` of them. An operator changes it within a file
    sequence       that it belongs to
    answer         JSON of the answer: of one that streams, or has a line for each row, an array
    answer_sha256  of the answer's bytes; of one that streams or has lines, of its items' JSON, each
                   with a newline behind it; not where anything was omitted, or may be in a body
                   that is left out: it could be guessed until the digest is the same
    items, first_ms   of an answer that streams: how many, and when the first was sent
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

import orjson

from runtime.declaration.sections import CaptureSpec
from runtime.errors import WakefulError
from runtime.library.capture.omission import (
    JSON_TYPES,
    Remainder,
    answer_without_fields,
    without_fields,
)
from runtime.protocol import loads

FORMAT: Final = "wakeful_capture"
VERSION: Final = 1

HEADER_LENGTH: Final = "inference-header-content-length"

HEADERS: Final = (
    "content-type",
    "accept",
    HEADER_LENGTH,
    "x-request-timeout-seconds",
    "x-sequence-id",
    "x-sequence-start",
    "x-sequence-end",
)
"""That are recorded; no other is, whatever a client or a proxy puts in it."""

_HEADERS: Final = tuple((name.encode(), name) for name in HEADERS)

_LENGTH: Final = HEADER_LENGTH.encode()

MAX_HEADER_CHARACTERS: Final = 1024

MAX_BODY_BYTES: Final = 4 << 20
"""Of a body, and of an answer, that is recorded."""

MAX_LINE_BYTES: Final = 16 << 20
"""Of a line: a body as base64, an answer as JSON, and the rest."""

PARTS: Final = 4
"""Of a file, that are kept, the one that is written included."""

Hide = Callable[[str], str]
"""Hides the secrets that a text has."""

LEFT_OUT: Final = ("omitted", "large", "unread")
"""Why a call has no body."""

DISCONNECTED: Final = 499
LEFT: Final = "disconnected"
"""The status of a call whose client left before its answer, and its code, which one that left
before the end has too."""


class EndedCall(NamedTuple):
    """A call that is over, as it was kept on the event loop: nothing of it is copied or computed.

    Attributes:
        at: when it arrived, seconds since the epoch.
        request_id: as it came.
        path: without a query.
        fields: the request's headers.
        body: None: it was not read, or not all of it.
        route: of the function (``runtime.http.function_routes.ROUTES``), or of the task.
        known: fields that the function takes; None: it was not loaded.
        status: of the answer; 0: its head was not sent.
        code: of the error that it was answered with, or ``LEFT``; empty: of none.
        latency_s: from ``at`` until the answer was sent.
        answer: its bytes, or its items; empty: none is kept.
        digest: its SHA-256 in hexadecimal, where that is all that is kept of it; empty: it is not.
        kind: what ``answer`` is: ``json``, ``items``, ``lines``, ``bytes``, or empty.
        bytes_out: of the answer's body.
        items: that were sent, of an answer that streams; None: it does not.
        first_s: from ``at`` until the first of them.
        is_warm: it found its function loaded; None: that is not known.
        sequence: that it belongs to; empty: to none.
        rate: share of the calls that was recorded when it came.
    """

    at: float
    request_id: bytes
    method: str
    path: str
    fields: Mapping[bytes, bytes]
    body: bytes | memoryview | None
    route: str
    known: Collection[str] | None
    status: int
    code: str
    latency_s: float
    answer: Sequence[bytes | memoryview]
    digest: str
    kind: str
    bytes_out: int
    items: int | None
    first_s: float | None
    is_warm: bool | None
    sequence: str
    rate: float


def header_line(function: str, version: str, began: float, keep_s: float) -> bytes:
    """Return the first line of a file.

    Args:
        version: of the function.
        began: seconds since the epoch.
        keep_s: for how long its calls may be kept.
    """
    head = {
        FORMAT: VERSION,
        "function": function,
        "version": version,
        "began": began,
        "keep_s": keep_s,
    }
    return orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)


def part_bytes(spec: CaptureSpec) -> int:
    """Return the most bytes of one part of a file; no line is longer."""
    return spec.keep_mb * 1_000_000 // PARTS


def call_line(call: EndedCall, spec: CaptureSpec, hide: Hide | None = None) -> bytes:
    """Return the line of a call; in any thread.

    Args:
        spec: what is not recorded of it.
        hide: None: there are no secrets.

    Raises:
        ValueError: a secret was a part of the line's form, such as a number.
    """
    headers = _headers(call.fields)
    body = _body(call, spec, headers, hide)
    line: dict[str, Any] = {
        "at": int(call.at * 1e6 + 0.5) / 1e6,  # ``round`` takes a tenth of all the rest
        "id": call.request_id.decode("latin-1"),
        "method": call.method,
        "path": call.path,
        "headers": headers,
        **body,
        "status": call.status or DISCONNECTED,
        "code": call.code,
        "latency_ms": round(call.latency_s * 1000, 3),
        "bytes_out": call.bytes_out,
        "rate": call.rate,
    }
    if call.is_warm is not None:
        line["warm"] = call.is_warm
    if call.sequence:
        line["sequence"] = call.sequence
    if call.items is not None:
        line["items"] = call.items
    if call.first_s is not None:
        line["first_ms"] = round(call.first_s * 1000, 3)
    line.update(_answer(call, spec, is_whole=not body.keys() & {"omitted", "left_out"}))
    text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    if hide is not None and (hidden := hide(shown := text.decode())) != shown:
        text = hidden.encode()
        orjson.loads(text)
    return text


def _headers(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    found = {}
    for name, shown in _HEADERS:
        if (value := fields.get(name)) is not None and len(value) <= MAX_HEADER_CHARACTERS:
            text = value.decode("latin-1")
            if text.isprintable():
                found[shown] = text
    return found


def _body(
    call: EndedCall, spec: CaptureSpec, headers: dict[str, str], hide: Hide | None
) -> dict[str, Any]:
    """Return what is recorded of the body; ``headers`` are made to fit it."""
    if call.body is None:
        return {"left_out": "unread"}
    if len(call.body) > min(MAX_BODY_BYTES, part_bytes(spec) // 2):  # as base64 2/3 of a part
        return {"left_out": "large"}
    if not _has_type(call.fields, headers):
        return {"left_out": "large"}
    body, media_type = bytes(call.body), media_type_of(headers)
    omitted: tuple[str, ...] = ()
    if spec.omit:
        left = _without_fields(call, spec, headers, body, media_type)
        if left is None:
            return {"left_out": "omitted", "omitted": list(spec.omit)}
        body, omitted = left.body, left.omitted
        if left.header_length is not None:
            headers[HEADER_LENGTH] = str(left.header_length)
    found: dict[str, Any] = {}
    if media_type in JSON_TYPES and HEADER_LENGTH not in headers and is_json(body, call.status):
        found["body"] = _fragment(body if hide is None else _in_plain_letters(body))
    elif hide is not None and _has_secret(body, media_type, hide):
        return {"left_out": "omitted"}
    else:
        found["body_base64"] = base64.b64encode(body).decode("ascii")
    if omitted:
        found["omitted"] = list(omitted)
    return found


def _has_type(fields: Mapping[bytes, bytes], headers: Mapping[str, str]) -> bool:
    """Whether all that says what the body is was kept."""
    return (b"content-type" in fields) is ("content-type" in headers) and (_LENGTH in fields) is (
        HEADER_LENGTH in headers
    )


def _without_fields(
    call: EndedCall, spec: CaptureSpec, headers: Mapping[str, str], body: bytes, media_type: str
) -> Remainder | None:
    if call.known is None:
        return None
    length = headers.get(HEADER_LENGTH, "")
    return without_fields(
        body,
        route=call.route,
        media_type=media_type,
        header_length=int(length) if length.isdecimal() and length.isascii() else None,
        fields=call.known,
        omit=spec.omit,
    )


def _in_plain_letters(text: bytes) -> bytes:
    """JSON in which no letter is escaped that need not be: a secret in it is found."""
    return orjson.dumps(orjson.loads(text)) if b"\\" in text else text


def _has_secret(body: bytes, media_type: str, hide: Hide) -> bool:
    """Whether a secret stands in a body that is no JSON: nothing can be put in its place there, of
    lengths that are said elsewhere.
    """
    text = body.decode(errors="surrogateescape")
    forms = [text]
    if media_type == FORM_TYPE:
        forms.append(unquote_plus(text))
    elif b"\\" in body:  # in lines of JSON
        forms += [one.decode() for one in map(_plain_or_none, body.split(b"\n")) if one is not None]
    return any(hide(form) != form for form in forms)


def _plain_or_none(text: bytes) -> bytes | None:
    try:
        return _in_plain_letters(text)
    except orjson.JSONDecodeError:
        return None


FORM_TYPE: Final = "application/x-www-form-urlencoded"


def media_type_of(headers: Mapping[str, str]) -> str:
    """Return the content type without its parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(body: bytes, status: int) -> bool:
    """Whether a body is JSON. The function has read that of a call that it answered, and to read
    it once more would cost as much as all the rest of a line.
    """
    if status == 200:
        return True
    try:
        loads(body)
    except WakefulError:
        return False
    return True


def _fragment(text: bytes) -> orjson.Fragment:
    """JSON within JSON, on one line: between tokens a newline is a blank, and within a string there
    is none.
    """
    if b"\n" in text or b"\r" in text:
        text = text.translate(_ONE_LINE)
    return orjson.Fragment(text)


_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


def _answer(call: EndedCall, spec: CaptureSpec, *, is_whole: bool) -> Iterator[tuple[str, Any]]:
    """Yield what is recorded of the answer.

    Args:
        is_whole: all of the body is recorded.
    """
    if not call.kind or call.status != 200:
        return
    if call.digest:
        if not spec.omit:  # which may be declared since then
            yield "answer_sha256", call.digest
        return
    end = b"\n" if call.kind == "items" else b""
    text = b"".join([bytes(piece) + end for piece in call.answer])
    if not spec.omit:
        yield "answer_sha256", hashlib.sha256(text).hexdigest()
    if call.kind == "bytes" or (not spec.omit and spec.answer == "digest"):
        return
    shown = text
    if call.kind != "json":
        shown = b"[%b]" % b",".join(line for line in text.split(b"\n") if line)
    if spec.omit:
        left = answer_without_fields(shown, route=call.route, omit=spec.omit)
        if left is None:
            return
        if is_whole and not left.omitted:
            yield "answer_sha256", hashlib.sha256(text).hexdigest()
        shown = left.body
    if spec.answer == "full" and len(shown) <= part_bytes(spec) // 4:
        yield "answer", _fragment(shown)
