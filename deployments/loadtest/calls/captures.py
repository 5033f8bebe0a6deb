"""Reads recorded calls (``runtime.library.capture.lines`` has the form): the file of one function,
after the full parts beside it (``NAME.jsonl.3`` to ``NAME.jsonl.1``), compressed ones among them.

A capture may come from elsewhere, so nothing in it is trusted: each line is checked as far as it is
used, what would be sent (paths, headers) first of all, and all of it is bounded. One that is
written meanwhile is read as it was at one moment, though its parts get other names.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import os
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import orjson

from runtime.declaration.sections import MAX_CAPTURED
from runtime.errors import DeclarationError, Problem
from runtime.library.capture.files import parts_before
from runtime.library.capture.lines import FORMAT, HEADERS, LEFT_OUT, MAX_LINE_BYTES, VERSION
from runtime.protocol.json_text import MAX_NODES
from runtime.system.messages import quote

MAX_BYTES: Final = 1 << 30
"""Of all lines together, which are held in memory; four times what is kept by default."""

MOST_PROBLEMS: Final = 20
"""A file of another kind is wrong in every line; twenty are enough to show it."""

OF_LOAD: Final = frozenset({408, 429, 499})
"""Statuses below 500 that do not say that a call is wrong."""

MAX_TEXT: Final = 1024
"""Characters of an id, a path, a code or a header."""


class CapturedCall(NamedTuple):
    """A call that was recorded.

    Attributes:
        at: when it arrived, seconds since the epoch.
        id: of the request; empty: it had none.
        method, path: as it was called; ``path`` has no query.
        headers: that decide what the body means, names in lower case.
        body: its bytes; None: it was not recorded.
        omitted: fields that were taken out of the body, or that it was left out for.
        left_out: why there is no body: ``omitted``, ``large``, ``unread``; else empty.
        status, code: of the answer; 499, or 200 with the code ``disconnected``: the client left.
        latency_s: from ``at`` until the answer was sent.
        answer: its JSON (an array of the items or lines of one that has such); None: not recorded.
        answer_sha256: hex digest of its bytes; empty: not recorded.
        items: of an answer that streamed; None: it did not.
        first_s: from ``at`` until the first of them was sent.
        is_warm: it found its function loaded; None: that is not known.
        sequence: that it belongs to; empty: to none.
        rate: share of the calls that was recorded when it came; it stands for 1 / ``rate``.
        line: of the file, or of the part that it stands in.
    """

    at: float
    id: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    omitted: tuple[str, ...]
    left_out: str
    status: int
    code: str
    latency_s: float
    answer: bytes | None
    answer_sha256: str
    items: int | None
    first_s: float | None
    is_warm: bool | None
    sequence: str
    rate: float
    line: int

    @property
    def was_refused(self) -> bool:
        """It was refused for what it is, and computed nothing; not for load."""
        return 400 <= self.status < 500 and self.status not in OF_LOAD


@dataclass(frozen=True, slots=True)
class Capture:
    """The recorded calls of one function.

    Attributes:
        version: of the function when the first of them was recorded.
        calls: in the order of arrival; of equal times as they stand in the file.
        skipped: lines that are damaged and were passed over.
    """

    function: str
    version: str
    calls: Sequence[CapturedCall]
    skipped: int = 0


def read_capture(path: Path, *, skip_bad: bool = False, max_bytes: int = MAX_BYTES) -> Capture:
    """Read the recorded calls of a file and of the full parts before it.

    Args:
        path: of the part that is written, ``NAME.jsonl``, or of any one part alone.
        skip_bad: pass over damaged lines, and count them.
        max_bytes: of all lines; beyond them nothing is read.

    Raises:
        DeclarationError: it cannot be read, is no capture, has no calls, or has lines that are
            damaged, each with its file and line.
    """
    reader = _CaptureReader(skip_bad=skip_bad, max_bytes=max_bytes)
    with ExitStack() as stack:
        try:
            parts = _open_parts(path, stack)
        except OSError as error:
            reader.refuse(Path(error.filename or path), 0, "", _unreadable(error))
            parts = []
        for part, file in parts:
            reader.read_part(part, file, is_last=part == path)
            if reader.is_over:
                break
    return reader.result(path)


def _unreadable(error: Exception) -> str:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"it cannot be read: {why}."


MOST_LOOKS: Final = 100
LOOK_S: Final = 0.001
"""Looks at the names of the parts until none changes while they are opened, and the pause between
two.
"""


def _open_parts(path: Path, stack: ExitStack) -> list[tuple[Path, IO[bytes]]]:
    """Open the parts of a capture, oldest first, with the names of one moment: where the one that
    is written becomes full, each gets the next one's name.

    Args:
        stack: closes them.

    Raises:
        OSError: one cannot be opened.
    """
    looks = 0
    while True:
        looks += 1
        names = [*parts_before(path), path]
        with ExitStack() as attempt:
            try:
                opened = [(part, attempt.enter_context(_open(part))) for part in names]
            except FileNotFoundError:
                if looks == MOST_LOOKS:
                    raise
            else:
                is_as_it_was = all(_has_name(part, file) for part, file in opened)
                if (is_as_it_was and names == [*parts_before(path), path]) or looks == MOST_LOOKS:
                    stack.enter_context(attempt.pop_all())
                    return opened
        time.sleep(LOOK_S)


def _has_name(part: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


class _Damaged(Exception):
    """A line is no call; the key and what is wrong."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message


