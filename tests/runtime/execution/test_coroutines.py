"""What runs on the event loop - coroutines, other functions - moves on by itself, ends at its
deadline, and ends nothing else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, FunctionError, LoadError, WakefulError
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.graph.resolve import link_callees
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from wakeful import Rows

HERE = __name__
HANG = 13
"""The number whose row hangs, or fails."""

IGNORES: list[asyncio.Event] = []
"""Set by a test that lets go of a coroutine that heeds no cancellation."""


def together(n: Rows[int]) -> Rows[int]:
    """Hands rows of many callers on at once."""
    return list(n)


async def hang(n: int) -> dict[str, int]:
    """One row does not come back."""
    if n == HANG:
        await asyncio.Event().wait()
    return {"n": n}


async def called(n: int) -> int:
    """The same, as another function's."""
    return (await hang(n))["n"]


def answer(called: int) -> dict[str, int]:
    """What it logged."""
    return {"n": called}


async def cancelled(n: int) -> dict[str, int]:
    """Waits for a future that another task has cancelled."""
    if n == HANG:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
    return {"n": n}


async def gives_up(n: int) -> dict[str, int]:
    """Cancels itself."""
    if n == HANG:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
    return {"n": n}


async def exits(n: int) -> dict[str, int]:
    """Ends the program, or so it thinks."""
    if n == HANG:
        sys.exit(3)
    return {"n": n}


async def exits_in_a_task(n: int) -> dict[str, int]:
    """The same, in a task that it waits for."""
    await asyncio.gather(exits(n), asyncio.sleep(0))
    return {"n": n}


async def interrupts(n: int) -> dict[str, int]:
    """As Ctrl-C does."""
    if n == HANG:
        raise KeyboardInterrupt
    return {"n": n}


async def heeds_nothing(n: int) -> dict[str, int]:
    """Goes on though it is cancelled."""
    while n == HANG:
        try:
            await IGNORES[-1].wait()
        except asyncio.CancelledError:
            continue
        break
    return {"n": n}


async def stream_exits(n: int) -> AsyncIterator[int]:
    """One item, then the end of the program."""
    yield n
    await exits(n)


async def stream_cancelled(n: int) -> AsyncIterator[int]:
    """One item, then a future that another task cancelled."""
    yield n
    await cancelled(n)


class Exits:
    """Does not construct."""

    def __init__(self) -> None:
        sys.exit("bye")

    def __call__(self, n: int) -> dict[str, int]:
        """Never."""
        return {"n": n}


def spec(stages: Sequence[dict[str, Any]], name: str = "f", **args: Any) -> FunctionSpec:
    """A function of these stages."""
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": list(stages), **args})


def stage(name: str) -> dict[str, Any]:
    """One of this file's."""
    return {"stage": name, "python": f"{HERE}:{name}"}


def with_function(
    root: Path, work: Callable[[Function], Awaitable[Any]], *functions: FunctionSpec
) -> Any:
    """Loads the first, with those that it calls; works; nothing may be left inside of it;
    closes.
    """
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})
    specs, faults = link_callees(functions, settings)
    assert not faults

    async def main() -> Any:
        function = await Function.load(specs[0], settings, warm_up=False)
        try:
            found = await work(function)
            async with asyncio.timeout(30):
                while (
                    function.in_flight.calls
                    or function.in_flight.rows
                    or function._batcher._inside
                    or function._batcher.on_loop
                ):
                    await asyncio.sleep(0.005)
            return found
        finally:
            began = time.monotonic()
            await function.close(60)
            assert time.monotonic() - began < 30

    return asyncio.run(main())


async def outcome(function: Function, n: int, timeout_s: float = 30.0) -> int | WakefulError:
    """Of one call."""
    try:
        return int(
            (await function.call_row({"n": n}, CallOptions(deadline=time.monotonic() + timeout_s)))[
                0
            ]["n"]
        )
    except WakefulError as error:
        return error


