"""A call of a coroutine function whose `await` is missing is seen in the code of a stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from runtime.artifacts.forgotten_awaits import find_forgotten_awaits
from tests.problems import expect_values


async def later() -> int:
    """What is called."""
    return 1


async def returned(x: int) -> int:
    """Wrong."""
    return later()  # type: ignore[return-value]


def plain(x: int) -> int:
    """Wrong, in a plain function."""
    return later()  # type: ignore[return-value]


async def dropped(x: int) -> int:
    """Wrong: never done."""
    later()  # type: ignore[unused-coroutine]
    return x


async def yielded(x: int) -> AsyncIterator[int]:
    """Wrong."""
    yield later()  # type: ignore[misc]


async def module_called(x: int) -> None:
    """Wrong, of another module."""
    asyncio.sleep(x)  # type: ignore[unused-coroutine]


class Method:
    """Wrong, of its own."""

    async def fetch(self) -> int:
        """What is called."""
        return 1

    async def __call__(self, x: int) -> int:
        """The stage."""
        return self.fetch()  # type: ignore[return-value]


async def awaited(x: int) -> int:
    """Right."""
    task = later()
    await asyncio.sleep(0)
    return await task + await later()


def run(x: int) -> int:
    """Right: something else gets it."""
    return asyncio.run(later())


def gives(x: int) -> Awaitable[int]:
    """Right: it says so."""
    return later()


async def inner(x: int) -> int:
    """Right: what another function returns is its own affair."""

    def make() -> Awaitable[int]:
        return later()

    return await make()


async def shadowed(x: int, later: Callable[[], int]) -> int:
    """Right: the name is a parameter's."""
    return later()


@pytest.mark.parametrize(
    ("stage", "written"),
    [
        (returned, "`return await later(…)`"),
        (plain, "Make 'plain' an `async def`, and write `return await later(…)`"),
        (dropped, "`await later(…)`"),
        (yielded, "`yield await later(…)`"),
        (module_called, "`await asyncio.sleep(…)`"),
        (Method, "`return await self.fetch(…)`"),
        (Method(), "`return await self.fetch(…)`"),
    ],
)
def test_a_call_that_is_returned_or_dropped_is_named(stage: Any, written: str) -> None:
    """With its line, and what to write."""
    (message,) = find_forgotten_awaits(stage)
    expect_values(message, "test_forgotten_awaits.py", "await")
    assert written in message


@pytest.mark.parametrize("stage", [awaited, run, gives, inner, shadowed, len, Method.fetch, print])
def test_what_is_awaited_or_handed_on_is_not(stage: Any) -> None:
    """Nor what has no source."""
    assert list(find_forgotten_awaits(stage)) == []
