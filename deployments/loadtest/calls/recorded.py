"""Recorded calls made into calls to be sent: what of a capture can be sent again, and what must
come.

Left out are calls that were refused for what they were (a bad field is no load), and those of which
no body was recorded. A field that was omitted has its value from the example. What was refused for
load, or failed, is sent again, and whatever is right comes.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from deployments.loadtest.calls.captures import Capture, CapturedCall, read_capture
from deployments.loadtest.calls.load_call import LoadCall, RecordedAnswer, Wire
from deployments.loadtest.calls.making import is_header, make_headers
from deployments.loadtest.calls.rows import read_lines
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.refusal import LoadTestRefused
from deployments.scaling.simulation import Arrival
from runtime.library.capture.lines import FORMAT
from runtime.system.messages import quote

_LINES: Final = "application/x-ndjson"

_EVENTS: Final = "text/event-stream"

_INFER: Final = "/infer"

_ROUTES: Final = frozenset(
    f"{version}{route}"
    for version in ("", "/versions/1")
    for route in ("", _INFER, "/generate", "/generate_stream")
)
"""Behind a function's path, that calls are sent to."""

_TASKS: Final = "/v1/"


class RecordedCalls(NamedTuple):
    """What of captures can be sent.

    Attributes:
        calls: by function, in the order of time.
        notes: what is left out, and why.
    """

    calls: Mapping[str, Sequence[CapturedCall]]
    notes: tuple[str, ...]

    @property
    def arrivals(self) -> list[Arrival]:
        """When each was recorded, from the first of all functions on."""
        times = [(call.at, name, index) for name, index, call in self._indexed()]
        first = min((at for at, _, _ in times), default=0.0)
        return [Arrival(at - first, name, index=index) for at, name, index in sorted(times)]

    @property
    def shares(self) -> Mapping[str, str]:
        """Of which functions only a part of the calls was recorded, in words."""
        return {name: words for name, of in self.calls.items() if (words := _share_of(name, of))}

    def _indexed(self) -> Iterable[tuple[str, int, CapturedCall]]:
        for name, calls in self.calls.items():
            for index, call in enumerate(calls):
                yield name, index, call


def _share_of(function: str, calls: Sequence[CapturedCall]) -> str:
    whole = sum(1 / call.rate for call in calls)
    if whole <= len(calls):
        return ""
    words = (
        f"recorded: {100 * len(calls) / whole:.3g} % of the calls of {function}, so what is sent at"
        " their times is that part of its load."
    )
    if (seconds := calls[-1].at - calls[0].at) > 0:
        words += (
            f" As `--calls` with `--rps {function}={whole / seconds:.3g}` they are sent as often as"
            " all came."
        )
    return words


def is_capture(path: Path) -> bool:
    """Whether a file begins as a capture does; one that is compressed is a part of one.

    Raises:
        LoadTestRefused: it cannot be read.
    """
    first = next(read_lines(path), b"")
    return first.startswith(b"\x1f\x8b") or FORMAT.encode() in first[:200]


def read_recordings(paths: Sequence[Path], *, should_skip: bool) -> RecordedCalls:
    """The calls of captures, of one function each.

    Raises:
        DeclarationError: one cannot be read, or has damaged lines that may not be left out.
    """
    calls: dict[str, list[CapturedCall]] = {}
    notes = list[str]()
    for path in paths:
        capture = read_capture(path, skip_bad=should_skip)
        left_out = Counter(filter(None, map(reason_to_leave_out, capture.calls)))
        of = calls.setdefault(capture.function, [])
        of += [call for call in capture.calls if not reason_to_leave_out(call)]
        notes += _notes_of(path, capture, left_out)
    for of in calls.values():
        of.sort(key=lambda call: call.at)
    return RecordedCalls({name: of for name, of in calls.items() if of}, tuple(notes))


def reason_to_leave_out(call: CapturedCall) -> str:
    """Why a recorded call cannot be sent again; empty: it can."""
    if call.body is None:
        return "have no recorded body"
    if call.was_refused:
        return "were refused for what they are"
    if not all(is_header(name, value) for name, value in call.headers.items()):
        return "have headers that cannot be sent"
    if call.omitted and call.path.endswith(_INFER):
        return "lack a tensor that was omitted"
    return ""