@pytest.mark.parametrize(
    "functions",
    [
        [spec([stage("together"), {**stage("hang"), "inputs": {"n": "together"}}])],
        [
            spec(
                [
                    stage("together"),
                    {"stage": "call", "function": "g", "inputs": {"n": "together"}},
                    stage("answer"),
                ]
            ),
            spec([stage("called")], "g"),
        ],
    ],
    ids=["coroutine", "function"],
)
def test_a_row_that_hangs_keeps_no_other(tmp_path: Path, functions: list[FunctionSpec]) -> None:
    """Rows that were handed on together: each is answered when it is done, and the one that hangs
    at its own deadline.
    """

    async def work(function: Function) -> None:
        for _ in range(20):
            await outcome(function, 1)  # plain rows are quick, and handed on by many
        hanging = asyncio.create_task(outcome(function, HANG, 0.3))
        others = [outcome(function, n, 5.0) for n in range(8)]
        assert await asyncio.gather(*others) == list(range(8))
        assert not hanging.done()
        assert isinstance(await hanging, DeadlineExceeded)

    with_function(tmp_path, work, *functions)


@pytest.mark.parametrize(
    "name", ["cancelled", "gives_up", "exits", "exits_in_a_task", "interrupts"]
)
def test_a_coroutine_that_ends_otherwise_fails_its_row_alone(tmp_path: Path, name: str) -> None:
    """At once and not at the deadline; the process, its loop and the other rows go on, and nothing
    is left inside.
    """

    async def work(function: Function) -> None:
        outcomes, _ = await function.call_rows([{"n": 1}, {"n": HANG}, {"n": 2}])
        assert [outcomes[0], outcomes[2]] == [{"n": 1}, {"n": 2}]
        assert isinstance(outcomes[1], FunctionError)
        assert await outcome(function, 3) == 3

    with_function(tmp_path, work, spec([stage(name)]))


def test_a_coroutine_that_heeds_no_cancellation_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row leaves soon after its deadline, and is counted no more."""
    monkeypatch.setattr("runtime.batching.loop_tasks.GRACE_S", 0.05)

    async def work(function: Function) -> None:
        IGNORES.append(asyncio.Event())
        assert isinstance(await outcome(function, HANG, 0.05), DeadlineExceeded)
        async with asyncio.timeout(30):
            while function.in_flight.calls:
                await asyncio.sleep(0.01)
        assert await outcome(function, 2) == 2
        IGNORES[-1].set()

    with_function(tmp_path, work, spec([stage("heeds_nothing")]))


@pytest.mark.parametrize("name", ["stream_exits", "stream_cancelled"])
def test_a_stream_that_ends_otherwise_fails_alone(tmp_path: Path, name: str) -> None:
    """Its caller has what came before, and the error of a stage that failed."""

    async def items(function: Function, n: int) -> list[Any]:
        found: list[Any] = []
        async with StreamSource(function, {"n": n}, CallOptions()) as streaming:
            try:
                while taken := await streaming.take():
                    found += [item[name] for item in taken]
            except WakefulError as error:
                found.append(type(error))
        return found

    async def work(function: Function) -> None:
        assert await asyncio.gather(items(function, 1), items(function, HANG)) == [
            [1],
            [HANG, FunctionError],
        ]

    with_function(tmp_path, work, spec([stage(name)]))


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (f"{HERE}:Exits", "Exits did not construct: SystemExit: bye"),
        ("exits_on_import:f", "does not import: SystemExit: 7"),
    ],
)
def test_what_ends_the_program_while_it_loads_is_a_failed_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, message: str
) -> None:
    """An ``__init__``, or a module; other functions of the process serve on."""
    (tmp_path / "exits_on_import.py").write_text("import sys\n\nsys.exit(7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    bad, good = spec([{"stage": "s", "python": python}], "bad"), spec([stage("hang")], "good")

    async def main() -> None:
        workers = Workers(1)
        library = FunctionLibrary(
            [DeclaredFunction(bad), DeclaredFunction(good)],
            settings,
            workers=workers,
            budget_bytes=None,
        )
        try:
            with pytest.raises(LoadError, match=message):
                await library.load("bad")
            async with library.use("good") as function:
                assert await outcome(function, 1) == 1
        finally:
            await library.close()
            workers.close(5)

    asyncio.run(main())