class _CaptureReader:
    """Gathers the calls and the problems of the parts.

    Mutable state: all of it.
    """

    def __init__(self, *, skip_bad: bool, max_bytes: int) -> None:
        self._skip_bad = skip_bad
        self._max_bytes = max_bytes
        self._bytes = 0
        self._calls: list[CapturedCall] = []
        self._problems: list[Problem] = []
        self._refusals: list[Problem] = []
        self._skipped = 0
        self._function = self._version = ""

    @property
    def is_over(self) -> bool:
        """Whether more need not be read."""
        return bool(self._refusals) or (not self._skip_bad and len(self._problems) >= MOST_PROBLEMS)

    def refuse(self, part: Path, line: int, key: str, message: str) -> None:
        """The whole of it cannot be used, whatever may be skipped."""
        self._refusals.append(Problem(str(part), line, key, message))

    def read_part(self, part: Path, file: IO[bytes], *, is_last: bool) -> None:
        """Take the records of one file of the capture, and what is wrong with its lines."""
        number = 0
        try:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                self._read_line(part, number, line, is_last=is_last)
                if self.is_over:
                    return
                if not line.endswith(b"\n"):
                    _skip_line(file)
        except (OSError, EOFError, zlib.error) as error:
            if self._skip_bad:
                self._damage(part, number + 1, "", _unreadable(error))
            else:
                self.refuse(part, 0, "", _unreadable(error))

    def _read_line(self, part: Path, number: int, line: bytes, *, is_last: bool) -> None:
        """Read a line; one that does not end is the last, or longer than ``MAX_LINE_BYTES``."""
        self._bytes += len(line)
        if self._bytes > self._max_bytes:
            self.refuse(
                part,
                number,
                "",
                f"there are more than {self._max_bytes >> 20} MB of calls. Split it, or"
                " keep fewer: `capture.keep_mb`.",
            )
            return
        is_whole = line.endswith(b"\n")
        if not is_whole and len(line) > MAX_LINE_BYTES:
            self._damage(part, number, "", f"a line has more than {MAX_LINE_BYTES} bytes.")
            return
        if not line.strip():
            return
        try:
            data = _object(line)
        except _Damaged as damage:
            if is_last and not is_whole:  # it is being written, or its process died
                return
            self._damage(part, number, damage.key, damage.message)
            if number == 1 and not self._skip_bad:
                self._refuse_other(part)
            return
        if FORMAT in data:
            self._read_head(part, number, data)
        elif not self._function:
            self._refuse_other(part)
        else:
            self._read_call(part, number, data)

    def result(self, path: Path) -> Capture:
        """Return what was read.

        Raises:
            DeclarationError: as of ``read_capture``.
        """
        if self._skipped and not (self._function or self._refusals):
            self._refuse_other(path)
        problems = self._refusals or ([] if self._skip_bad else self._problems)
        if not problems and not self._calls:
            damaged = f": its {self._skipped} lines are damaged" if self._skipped else ""
            problems = [Problem(str(path), 0, "", f"there are no calls in it{damaged}.")]
        if problems:
            raise DeclarationError(problems[:MOST_PROBLEMS])
        self._calls.sort(key=lambda call: call.at)
        return Capture(self._function, self._version, self._calls, self._skipped)

    def _refuse_other(self, part: Path) -> None:
        self.refuse(
            part,
            1,
            "",
            f'it is no capture: one begins with {{"{FORMAT}": {VERSION}, "function": …}}, as'
            " `wakeful capture` writes it.",
        )

    def _damage(self, part: Path, line: int, key: str, message: str) -> None:
        self._skipped += 1
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(str(part), line, key, message))

    def _read_head(self, part: Path, number: int, data: Mapping[str, Any]) -> None:
        if data[FORMAT] != VERSION:
            self.refuse(
                part,
                number,
                FORMAT,
                f"it is of version {quote(data[FORMAT])}, and version {VERSION} is read. A newer"
                " `wakeful` has written it.",
            )
            return
        function, version = data.get("function"), data.get("version", "")
        if not (isinstance(function, str) and function and isinstance(version, str)):
            self._damage(part, number, "function", "the name of a function is wanted.")
            return
        if self._function and function != self._function:
            self.refuse(
                part,
                number,
                "function",
                f"it has calls of {quote(function)} and of {quote(self._function)}; a capture is"
                " of one function.",
            )
            return
        if not self._function:
            self._function, self._version = function, version

    def _read_call(self, part: Path, number: int, data: Mapping[str, Any]) -> None:
        try:
            call = read_call(data, number)
        except _Damaged as damage:
            self._damage(part, number, damage.key, damage.message)
            return
        if len(self._calls) == MAX_CAPTURED * 2:
            self.refuse(part, number, "", f"there are more than {MAX_CAPTURED * 2} calls in it.")
            return
        self._calls.append(call)


