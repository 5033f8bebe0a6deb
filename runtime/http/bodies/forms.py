"""The parts of a form: ``multipart/form-data`` (RFC 7578) and ``application/x-www-form-urlencoded``
(WHATWG URL, section 5).

Pure: bytes in, names and values out. What a value stands for is the function's to say
(``runtime.graph.requests.form_values``).

A form may be of megabytes that were written to take long. So its bounds are checked before
anything is decoded; a regular expression looks for boundaries and escapes, since a loop in Python
took 12 s for 60 MB of boundaries that are nearly one; and a long value is passed over a step at a
time, so that other threads run in between and the work ends with the call's deadline.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

from python_multipart.multipart import parse_options_header

from runtime.errors import MalformedBody, RequestError, TooLarge, UnsupportedMediaType
from runtime.graph.requests.form_values import MAX_PLACE_CHARS
from runtime.system.messages import quote_names

MAX_PARTS: Final = 256
"""Of a form; a function has tens of fields."""

MAX_PAIRS_BYTES: Final = 1 << 20
"""Of a form in pairs, which is made for short texts: an escape takes three bytes and a quarter of a
microsecond. A file is sent as a part.
"""

MAX_HEADERS: Final = 16
MAX_HEAD_BYTES: Final = 4096
"""Of one part, all of its headers; a file's name is in one."""

MAX_SEMICOLONS: Final = 64
"""In a header with parameters: 4096 take 2.5 ms to read, and a file's name may have some."""

MAX_BOUNDARY_BYTES: Final = 70
"""RFC 2046, section 5.1.1."""

MAX_PADDING_BYTES: Final = 64
"""Spaces and tabs that may follow a boundary in its line; RFC 2046 says no number, and clients send
none.
"""

Part = tuple[str, bytes]
"""The name of a field, and its value as it came."""

Check = Callable[[], None]
"""Raises ``DeadlineExceeded`` where the call's time is over."""

STEP_BYTES: Final = 256 << 10
"""Of a part that are copied at once."""

SEARCH_BYTES: Final = 64 << 10
"""Of a body that are searched at once: 0.3 ms where all of it is half boundaries."""

ESCAPES_BYTES: Final = 64 << 10
"""Of a value that are decoded at once: each escape takes 90 bytes until all are joined."""

_PLAIN: Final = (b"", b"7bit", b"8bit", b"binary")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BYTES: Final = {b"%02x" % number: bytes((number,)) for number in range(256)}
"""By their escapes."""
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*)")
"""Names and values as in RFC 9110, sections 5.6.2 and 5.5."""


def read_urlencoded(body: bytes) -> list[Part]:
    """Return the fields of a form in their order.

    Raises:
        UnsupportedMediaType: it is JSON, which ``curl -d`` sends with this type.
        TooLarge: more than ``MAX_PARTS``, or ``MAX_PAIRS_BYTES``.
        MalformedBody: a name that is not UTF-8.
    """
    if body[:MAX_PAIRS_BYTES].lstrip()[:1] in (b"{", b"["):
        raise UnsupportedMediaType(
            "the body is JSON, and its content type says that it is a form; with curl: "
            "-H 'content-type: application/json'.",
            where="content-type",
        )
    if len(body) > MAX_PAIRS_BYTES:
        raise TooLarge(
            f"a form in pairs has at most {MAX_PAIRS_BYTES} bytes; send a file as a part "
            "(multipart/form-data, curl -F), and a long text in JSON."
        )
    if body.count(b"&") >= MAX_PARTS:
        raise _too_many_parts()
    parts = []
    for index, pair in enumerate(body.strip(b"\r\n").split(b"&")):
        if pair:
            name, _, value = pair.replace(b"+", b" ").partition(b"=")
            parts.append((_decode_name(_unquote(name), index), _unquote(value)))
    return parts


def _unquote(text: bytes) -> bytes:
    """Return a text with its escapes decoded (WHATWG URL, section 1.3); what is none stays."""
    if b"%" not in text:
        return text
    pieces, start = [], 0
    while start < len(text):
        end = start + ESCAPES_BYTES
        if (escape := text.rfind(b"%", end - 2, end)) >= 0:
            end = escape  # not cut in two
        pieces.append(_ESCAPE.sub(_decode_escape, text[start:end]))
        start = end
    return b"".join(pieces)


def _decode_escape(found: re.Match[bytes]) -> bytes:
    return _BYTES[found[1].lower()]


