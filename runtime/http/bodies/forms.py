"""The parts of a form: ``multipart/form-data`` (RFC 7578) and ``application/x-www-form-urlencoded``
(WHATWG URL, section 5).

Pure: bytes in, names and values out. What a value stands for is the function's to say
(``runtime.graph.form_values``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from runtime.errors import MalformedBody, RequestError, TooLarge, UnsupportedMediaType
from runtime.graph.form_values import MAX_PLACE_CHARS
from runtime.system.messages import quote_names

MAX_PARTS: Final = 256
"""Of a form; a function has tens of fields."""

MAX_HEADERS: Final = 16
MAX_HEADER_BYTES: Final = 4096
"""Of one part, name and value; a file's name is in one."""

MAX_BOUNDARY_BYTES: Final = 70
"""RFC 2046, section 5.1.1."""

Part = tuple[str, bytes]
"""The name of a field, and its value as it came."""

STEP_BYTES: Final = 64 << 10
"""Of a value that are decoded at once: the library takes 80 times as much meanwhile."""

_PLAIN: Final = (b"", b"7bit", b"8bit", b"binary")


def read_urlencoded(body: bytes) -> list[Part]:
    """Return the fields of a form in their order.

    Raises:
        UnsupportedMediaType: it is JSON, which ``curl -d`` sends with this type.
        TooLarge: more than ``MAX_PARTS``.
        MalformedBody: a name that is not UTF-8.
    """
    if body.lstrip()[:1] in (b"{", b"["):
        raise UnsupportedMediaType(
            "the body is JSON, and its content type says that it is a form; with curl: "
            "-H 'content-type: application/json'.",
            where="content-type",
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
    """Return a text with its escapes decoded (WHATWG URL, section 1.3)."""
    if b"%" not in text:
        return text
    pieces, start = [], 0
    while start < len(text):
        end = start + STEP_BYTES
        if (escape := text.rfind(b"%", end - 2, end)) >= 0:
            end = escape  # not cut in two
        pieces.append(unquote_to_bytes(text[start:end]))
        start = end
    return b"".join(pieces)


def read_multipart(body: bytes, content_type: bytes) -> list[Part]:
    """Return the parts of a form in their order.

    Args:
        content_type: the header's value, which has the boundary.

    Raises:
        MalformedBody: it is not such a body; ``where`` names the part.
        TooLarge: more than ``MAX_PARTS``.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise MalformedBody(
            "the content type has no boundary; leave the header to the client, as curl -F does.",
            where="content-type",
        )
    reader = _PartReader()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reader.on_part_begin,
            "on_header_field": reader.on_header_field,
            "on_header_value": reader.on_header_value,
            "on_header_end": reader.on_header_end,
            "on_headers_finished": reader.on_headers_finished,
            "on_part_data": reader.on_part_data,
            "on_part_end": reader.on_part_end,
            "on_end": reader.on_end,
        },
        max_header_count=MAX_HEADERS,
        max_header_size=MAX_HEADER_BYTES,
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBody(
            f"{reader.where} of the form cannot be read: {error}.", where=reader.where
        ) from None
    if not reader.is_whole:
        raise MalformedBody(
            f"the form ends early, in {reader.where}; its last boundary is missing.",
            where=reader.where,
        )
    return reader.parts


@dataclass(slots=True)
class _PartReader:
    """What the parser calls.

    Mutable state: ``parts`` that are whole; of the one under way its ``_headers``, ``_name`` and
    ``_chunks``; ``_field`` and ``_value`` of the header under way.
    """

    parts: list[Part] = field(default_factory=list)
    is_whole: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: str = ""
    _chunks: list[bytes] = field(default_factory=list)
    _field: bytes = b""
    _value: bytes = b""

    @property
    def where(self) -> str:
        """The part under way, by its name or its number from 0."""
        return self._name[:MAX_PLACE_CHARS] or f"parts[{len(self.parts)}]"

    def on_part_begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise _too_many_parts()
        self._headers, self._chunks, self._name = {}, [], ""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"")
        if disposition != b"form-data" or not name:
            raise MalformedBody(
                f"{self.where} of the form has no name; it needs "
                'content-disposition: form-data; name="FIELD".',
                where=self.where,
            )
        self._name = _decode_name(name, len(self.parts))
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding not in _PLAIN:
            raise RequestError(
                f"the part {quote_names(self._name)} has a content-transfer-encoding, which is "
                "not decoded; send its bytes as they are.",
                where=self.where,
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def on_part_end(self) -> None:
        chunks, self._chunks = self._chunks, []
        self.parts.append((self._name, chunks[0] if len(chunks) == 1 else b"".join(chunks)))
        self._name = ""

    def on_end(self) -> None:
        self.is_whole = True


def _decode_name(name: bytes, index: int) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise MalformedBody(
            f"the name of part {index} is not UTF-8.", where=f"parts[{index}]"
        ) from None


def _too_many_parts() -> TooLarge:
    return TooLarge(f"a form has at most {MAX_PARTS} parts; send the call as JSON.")