def _open(part: Path) -> IO[bytes]:
    if part.suffix == ".gz":
        return cast(IO[bytes], gzip.open(part))
    return part.open("rb")


def _skip_line(file: IO[bytes]) -> None:
    while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
        pass


def _object(line: bytes) -> dict[str, Any]:
    # as many as a body and its answer may have
    if line.count(b"[") + line.count(b"{") > 2 * MAX_NODES:
        raise _Damaged("", f"it has more than {2 * MAX_NODES} arrays and objects.")
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _Damaged("", f"it is not JSON: {error.msg}, at column {error.colno}.") from None
    if not isinstance(data, dict):
        raise _Damaged("", "a JSON object is wanted.")
    return data


_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_PATH: Final = re.compile(r"/[!-$&-;=@-Z_a-z~%-]*")
"""As it travels: no blank, no query, no fragment, nothing outside of ASCII."""

_MAX_MS: Final = 1e10
"""Four months: longer than a call may last."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

_LEAST_RATE: Final = 1e-9
"""A call in a billion; less than that is damage."""

_MAX_AT: Final = 4e9
"""In the year 2096."""


def read_call(data: Mapping[str, Any], line: int) -> CapturedCall:
    """Return the call of a line's data.

    Raises:
        _Damaged: it is none.
    """
    headers = _headers(data)
    body = _body(data)
    left_out = _text(data, "left_out", "")
    if left_out and left_out not in LEFT_OUT:
        raise _Damaged("left_out", f"one of {', '.join(LEFT_OUT)} is wanted.")
    if (body is None) is not bool(left_out):
        raise _Damaged("body", "a body, or why it was left_out, is wanted, and one of the two.")
    answer_sha256 = _text(data, "answer_sha256", "")
    if answer_sha256 and not _SHA256.fullmatch(answer_sha256):
        raise _Damaged("answer_sha256", "64 hexadecimal digits are wanted.")
    status = _whole(data, "status")
    if not 100 <= status <= 599:
        raise _Damaged("status", "a status of HTTP is wanted.")
    first_ms = None if "first_ms" not in data else _number(data, "first_ms", _MAX_MS)
    is_warm = data.get("warm")
    if not isinstance(is_warm, bool | None):
        raise _Damaged("warm", "true or false is wanted.")
    return CapturedCall(
        at=_number(data, "at", _MAX_AT),
        id=_text(data, "id", ""),
        method=_matching(data, "method", _METHOD),
        path=_matching(data, "path", _PATH),
        headers=headers,
        body=body,
        omitted=_names(data),
        left_out=left_out,
        status=status,
        code=_text(data, "code", ""),
        latency_s=_number(data, "latency_ms", _MAX_MS) / 1000,
        answer=_dumps(data, "answer") if "answer" in data else None,
        answer_sha256=answer_sha256,
        items=None if "items" not in data else _whole(data, "items"),
        first_s=None if first_ms is None else first_ms / 1000,
        is_warm=is_warm,
        sequence=_text(data, "sequence", ""),
        rate=_rate(data),
        line=line,
    )


def _dumps(data: Mapping[str, Any], key: str) -> bytes:
    try:
        return orjson.dumps(data[key])
    except orjson.JSONEncodeError as error:  # it nests deeper than can be written
        raise _Damaged(key, f"{error}.") from None


def _text(data: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _Damaged(key, f"a text of at most {MAX_TEXT} characters is wanted.")
    return value


def _matching(data: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = _text(data, key)
    if not pattern.fullmatch(value):
        raise _Damaged(key, f"{quote(value)} cannot be sent.")
    return value


def _number(data: Mapping[str, Any], key: str, most: float) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise _Damaged(key, "a number from 0 on is wanted.")
    return float(value)


def _rate(data: Mapping[str, Any]) -> float:
    """A line that does not say it is of a file with all calls."""
    value = data.get("rate", 1.0)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and _LEAST_RATE <= value <= 1):
        raise _Damaged("rate", "a share above 0, and 1 at most, is wanted.")
    return float(value)


def _whole(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    if type(value) is not int or value < 0:
        raise _Damaged(key, "a whole number from 0 on is wanted.")
    return value


def _names(data: Mapping[str, Any]) -> tuple[str, ...]:
    names = data.get("omitted", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Damaged("omitted", "names of fields are wanted.")
    return tuple(names)


def _headers(data: Mapping[str, Any]) -> dict[str, str]:
    headers = data.get("headers")
    if not isinstance(headers, dict):
        raise _Damaged("headers", "an object is wanted.")
    for name, value in headers.items():
        if name not in HEADERS:
            raise _Damaged("headers", f"{quote(name)} is none of {', '.join(HEADERS)}.")
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            raise _Damaged("headers", f"{name} cannot be sent.")
    return headers


def _body(data: Mapping[str, Any]) -> bytes | None:
    if "body" in data:
        if "body_base64" in data:
            raise _Damaged("body", "body and body_base64 both stand here.")
        return _dumps(data, "body")
    if "body_base64" not in data:
        return None
    text = data["body_base64"]
    try:
        if not isinstance(text, str):
            raise TypeError
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _Damaged("body_base64", "base64 is wanted.") from None
