"""Headers of a request that stages read: which they may, and what a row carries of them.

They are no fields: nothing validates, batches or describes them as inputs. A row carries each under
a name of its own (``key``), which no field has, and only in functions whose stages ask for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin

from runtime.errors import MissingInput, RequestError
from runtime.types.annotations import REQUEST_ID, Header
from runtime.types.value_types import takes_none

MAX_CHARS: Final = 8192
"""Longest value that a stage is given; more is 431."""

_TOKEN: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")

_RESERVED: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "inference-header-content-length",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What belongs to a connection, or says how the body is read: proxies change or drop it on the way.
"""


@dataclass(frozen=True, slots=True)
class RequestedHeader:
    """A header that stages of a function read.

    Attributes:
        is_required: a request without it is refused.
        example: what a call may send; empty: no stage says.
    """

    name: str
    is_required: bool
    example: str = ""


def header_of(annotation: Any) -> Header | None:
    """The header that a row's annotation names; None for a value."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((note for note in get_args(annotation)[1:] if isinstance(note, Header)), None)


def header_issue(header: Header, annotation: Any, default: Any, empty: Any) -> str:
    """Why a stage cannot read it so; empty when it can.

    Args:
        empty: what ``default`` is where there is none.
    """
    inner = get_args(annotation)[0]
    if header is REQUEST_ID:
        return (
            ""
            if default is empty
            else "is the request's id, which every request has. Delete the default."
        )
    name = header.name
    if not _TOKEN.fullmatch(name):
        return f"asks for the header {name!r}, which is no header's name: letters, digits and '-'."
    if name == REQUEST_ID.name:
        return (
            "asks for the header 'x-request-id': annotate it `RequestId` (from wakeful import"
            " RequestId)."
        )
    if name in _RESERVED or name.startswith(("x-wakeful-", "x-request-", "x-sequence-")):
        return (
            f"asks for the header {name!r}, which is read on the way and is not passed on. Take"
            " another name, such as 'x-tenant'."
        )
    if inner is not str and not (takes_none(inner) and set(get_args(inner)) == {str, type(None)}):
        return (
            f'is a header, and that is text: write `Annotated[str, Header("{name}")]`, or `str |'
            " None` where it may be missing."
        )
    if default is not empty and not isinstance(default, str | None):
        return f"is a header with the default {default!r}, which is no text."
    return ""


def header_key(header: Header) -> str:
    """The name under which a row carries it."""
    return _key(header.name)


def _key(name: str) -> str:
    return f"header {name}"


def requested_headers(
    known: Mapping[str, RequestedHeader], header: Header, *, is_required: bool
) -> dict[str, RequestedHeader]:
    """Those of the stages so far, and one more."""
    before = known.get(header.name, RequestedHeader(header.name, is_required=False))
    return {
        **known,
        header.name: RequestedHeader(
            header.name, is_required or before.is_required, before.example or header.example
        ),
    }


def headers_to_carry(
    wanted: Iterable[RequestedHeader], given: Mapping[str, str], request_id: str
) -> dict[str, str]:
    """What each row of a call carries.

    Args:
        given: headers of the request by name, at least those that are wanted and there.

    Raises:
        MissingInput: one that a stage needs is not among them.
        RequestError: one is too long to be given to a stage (431).
    """
    values: dict[str, str] = {}
    for one in wanted:
        if one.name == REQUEST_ID.name:
            values[header_key(REQUEST_ID)] = request_id
            continue
        value = given.get(one.name)
        if value is None:
            if one.is_required:
                raise MissingInput(
                    f"the header {one.name!r} is missing, which the function reads. Send it.",
                    where=f"headers.{one.name}",
                )
            continue
        if len(value) > MAX_CHARS:
            message = (
                f"the header {one.name!r} has {len(value)} characters; {MAX_CHARS} is the most that"
                " a stage is given."
            )
            raise RequestError(message, where=f"headers.{one.name}", status=431)
        values[_key(one.name)] = value
    return values


def choose_headers(
    pairs: Sequence[tuple[bytes, bytes]], wanted: Mapping[str, RequestedHeader]
) -> dict[str, str]:
    """Of a request's headers those that are wanted; of several of one name the list that they are
    together (RFC 9110, section 5.3).
    """
    found: dict[str, str] = {}
    for raw, value in pairs:
        name = raw.decode("latin-1")
        if name in wanted:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found
