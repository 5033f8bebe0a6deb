"""Stages that read headers and the request's id, and refuse with statuses of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypedDict

from wakeful import Header, RequestError, RequestId, Rows, UpstreamError

Tenant = Annotated[str, Header("X-Tenant")]


class Told(TypedDict):
    """What a stage was given with its field."""

    tenant: str
    key: str | None
    request: str


def tell(
    text: str,
    tenant: Tenant,
    request: RequestId,
    key: Annotated[str | None, Header("authorization")] = None,
) -> Told:
    """All of it."""
    return {"tenant": tenant, "key": key, "request": request}


def language(text: str, wanted: Annotated[str, Header("accept-language")] = "en") -> str:
    """A header with a default."""
    return wanted


def ids(text: Rows[str], request: Rows[RequestId]) -> Rows[str]:
    """All rows at once; each has its call's."""
    return [f"{each} {one}" for each, one in zip(text, request, strict=True)]


async def refuse(text: str) -> str:
    """By what the text says."""
    return refuse_now(text)


def refuse_now(text: str) -> str:
    """A text that is a number is a status; ``down`` an upstream that is; anything else is answered."""
    if text.isdigit():
        raise RequestError("not this one.", where="text", status=int(text))
    if text == "down":
        raise UpstreamError("the price list does not answer.")
    return text


def refuse_some(text: Rows[str]) -> Rows[str]:
    """As ``refuse_now``, all rows at once."""
    return [refuse_now(one) for one in text]


def yielding(text: str) -> Iterator[str]:
    """As ``refuse_now``, behind what comes before a colon."""
    first, _, then = text.rpartition(":")
    if first:
        yield first
    yield refuse_now(then)
