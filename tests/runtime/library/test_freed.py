"""A function that is unloaded gives its memory back at once: nothing keeps its stages, in no circle
and in no thread.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.resolve import link_callees
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests.sleepers import PATIENCE_S, Served, double, run, serving
from wakeful import Call

HERE = __name__

ALIVE: weakref.WeakSet[Any] = weakref.WeakSet()
"""Stages that are in memory."""


class _Counted:
    def __init__(self) -> None:
        ALIVE.add(self)


class Plain(_Counted):
    """A stage that computes."""

    def __call__(self, n: float) -> float:
        """Twice the number."""
        return 2 * n


class Waits(_Counted):
    """A stage on the event loop."""

    async def __call__(self, n: float) -> float:
        """Twice the number."""
        await asyncio.sleep(0)
        return 2 * n


class Fails(_Counted):
    """A stage that answers none but its first row, which is its warm-up's."""

    def __call__(self, n: float) -> float:
        """Nothing."""
        if n == 2.0:
            raise RuntimeError("not this one")
        return n


class Yields(_Counted):
    """A stage that streams."""

    def __call__(self, n: float) -> Iterator[float]:
        """Twice the number, twice."""
        yield from (2 * n, 2 * n)


class YieldsOnLoop(_Counted):
    """A stage that streams on the event loop."""

    async def __call__(self, n: float) -> AsyncIterator[float]:
        """Twice the number."""
        yield 2 * n


class Splits(_Counted):
    """A stage that gives a list."""

    def __call__(self, n: float) -> list[float]:
        """Three numbers."""
        return [n, n, n]


class Calls(_Counted):
    """A stage that calls a function, also while it is constructed."""

    def __init__(self, g: Annotated[Call, "g"]) -> None:
        super().__init__()
        self.g = g

    async def __call__(self, n: float, g: Annotated[Call, "g"]) -> float:
        """What both say."""
        return float((await g(n=n))["s"]) + float((await self.g(n=n))["s"])


def function(*stages: dict[str, Any], name: str = "f", **args: Any) -> FunctionSpec:
    """Of these stages."""
    graph = [
        {**one, "python": f"{HERE}:{one['python']}"} if "python" in one else one for one in stages
    ]
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": graph, **args})


ELEMENTS = (
    {"stage": "split", "python": "Splits"},
    {"stage": "s", "python": "Plain", "each": "split", "inputs": {"n": "split"}},
)
CASES = {
    "plain": function({"stage": "s", "python": "Plain"}),
    "on the loop": function({"stage": "s", "python": "Waits"}),
    "threads": function({"stage": "s", "python": "Plain", "threads": 3}),
    "fails": function({"stage": "s", "python": "Fails"}),
    "stream": function({"stage": "s", "python": "Yields"}),
    "stream on the loop": function({"stage": "s", "python": "YieldsOnLoop"}),
    "elements": function(*ELEMENTS),
    "elements as they are done": function(ELEMENTS[0], {**ELEMENTS[1], "stream": True}),
}


CALLED = function({"stage": "s", "python": "Plain"}, name="g")
CALLERS = {
    "handles": function({"stage": "s", "python": "Calls"}),
    "a stage that is a function": function(
        {"stage": "s", "python": "Plain"},
        {"stage": "g", "function": "g", "inputs": {"n": "s"}},
    ),
}


@pytest.fixture(autouse=True)
def none_collects(monkeypatch):
    """No stage is in memory, and what refers in circles stays there; a log keeps tracebacks."""
    gc.collect()
    ALIVE.clear()
    monkeypatch.setattr("runtime.system.memory.trim_memory", lambda: None)
    logging.disable()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


async def none_is_alive() -> None:
    """Waits until no stage is in memory: a thread that has given its result may still have it when
    its core is another's.
    """
    async with asyncio.timeout(PATIENCE_S):
        while ALIVE:
            await asyncio.sleep(0.001)


async def wakes_and_sleeps(served: Served) -> None:
    """Five times, with three calls each."""
    for _ in range(5):
        answers = await asyncio.gather(*(served.call("f", n) for n in (1.0, 2.0, 3.0)))
        assert any(answer.status_code == 200 for answer in answers), answers[0].text
        assert ALIVE
        del answers
        for name in served.library.entries.specs:
            await served.library.unload(name)
        await none_is_alive()


@pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
def test_stages_are_freed_with_their_function(tmp_path, spec):
    """Whatever runs them."""
    run(serving(tmp_path, spec), wakes_and_sleeps)


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
def test_stages_that_call_functions_are_freed(tmp_path, caller):
    """With them."""
    linked, faults = link_callees((CALLED, caller), Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
    assert not faults
    run(serving(tmp_path, *linked), wakes_and_sleeps)


def test_a_model_is_freed_with_its_function(tmp_path, monkeypatch):
    """Its session, which has the weights."""

    class Counted(Session):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            ALIVE.add(self)

    monkeypatch.setattr("runtime.onnx.session.Session", Counted)

    async def work(served: Served) -> None:
        await served.library.load("double")
        assert ALIVE
        await served.library.unload("double")
        await none_is_alive()

    run(serving(tmp_path, double(tmp_path)), work)
