"""What a refusal tells a client that sent a file in another way than the function takes it: what
came, what the function takes, and the line to type.

curl says of any body that it is a form (``--data-binary``), and puts a file under the name that was
typed (``-F file=@…``); a client without a content type sends what is read as JSON. Only what was
refused is looked at, so a call that is answered pays nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.errors import (
    MalformedBody,
    TooLarge,
    UnknownInput,
    UnsupportedMediaType,
    WakefulError,
)
from runtime.graph.requests.curl_lines import CallForm
from runtime.graph.requests.made_up_rows import make_row
from runtime.http.bodies.rows import BodyKind
from runtime.protocol.content_kinds import kind_of_content, media_type_of
from runtime.types.annotations import covers
from runtime.types.example_files import find_files

PAIRS_LOOKED_AT_BYTES: Final = 64 << 10
"""Of a body that is said to be a form; one without an equals sign in them is none."""

_HOST: Final = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")

_MEDIA: Final = re.compile(r"(image|audio|video)/[a-z0-9.+-]+")

_SAID: Final = {
    BodyKind.JSON: "JSON",
    BodyKind.LINES: "lines of JSON",
    BodyKind.FORM: "a form, as curl's does unless it is told otherwise",
}
"""What a content type says of a body."""

_OF_READING: Final = (MalformedBody, TooLarge, UnknownInput, UnsupportedMediaType)
"""What reading a body ends with, if it is not what it is read as."""

_OF_HEAD: Final = ("content-encoding", "query")
"""Places of errors that say nothing of the body."""

_COMPRESSED: Final = {"a gzip archive": "gzip", "a zstd archive": "zstd"}


@dataclass(frozen=True, slots=True)
class Sent:
    """What was refused.

    Attributes:
        content_type: as the request has it; empty: it has none.
        kind: what the body was read as; None: not as rows (``/infer``).
        body: as far as it is known; None: it was not read.
        url: where it was sent.
    """

    content_type: bytes
    kind: BodyKind | None
    body: bytes | memoryview | None
    url: str


def url_of(host: bytes, scheme: bytes, path: str) -> str:
    """Where a request was sent, as its client knows it; the path alone where it does not say.

    Args:
        host, scheme: of the headers ``Host`` and ``X-Forwarded-Proto``.
        path: of the function.
    """
    if not _HOST.fullmatch(host):
        return path
    return f"{'https' if scheme == b'https' else 'http'}://{host.decode('ascii')}{path}"


def explain(
    error: Exception, sent: Sent, accepts: Sequence[str], form: Callable[[], CallForm | None]
) -> Exception:
    """Return the error that a client gets: another where it sent a file that was read as something
    else, the same with the line to type where it named no field, else the same.

    Args:
        form: returns what a call sends; None: it is not known here.
    """
    if not isinstance(error, _OF_READING) or error.where in _OF_HEAD:
        return error
    if sent.body is None:
        if isinstance(error, UnsupportedMediaType):
            return _refuse(error.message, sent, accepts, form())
        return error
    if sent.kind is BodyKind.MULTIPART and isinstance(error, UnknownInput):
        return _add_line(error, sent, form())
    if sent.kind in (BodyKind.RAW, BodyKind.MULTIPART):
        return error
    if sent.kind is None and bytes(sent.body[:1]) == b"{":  # a call, and its error says more
        return error
    what = kind_of_content(sent.body)
    if not what and sent.kind is BodyKind.FORM and _is_no_form(sent.body, error):
        what = "text"
    if not what:
        return error
    said = "the Open Inference Protocol is read here" if sent.kind is None else _said(sent)
    hint = (
        f" A call that is compressed has the header content-encoding: {_COMPRESSED[what]}."
        if what in _COMPRESSED
        else ""
    )
    return _refuse(f"the body is {what}, and {said}.{hint}", sent, accepts, form())


def _is_no_form(body: bytes | memoryview, error: WakefulError) -> bool:
    """Whether a body in pairs that was refused has not one pair: ``a=1``."""
    return isinstance(error, UnknownInput | TooLarge) and b"=" not in bytes(
        body[:PAIRS_LOOKED_AT_BYTES]
    )


def _said(sent: Sent) -> str:
    assert sent.kind is not None
    if not sent.content_type:
        return "without a content type it is read as JSON"
    return f"its content type says that it is {_SAID[sent.kind]}"


def _refuse(
    what: str, sent: Sent, accepts: Sequence[str], form: CallForm | None
) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"{what} {_takes(sent, accepts, form)}".rstrip(), where="content-type"
    )


def _takes(sent: Sent, accepts: Sequence[str], form: CallForm | None) -> str:
    """What the function takes, and how it is sent, in sentences."""
    if form is None:
        if accepts:
            return f"{_as_body(sent, accepts)} sends a file as it is."
        return f"`curl {sent.url}` says which fields it takes; -F FIELD=@FILE sends a file."
    fields = f"The fields are {form.describe_fields()}: {_line(form, sent.url)}"
    if accepts:
        return f"{fields} or, as it is, {_as_body(sent, accepts)}"
    media = sent.content_type.partition(b";")[0].strip().lower().decode("latin-1")
    if form.files and len(form.required) == 1 and _MEDIA.fullmatch(media):
        return f"{fields} (a function that declares `accepts: [{media}]` takes it as it is)"
    return fields


def _line(form: CallForm, url: str) -> str:
    """With the declared example, or a row made up; its files are the author's, so FILE stands for
    the client's own.
    """
    has_own = form.example is not None and not any(find_files(form.example))
    return form.line(url, form.example if has_own else make_row(form.schema))


def _as_body(sent: Sent, accepts: Sequence[str]) -> str:
    """The line that sends a body as it is: of the type that came, where it is one of those that are
    accepted.
    """
    came = media_type_of(kind_of_content(sent.body or b""))
    is_accepted = any(covers(media, came) for media in accepts)
    media = came if is_accepted else accepts[0].replace("*", "...")
    return f"curl {sent.url} -H 'content-type: {media}' --data-binary @FILE"


def _add_line(error: UnknownInput, sent: Sent, form: CallForm | None) -> UnknownInput:
    """Say how the fields are sent, where a part has the name of none."""
    if form is None or error.where in form.schema.get("properties", {}) or "." in error.where:
        return error
    return UnknownInput(f"{error.message} Type: {_line(form, sent.url)}", where=error.where)
