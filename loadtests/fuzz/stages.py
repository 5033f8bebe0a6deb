"""Functions of every kind beside the shipped ones: all annotations, streams, sequences, files in
and out, headers, calls of another function. They take whatever their annotations let through, and
never fail: an answer of 500 is a fault of what is around them.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import Call, CallError, Header, MediaType, RequestError, RequestId, Rows, Shape, State

Table = Annotated[NDArray[np.float32], Shape(-1, 3)]
Whole = Annotated[NDArray[np.int64], Shape(-1)]
Flags = Annotated[NDArray[np.bool_], Shape(2)]
Half = Annotated[NDArray[np.float16], Shape(2)]
Names = Annotated[NDArray[np.str_], Shape(-1)]


class Colour(enum.Enum):
    """One of two."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """Within another."""

    x: float
    y: Annotated[int, Field(ge=0, le=10)] = 0
    inner: list[Point] | None = None


class Notes(TypedDict):
    """Some keys may be left out."""

    title: Annotated[str, Field(min_length=1, max_length=20)]
    tags: NotRequired[dict[str, list[int]]]


def typed(
    kind: Literal["a", "b", 3] = "a",
    colour: Colour = Colour.RED,
    day: datetime.date | None = None,
    at: datetime.datetime | None = None,
    wait: datetime.timedelta | None = None,
    number: decimal.Decimal | None = None,
    key: uuid.UUID | None = None,
    point: Point | None = None,
    notes: Notes | None = None,
    either: int | list[str] | dict[str, bool] | None = None,
    pair: tuple[int, str] | None = None,
    some: set[int] | None = None,
    pattern: Annotated[str, Field(pattern="^[a-z]+$")] = "a",
) -> dict[str, Any]:
    """What came, as text: its values may be what JSON cannot say."""
    return {
        "kind": str(kind),
        "rest": repr([colour, day, at, wait, number, key, point, notes, either])[:200],
    }


def tensors(
    table: Table | None = None,
    whole: Whole | None = None,
    flags: Flags | None = None,
    half: Half | None = None,
    names: Names | None = None,
) -> Annotated[NDArray[np.float32], Shape(-1, 3)]:
    """Tensors of five datatypes; the first comes back, NaN and all."""
    return np.zeros((0, 3), np.float32) if table is None else table


class Followed(TypedDict):
    """The number of calls, and what is kept."""

    count: int
    seen: int


def counted(x: float, seen: State[int]) -> Followed:
    """Counts the calls of a sequence."""
    count = (seen or 0) + 1
    return {"count": count, "seen": count}


async def said(text: str, times: Annotated[int, Field(ge=0, le=20)] = 3) -> AsyncIterator[str]:
    """A stream that waits for nothing, of parts of what came."""
    for index in range(times):
        yield text[index : index + 5]


def bits(data: bytes) -> Iterator[int]:
    """A stream of a body as it is."""
    yield from data[:16]


def picture(data: bytes, caption: str = "") -> Annotated[bytes, MediaType("image/png")]:
    """A file for an answer."""
    return b"\x89PNG\r\n\x1a\n" + data[:100]


def headed(
    request_id: RequestId,
    name: Annotated[str, Header("x-name")] = "none",
    level: Annotated[str | None, Header("x-level")] = None,
    text: str = "",
) -> dict[str, str]:
    """Headers as fields."""
    return {"id": request_id, "name": name, "text": f"{level} {text}"}


def given(texts: list[str]) -> list[str]:
    """Elements for the next stage."""
    return texts[:50]


def measured(given: Rows[str]) -> Rows[int]:
    """Lengths of the elements of all callers at once."""
    return [len(one) for one in given]


def refused(n: int) -> int:
    """Refuses odd rows."""
    if n % 2:
        raise RequestError("odd numbers are refused here.", where="n")
    return n


async def asked(kind: str, typed: Annotated[Call, "typed"], number: str | None = None) -> str:
    """Calls another function, and tells how it was answered."""
    try:
        return repr(await typed(kind=kind, number=number))[:200]
    except CallError as error:
        return error.code