def read_multipart(body: bytes, content_type: bytes, check: Check = lambda: None) -> list[Part]:
    """Return the parts of a form in their order. What stands before the first boundary and behind
    the last is no part (RFC 2046, section 5.1.1).

    Args:
        content_type: the header's value, which has the boundary.
        check: called again and again, and its error ends the work.

    Raises:
        MalformedBody: it is not such a body; ``where`` names the part.
        TooLarge: more than ``MAX_PARTS``.
    """
    boundary = _read_options(content_type, "content-type")[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise MalformedBody(
            "the content type has no boundary; leave the header to the client, as curl -F does.",
            where="content-type",
        )
    line = re.escape(b"--" + boundary) + rb"(?:(--)|[ \t]{0,%d}\r\n)" % MAX_PADDING_BYTES
    pattern = re.compile(rb"\r\n" + line)
    parts: list[Part] = []
    found = re.compile(rb"[\r\n]{0,2}" + line).match(body)
    if found is None:
        if body.startswith(b"--" + boundary):  # what follows it would be lost without a word
            raise MalformedBody("the form begins with half a boundary.", where="parts[0]")
        found = _find(pattern, body, 0, check)
    while found is not None and not found[1]:
        if len(parts) >= MAX_PARTS:
            raise _too_many_parts()
        name, start = _read_head(body, found.end(), len(parts))
        found = _find(pattern, body, start, check)
        if found is None:
            raise _ends_early(name[:MAX_PLACE_CHARS])
        parts.append((name, _copy(body, start, found.start(), check)))
    if found is None:
        raise _ends_early("parts[0]")
    return parts


def _find(
    pattern: re.Pattern[bytes], body: bytes, start: int, check: Check
) -> re.Match[bytes] | None:
    """Return the first line of a boundary from an offset on."""
    longest = MAX_BOUNDARY_BYTES + MAX_PADDING_BYTES + 8
    for at in range(start, len(body), SEARCH_BYTES):
        check()
        if found := pattern.search(body, at, at + SEARCH_BYTES + longest):
            return found
    return None


def _copy(body: bytes, start: int, end: int, check: Check) -> bytes:
    """Return a part of a body. 64 MiB copied at once would stop all other threads for 30 ms."""
    if end - start <= STEP_BYTES:
        return body[start:end]
    view, copied = memoryview(body), io.BytesIO()
    for at in range(start, end, STEP_BYTES):
        check()
        copied.write(view[at : min(end, at + STEP_BYTES)])
    return copied.getvalue()


def _read_head(body: bytes, start: int, index: int) -> tuple[str, int]:
    """Return the name of a part, and the offset at which its value begins."""
    where = f"parts[{index}]"
    end = body.find(b"\r\n\r\n", start - 2, start + MAX_HEAD_BYTES + 4)
    if end < 0:
        if len(body) <= start + MAX_HEAD_BYTES:
            raise _ends_early(where)
        raise MalformedBody(
            f"the headers of {where} of the form are longer than {MAX_HEAD_BYTES} bytes.",
            where=where,
        )
    headers = _read_headers(body[start : max(start, end)], where)
    disposition, options = _read_options(headers.get(b"content-disposition", b""), where)
    name = options.get(b"name", b"")
    if disposition != b"form-data" or not name:
        raise MalformedBody(
            f"{where} of the form has no name; it needs "
            'content-disposition: form-data; name="FIELD".',
            where=where,
        )
    decoded = _decode_name(name, index)
    if headers.get(b"content-transfer-encoding", b"").strip().lower() not in _PLAIN:
        raise RequestError(
            f"the part {quote_names(decoded)} has a content-transfer-encoding, which is "
            "not decoded; send its bytes as they are.",
            where=decoded[:MAX_PLACE_CHARS],
        )
    return decoded, end + 4


def _read_headers(head: bytes, where: str) -> dict[bytes, bytes]:
    """Return the headers of a part by their names in lower case."""
    lines = head.split(b"\r\n") if head else []
    if len(lines) > MAX_HEADERS:
        raise MalformedBody(
            f"{where} of the form has more than {MAX_HEADERS} headers.", where=where
        )
    headers = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise MalformedBody(
                f"a line in the head of {where} of the form is no header; it is NAME: VALUE.",
                where=where,
            )
        headers[found[1].lower()] = found[2]
    return headers


def _read_options(value: bytes, where: str) -> tuple[bytes, dict[bytes, bytes]]:
    """Return what a header says, and its parameters by name."""
    if value.count(b";") > MAX_SEMICOLONS:
        raise MalformedBody(
            f"the header of {where} has more than {MAX_SEMICOLONS} semicolons.", where=where
        )
    return parse_options_header(value)


def _decode_name(name: bytes, index: int) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise MalformedBody(
            f"the name of part {index} is not UTF-8.", where=f"parts[{index}]"
        ) from None


def _ends_early(where: str) -> MalformedBody:
    return MalformedBody(
        f"the form ends early, in {where}; its last boundary is missing.", where=where
    )


def _too_many_parts() -> TooLarge:
    return TooLarge(f"a form has at most {MAX_PARTS} parts; send the call as JSON.")
