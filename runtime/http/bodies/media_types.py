"""What a body is, by its content type."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from runtime.errors import UnsupportedMediaType


class BodyKind(Enum):
    """How the rows of a call stand in its body.

    ``JSON``: an object, or an array of them. ``LINES``: a line of JSON for each row. ``FORM`` and
    ``MULTIPART``: a form's fields are one row's. ``RAW``: it fills one field as it is.
    """

    JSON = "application/json"
    LINES = "application/x-ndjson"
    FORM = "application/x-www-form-urlencoded"
    MULTIPART = "multipart/form-data"
    RAW = "raw"


_KINDS: Final = {
    b"": BodyKind.JSON,
    **{kind.value.encode(): kind for kind in BodyKind if kind is not BodyKind.RAW},
}

_PLAIN_JSON: Final = frozenset({b"", b"application/json"})
"""What nearly all calls have."""


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
        _covers(media, name.decode("latin-1")) for media in accepts
    ):
        return BodyKind.RAW
    if kind is not None:
        return kind
    taken = ", ".join([BodyKind.JSON.value, *accepts, f"{BodyKind.LINES.value} and forms"])
    sample = accepts[0].replace("*", "...") if accepts else BodyKind.JSON.value
    sends = " --data-binary @FILE sends a file as it is." if accepts else "."
    raise UnsupportedMediaType(
        f"the call takes {taken}; with curl: -H 'content-type: {sample}'{sends}",
        where="content-type",
    )


def _covers(media: str, kind: str) -> bool:
    """Media ranges of RFC 9110, section 12.5.1."""
    return media in ("*/*", kind) or (media.endswith("/*") and kind.startswith(media[:-1]))
