"""What is wrong with an answer, whatever the call was: pure.

Right are: every status below 500 in the error form where it is an error, 503 with its reason, and
504 where the caller said how long it waits. Rows and streams fail within a status of 200: they are
looked at too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from loadtests.fuzz.calls import FuzzCall
from loadtests.fuzz.sending import Answer

LEAKS: Final = (b"Traceback (most recent", b'File \\"/', b"site-packages", b" object at 0x")
"""What tells of the inside of the program, and stands in no answer."""

_PAGES: Final = (400, 408, 422)
"""What HAProxy writes as a page of its own, before it has a request."""


def find_fault(call: FuzzCall, answer: Answer) -> str:
    """What is wrong with an answer; empty: nothing."""
    if answer.error:
        return answer.error
    if leak := next((text for text in LEAKS if text in answer.body), b""):
        return f"the answer has {leak.decode()!r}"
    kind = answer.headers.get(b"content-type", b"")
    if answer.status >= 500:
        return _fault_of_status(call, answer.status, _read(answer.body))
    if answer.status >= 400:
        if call.method == b"HEAD" or (kind == b"text/html" and answer.status in _PAGES):
            return ""
        return _fault_of_form(_read(answer.body), answer.headers)
    if kind.startswith(b"application/json") and answer.body:
        data = _read(answer.body)
        if data is _NO_JSON:
            return "an answer that is no JSON"
        return next(filter(None, (_fault_of_row(call, one) for one in _rows(data))), "")
    if kind.startswith((b"text/event-stream", b"application/x-ndjson")):
        return next(filter(None, (_fault_of_row(call, one) for one in _items(answer.body))), "")
    return ""


_NO_JSON: Final = object()


def _read(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NO_JSON


def _refuse(word: str) -> None:
    raise ValueError(word)


def _error_of(data: Any) -> dict[str, Any]:
    """The error in a body, in our form or in OpenAI's; empty: it is in none of them."""
    if isinstance(data, dict) and isinstance(inner := data.get("error"), dict):
        return {"error": inner.get("message"), "code": inner.get("code")}
    is_error = isinstance(data, dict) and isinstance(data.get("error"), str) and "code" in data
    return data if is_error else {}


def _fault_of_form(data: Any, headers: dict[bytes, bytes]) -> str:
    error = _error_of(data)
    if not (error.get("error") and isinstance(error.get("code"), str)):
        return "an error that is not in the error form"
    return "" if headers.get(b"x-request-id") else "an error without a request's id"


def _fault_of_status(call: FuzzCall, status: int, data: Any) -> str:
    error = _error_of(data)
    reason = error.get("error")
    if call.method == b"HEAD":
        return "" if status == 503 else f"status {status}"
    if status == 503 and reason:
        return ""
    if status == 504 and reason and call.has_deadline:
        return ""
    return f"status {status}: {error.get('code')}: {str(reason)[:200]}"


def _rows(data: Any) -> Iterator[Any]:
    """An answer, and the rows of it."""
    yield data
    if isinstance(data, list):
        yield from data


def _items(body: bytes) -> Iterator[Any]:
    for line in body.splitlines():
        if (data := _read(line.removeprefix(b"data:"))) is not _NO_JSON:
            yield data


def _fault_of_row(call: FuzzCall, data: Any) -> str:
    error = _error_of(data)
    status = error.get("status")
    if not error or not isinstance(status, int) or status < 500:
        return ""
    return _fault_of_status(call, status, data)
