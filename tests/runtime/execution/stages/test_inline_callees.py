"""Functions that are loaded with the one that calls them, for it alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.execution.stages.function_stage import InlineCallees
from tests.runtime.declaration.linked import calling


class Loaded:
    """A function that notes its end."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self._closed = closed

    async def close(self, timeout_s: float) -> None:
        """Notes its name."""
        self._closed.append(self.name)


def pairs(levels: int) -> FunctionSpec:
    """A function above pairs, of which each calls both of the pair below."""
    pair = (calling(name="a0"), calling(name="b0", tier="own"))
    for level in range(1, levels):
        pair = (calling(*pair, name=f"a{level}"), calling(*pair, name=f"b{level}", tier="own"))
    return calling(*pair)


def load_all(spec: FunctionSpec, broken: str = "") -> tuple[list[str], list[str]]:
    """The names of what was loaded, and of what was closed, in order."""
    loaded: list[str] = []
    closed: list[str] = []

    async def load(called: FunctionSpec, callees: InlineCallees) -> Any:
        if called.name == broken:
            raise LoadError("no weights")
        assert set(called.deployed.calls) <= set(loaded), "callees come first"
        assert callees is not None
        loaded.append(called.name)
        return Loaded(called.name, closed)

    async def work() -> None:
        callees = await InlineCallees.load(spec, load)
        assert not closed
        await callees.close()
        await callees.close()

    if broken:
        with pytest.raises(LoadError):
            asyncio.run(work())
    else:
        asyncio.run(work())
    return loaded, closed


def test_each_is_loaded_once_however_many_call_it() -> None:
    """Callees before callers, and closed the other way round."""
    spec = pairs(16)
    loaded, closed = load_all(spec)
    assert sorted(loaded) == sorted(spec.all_called)
    assert closed == loaded[::-1]


def test_of_those_that_are_loaded_none_is_left_when_one_does_not_load() -> None:
    """Whatever was loaded before it is closed."""
    loaded, closed = load_all(pairs(3), broken="b2")
    assert loaded == ["a0", "b0", "a1", "b1", "a2"]
    assert closed == loaded[::-1]


def test_functions_of_one_declaration_are_two() -> None:
    """Each has its name in its errors and counts."""
    loaded, _ = load_all(calling(calling(name="one"), calling(name="other")))
    assert loaded == ["one", "other"]