def _notes_of(path: Path, capture: Capture, left_out: Counter[str]) -> list[str]:
    whole = len(capture.calls)
    notes = [f"{path}: {count} of {whole} calls {why}." for why, count in left_out.items()]
    if capture.skipped:
        notes.append(f"{path}: {capture.skipped} damaged lines are left out.")
    return notes


def make_recorded_calls(
    function: ServedFunction,
    calls: Sequence[CapturedCall],
    example: Mapping[str, Any] | None,
    given: Mapping[str, str],
) -> tuple[LoadCall, ...]:
    """The calls to be sent.

    Args:
        example: a row of the function, for fields that were omitted; None: there is none.
        given: headers of every call; those of stages and keys are in no capture.

    Raises:
        LoadTestRefused: the function asks for a header that nothing gives, or one is no call of it:
            whatever a file says is not sent.
    """
    run = uuid.uuid4().hex[:8]  # of another run the server may still keep the sequence
    return tuple(_make(function, call, example, given, run) for call in calls)


def _make(
    function: ServedFunction,
    call: CapturedCall,
    example: Mapping[str, Any] | None,
    given: Mapping[str, str],
    run: str,
) -> LoadCall:
    assert call.body is not None
    _require_route(function, call)
    headers = dict(call.headers)
    if "x-sequence-id" in headers:
        headers["x-sequence-id"] = f"{run}-{headers['x-sequence-id']}"
    body = call.body
    if call.omitted:
        row = example or {}
        fields = {name: row[name] for name in call.omitted if name in row}
        fill = fill_lines if _LINES in call.headers.get("content-type", "") else fill_omitted
        body = fill(body, fields)
    wire = _wire_of(function, call)
    return LoadCall(
        function.name,
        call.path,
        body,
        make_headers(function, {}, {**given, **headers}),
        method=call.method,
        wire=wire,
        recorded=None if call.omitted else _answer_of(call),
    )


def _require_route(function: ServedFunction, call: CapturedCall) -> None:
    base = function.path.rstrip("/")
    is_own = call.path.startswith(base) and call.path[len(base) :].rstrip("/") in _ROUTES
    if call.method != "POST" or not (is_own or call.path.startswith(_TASKS)):
        raise LoadTestRefused(
            f"its line {call.line} is {call.method} {quote(call.path)}, and {function.name} is"
            f" called by POST at {function.path}. If it came from elsewhere, write the path of now"
            " into the lines.",
            where=f"the capture of {function.name}",
        )


def fill_lines(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """Lines of rows with the fields that were taken out of them."""
    return b"".join(fill_omitted(line, fields) + b"\n" for line in body.split(b"\n") if line)


def fill_omitted(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """A body with the fields that were taken out of it."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    rows = value if isinstance(value, list) else [value]
    if not all(isinstance(row, dict) for row in rows):
        return body
    filled = [{**fields, **row} for row in rows]
    return orjson.dumps(filled if isinstance(value, list) else filled[0])


def _wire_of(function: ServedFunction, call: CapturedCall) -> Wire:
    base = function.path.rstrip("/")
    if call.path.rstrip("/") == f"{base}/infer":
        return "v2"
    if call.path.rstrip("/") != base or _is_of(call, _LINES):
        return "other"
    if function.is_streamed and _EVENTS in call.headers.get("accept", ""):
        return "stream"
    return "raw" if call.headers.get("content-type", "") in function.raw_types else "json"


def _is_of(call: CapturedCall, media_type: str) -> bool:
    return any(media_type in call.headers.get(name, "") for name in ("content-type", "accept"))


def _answer_of(call: CapturedCall) -> RecordedAnswer | None:
    """What came, where that was a whole and right answer."""
    if call.status != 200 or call.code:
        return None
    if call.answer is not None:
        return RecordedAnswer(orjson.loads(call.answer))
    return RecordedAnswer(sha256=call.answer_sha256) if call.answer_sha256 else None
