"""Stages of functions that are served once for all wrong calls, each with one mistake or none."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from wakeful import Call, Header, MediaType, Rows, Shape

Four = Annotated[NDArray[np.float32], Shape(4)]


class Iris(TypedDict):
    """What the model's stages answer."""

    best: int
    probability: float


def measure(a: float, b: float, c: float, d: float) -> Four:
    """Four numbers."""
    return np.array([a, b, c, d], np.float32)


def name(probabilities: Annotated[NDArray[np.float32], Shape(3)]) -> Iris:
    """The likeliest of three."""
    best = int(probabilities.argmax())
    return {"best": best, "probability": round(float(probabilities[best]), 3)}


def same(x: int) -> int:
    """Nothing wrong."""
    return x


def prints(x: int) -> int:
    """To both streams."""
    print("hello from", x)
    print("err", file=sys.stderr)
    return x


def raises(x: int) -> int:
    """A fault of its own."""
    found: dict[str, int] = {}
    return found["nope"]


async def _one() -> int:
    return 1


async def unawaited(x: int) -> Any:
    """The await is missing, and the annotation does not say what is wanted."""
    return {"value": _one()}


async def forgotten(x: int) -> int:
    """The await is missing."""
    return _one()  # type: ignore[return-value]


def exits(x: int) -> int:
    """As a program would."""
    sys.exit(3)


def wrong_type(x: int) -> int:
    """Text for a number."""
    return "a"  # type: ignore[return-value]


def unserialisable(x: int) -> dict:
    """What JSON has no form for."""
    return {"a": object()}


def too_many(x: Rows[int]) -> Rows[int]:
    """One row more than there are."""
    return [*x, 1]


def nested(x: list[list[float]]) -> float:
    """Lists of lists."""
    return x[0][0]


def deep(x: int) -> int:
    """Without an end."""
    return deep(x)


def huge(x: int) -> int:
    """More than any machine has."""
    return int(np.ones(5_000_000_000_000).sum())


def length(x: str) -> int:
    """Of a text; small bodies alone."""
    return len(x)


def defaulted(x: int, y: float = None) -> float:  # noqa: RUF013 - the mistake
    """A default that its type does not have."""
    return y or x


def mutable(x: int, y: list[int] = []) -> int:  # noqa: B006 - the mistake
    """A default that is changed."""
    y.append(x)
    return len(y)


def listed(x: int) -> list[float]:
    """An array for a list."""
    return np.array([x, x])  # type: ignore[return-value]


class Request(BaseModel):
    """A body, as pydantic has it."""

    x: int


def modelled(req: Request) -> int:
    """A model as a field."""
    return req.x


def anything(data: dict) -> dict:
    """An object."""
    return data


class Point(TypedDict):
    """A place."""

    lat: float
    lon: float


def placed(point: Point) -> float:
    """A TypedDict."""
    return point["lat"]


def keyed(password: int) -> int:
    """A field whose values are not repeated."""
    return password


def yields_then_raises(x: int) -> Iterator[int]:
    """One item, and a fault."""
    yield 1
    raise ValueError("boom")


async def yields_wrong(x: int) -> AsyncIterator[int]:
    """Text for a number."""
    yield "a"  # type: ignore[misc]


def yields(x: int) -> Iterator[int]:
    """Some numbers."""
    yield from range(x)


def chosen(x: int, mode: Literal["a", "b"] = "a") -> str:
    """One of two words."""
    return mode


async def _later() -> int:
    await asyncio.sleep(0)
    return 1


def runs_a_loop(x: int) -> int:
    """`asyncio.run` in a worker thread."""
    return asyncio.run(_later())


def waits(x: int) -> int:
    """Longer than its deadline."""
    time.sleep(0.4)
    return x


def told(x: int, tenant: Annotated[str, Header("x-tenant")]) -> str:
    """A header that must be there."""
    return tenant


def size(image: bytes) -> int:
    """Of a file."""
    return len(image)


def picture(x: int) -> Annotated[bytes, MediaType("image/png")]:
    """A file as an answer."""
    return b"\x89PNG123"


def double(x: int) -> int:
    """What another function calls."""
    return 2 * x


def asks(x: int, doubled: Annotated[Call, "double"]) -> int:
    """Another function, from within the stage."""
    return doubled(x=x)["stage"] + 1


def numbers(x: int) -> list[int]:
    """Elements."""
    return list(range(x))


def each_number(numbers: int) -> int:
    """For each of them."""
    return 2 * numbers


def asks_at_the_terminal(x: int) -> str:
    """A server has none."""
    return input("name? ")


async def swallows(x: int) -> AsyncIterator[int]:
    """Does not let itself be ended."""
    while True:
        try:
            yield 1
            await asyncio.sleep(0.02)
        except BaseException:  # the mistake
            pass
