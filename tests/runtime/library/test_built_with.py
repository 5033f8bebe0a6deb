"""A stage that calls a function while it is constructed has it awake, and in the version that is
declared, until it is.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.resolve import link_callees
from runtime.library.library import DeclaredFunction
from runtime.settings import Settings
from tests.sleepers import Served, run, serving
from wakeful import Call

HERE = __name__

STEPS: dict[str, threading.Event] = {}
"""What a test lets go on, and what it waits for."""


@pytest.fixture(autouse=True)
def steps():
    """None was taken yet."""
    STEPS.clear()
    STEPS.update({name: threading.Event() for name in ("called", "may_go_on")})


class Embed:
    """Gives its version. The second one loads when a test lets it."""

    def __init__(self, version: int) -> None:
        if version < 0:
            raise ValueError("no such version")
        if version > 1:
            assert STEPS["may_go_on"].wait(30)
        self.version = version

    def __call__(self, n: int) -> int:
        return self.version


class Built:
    """Asks twice, with a pause that a test ends."""

    def __init__(self, embed: Annotated[Call, "embed"], pauses: bool = False) -> None:
        self.first = embed(n=1)["embed"]
        STEPS["called"].set()
        if pauses:
            assert STEPS["may_go_on"].wait(30)
        self.second = embed(n=1)["embed"]

    def __call__(self, n: float) -> list[int]:
        return [self.first, self.second]


def functions(root: Path, version: int = 1, **more: object) -> tuple[FunctionSpec, ...]:
    """A function, and one that is built with it."""
    embed = FunctionSpec.from_args(
        "embed",
        "/v2/models/embed",
        {"graph": [{"stage": "embed", "python": f"{HERE}:Embed", "with": {"version": version}}]},
    )
    built = FunctionSpec.from_args(
        "built",
        "/v2/models/built",
        {
            "graph": [{"stage": "built", "python": f"{HERE}:Built", "with": more}],
            "description": f"with version {version}",
        },
    )
    linked, faults = link_callees((embed, built), Settings.read({"WAKEFUL_ROOT": str(root)}))
    assert not faults
    return linked


def test_it_wakes_what_it_is_built_with(tmp_path):
    """The function sleeps, and is loaded by the first call."""

    async def work(served: Served) -> None:
        response = await served.call("built")
        assert response.json() == {"built": [1, 1]}
        assert served.library.entries.require("embed").state.state == "ready"

    run(serving(tmp_path, *functions(tmp_path)), work)


def test_what_it_is_built_with_is_not_unloaded_meanwhile(tmp_path):
    """Neither for being idle, nor for room; and it is when the load has ended."""

    async def work(served: Served) -> None:
        library = served.library
        call = asyncio.create_task(served.call("built"))
        await asyncio.to_thread(STEPS["called"].wait, 30)
        library.unload_when_idle("embed")
        entry = library.entries.find("/v2/models/embed")
        assert entry is not None
        await asyncio.sleep(0.2)
        assert entry.is_busy
        assert library.entries.require("embed").state.state == "ready"
        STEPS["may_go_on"].set()
        assert (await call).json() == {"built": [1, 1]}
        assert entry.leases.count == 0

    run(serving(tmp_path, *functions(tmp_path, pauses=True)), work)


def test_a_function_that_fails_is_named_by_what_is_built_with_it(tmp_path):
    """The callers of both get 503, with the reason; the load is tried again later."""

    async def work(served: Served) -> None:
        response = await served.call("built")
        assert response.status_code == 503
        assert response.json()["code"] == "load_failed"
        assert "'embed'" in response.json()["error"]
        assert "no such version" in response.json()["error"]
        assert served.library.entries.require("built").state.state == "failed"

    run(serving(tmp_path, *functions(tmp_path, version=-1)), work)


def test_it_is_built_with_the_version_that_is_declared(tmp_path):
    """Both change at once: the one that builds waits for the one that it is built with."""

    async def work(served: Served) -> None:
        assert (await served.call("built")).json() == {"built": [1, 1]}
        embed, built = functions(tmp_path, version=2)
        built = built.with_deployed(made_of={"functions": "other"})
        served.library.declare(map(DeclaredFunction, (embed, built)))
        threading.Timer(0.3, STEPS["may_go_on"].set).start()  # it has called long before
        await served.until(lambda: not served.library.entries.find("/v2/models/built").update)
        assert (await served.call("built")).json() == {"built": [2, 2]}

    run(serving(tmp_path, *functions(tmp_path)), work)


def asks(n: float, embed: Annotated[Call, "embed"]) -> int:
    """In its first run, too."""
    return embed(n=1)["embed"]


@pytest.mark.parametrize("waits_in", ["its construction", "its first run"])
def test_as_many_load_at_once_as_there_are(tmp_path, waits_in):
    """Each waits in its load for a function that sleeps: none takes a thread that another needs."""

    async def work(served: Served) -> None:
        answers = await asyncio.gather(*(served.call(spec.name) for spec in callers))
        assert [answer.json() for answer in answers] == [{"s": expected}] * len(callers)

    stage, expected = ("Built", [1, 1]) if waits_in == "its construction" else ("asks", 1)
    callers = [
        FunctionSpec.from_args(
            f"f{number}",
            f"/v2/models/f{number}",
            {"graph": [{"stage": "s", "python": f"{HERE}:{stage}"}], "example": {"n": 1}},
        )
        for number in range(40)  # more than asyncio has threads for what blocks
    ]
    embed, _ = functions(tmp_path)
    linked, faults = link_callees((embed, *callers), Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
    assert not faults
    run(serving(tmp_path, *linked), work)
