"""The forms that a streamed answer can have on the wire, and which of them a caller accepts.

    text/event-stream      data: {"n": 0}      then, at the end      event: done       WHATWG HTML, section 9.2
    application/x-ndjson   {"n": 0}            a line an item                          ndjson.org
    application/json       [{"n": 0}]          all at once, at the end

RFC 9110, section 12.5.1: the most specific range that a type is in says how much it is wanted. Of those wanted most, one that the
caller names goes before one that a wildcard covers, and a stream goes before a whole answer, so that whoever asks for JSON and would
take anything else streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.errors import NotAcceptable


@dataclass(frozen=True, slots=True)
class Form:
    """How items, an error and the end are written.

    Attributes:
        content_type: of the answer.
        item, error, done: patterns with one place for JSON text; an empty ``done`` says nothing.
        beat: what may be said at any time between two items, and means nothing; empty when there is no such thing.
    """

    content_type: bytes
    item: bytes
    error: bytes
    done: bytes = b""
    beat: bytes = b""

    @property
    def media_type(self) -> str:
        """Without parameters."""
        return self.content_type.partition(b";")[0].decode()


EVENTS: Final = Form(b"text/event-stream", b"data: %b\n\n", b"event: error\ndata: %b\n\n", b"event: done\ndata: %b\n\n", b":\n\n")
LINES: Final = Form(b"application/x-ndjson", b"%b\n", b"%b\n")
WHOLE: Final = Form(b"application/json", b"%b", b"%b")
GENERATED: Final = Form(b"text/event-stream; charset=utf-8", b"data: %b\n\n", b"data: %b\n\n", beat=b":\n\n")
"""Of Triton's generate extension: an error is an event like the others, and the end is the end."""

SINGLE: Final = Form(b"application/json", b"%b", b"%b")
"""Of its ``/generate``, which has exactly one response."""

FORMS: Final = (EVENTS, LINES, WHOLE)
"""First choice first."""


def form_of(accept: Sequence[str]) -> Form:
    """The form that the caller likes best.

    Args:
        accept: the values of his ``Accept`` headers; none, or empty ones, take anything.

    Raises:
        NotAcceptable: he takes none of them.
    """
    ranges = [parsed for value in accept for part in value.split(",") if (parsed := _range(part))]
    if not ranges:
        return EVENTS
    ranked = [(*_wanted(form.media_type, ranges), form) for form in FORMS]
    best = max(ranked, key=lambda one: (one[0], one[1] and one[2] is not WHOLE))  # the first of those that are alike
    if best[0] <= 0:
        raise NotAcceptable(f"the answer streams as {', '.join(form.media_type for form in FORMS)}; accept one of them.", where="accept")
    return best[2]


def _range(part: str) -> tuple[str, float] | None:
    """A media range and its weight; None for nothing."""
    name, *parameters = [piece.strip().lower() for piece in part.split(";")]
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return (name, min(1.0, max(0.0, float(weight)))) if name else None
    except ValueError:  # what nobody can read asks for nothing
        return None


def _wanted(media_type: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, bool]:
    """How much a type is wanted, and whether it is named."""
    weights = dict(reversed(ranges))  # of one that stands twice the first counts
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in weights:
            return weights[name], name == media_type
    return 0.0, False
