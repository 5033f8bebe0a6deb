"""A row whose call's time is over costs nothing more, wherever it is on its way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.calls import Call, CallOptions, deadline_error
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded
from runtime.execution.function import Function
from runtime.settings import Settings
from tests import onnx_models

HERE = __name__

MAY_GO = threading.Event()
RAN: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing has run, and the first stage waits."""
    MAY_GO.clear()
    RAN.clear()
    yield
    MAY_GO.set()


def first(x: list[float]) -> list[float]:
    """Waits until the test lets it go."""
    RAN.append("first")
    assert MAY_GO.wait(30)
    return x


async def on_loop(first: list[float]) -> list[float]:
    """A stage on the event loop."""
    RAN.append("on_loop")
    return first


def last(y: Any) -> dict[str, float]:
    """A stage behind a model."""
    RAN.append("last")
    return {"sum": float(sum(y))}


def last_in_thread(on_loop: list[float]) -> dict[str, float]:
    """A stage in a worker behind one on the event loop."""
    RAN.append("last")
    return {"sum": sum(on_loop)}


async def loaded(root: Path, *graph: dict[str, Any]) -> Function:
    """A function of these stages behind ``first``."""
    onnx_models.double(root / "double.onnx")
    stages = [{"stage": "first", "python": f"{HERE}:first"}, *graph]
    spec = FunctionSpec.from_args("f", "/f", {"graph": stages})
    return await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}), warm_up=False)


ON_LOOP = {"stage": "on_loop", "python": f"{HERE}:on_loop"}
MODEL = {"stage": "model", "onnx": "double.onnx", "inputs": {"x": "first"}}


@pytest.mark.parametrize(
    "graph",
    [
        [ON_LOOP, {"stage": "last", "python": f"{HERE}:last_in_thread"}],
        [MODEL, {"stage": "last", "python": f"{HERE}:last"}],
    ],
    ids=["onto the event loop", "to a model"],
)
def test_it_is_dropped_at_the_next_hop(tmp_path, graph, clock):
    """The client gets 504 while the first stage runs; no later stage begins, and nothing stays
    in flight.
    """

    async def main() -> None:
        function = await loaded(tmp_path, *graph)
        try:
            call = asyncio.create_task(
                function.call_row({"x": [1, 2, 3]}, CallOptions("", time.monotonic() + 20))
            )
            await until_first()
            clock.advance(20)
            with pytest.raises(DeadlineExceeded, match=r"\b20 s\b"):
                await call
            assert RAN == ["first"]
            assert function.in_flight.calls == 1
            MAY_GO.set()
            await until_idle(function)
            assert RAN == ["first"]
            assert (await function.call_row({"x": [1, 2, 3]}))[0]["sum"] in (6.0, 12.0)
        finally:
            await function.close(5)

    asyncio.run(main())


def test_it_is_dropped_from_the_queue(tmp_path, clock):
    """A call that expires while it waits for a worker never begins; the one before it is
    answered.
    """

    async def main() -> None:
        function = await loaded(tmp_path)
        try:
            busy = asyncio.create_task(function.call_row({"x": [1]}))
            await until_first()
            waits = asyncio.create_task(
                function.call_row({"x": [2]}, CallOptions("", time.monotonic() + 20))
            )
            await asyncio.sleep(0)
            clock.advance(20)
            with pytest.raises(DeadlineExceeded):
                await waits
            MAY_GO.set()
            assert (await busy)[0] == {"first": [1.0]}
            await until_idle(function)
            assert RAN == ["first"]
        finally:
            await function.close(5)

    asyncio.run(main())


def test_a_call_that_a_close_leaves_behind_has_its_deadline(tmp_path, clock):
    """Its stage does not return in the time that the close has; the client is answered."""

    async def main() -> None:
        spec = FunctionSpec.from_args(
            "f", "/f", {"graph": [{"stage": "first", "python": f"{HERE}:first"}]}
        )
        settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
        function = await Function.load(spec, settings, warm_up=False)
        call = asyncio.create_task(
            function.call_row({"x": [1.0]}, CallOptions("", time.monotonic() + 20))
        )
        await until_first()
        await function.close(0.01)
        assert not call.done()
        clock.advance(20)
        with pytest.raises(DeadlineExceeded):
            await call

    asyncio.run(main())


def test_a_call_without_time_is_not_taken(tmp_path):
    """Its rows are not even queued."""

    async def main() -> None:
        function = await loaded(tmp_path)
        try:
            with pytest.raises(DeadlineExceeded):
                await function.call_row({"x": [1]}, CallOptions(deadline=time.monotonic() + 0.0))
            assert (function.in_flight.total_calls, function.in_flight.calls, RAN) == (0, 0, [])
        finally:
            await function.close(5)

    asyncio.run(main())


async def until_first() -> None:
    """Until the first stage runs."""
    async with asyncio.timeout(20):
        while not RAN:
            await asyncio.sleep(0.001)


async def until_idle(function: Function) -> None:
    """Until every row has left."""
    until = time.monotonic() + 20
    while function.in_flight.calls:
        assert time.monotonic() < until
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("rows", "advice"),
    [(1, "Leave it more time, or raise limits.request_timeout_s"), (2, "Send fewer rows")],
)
def test_the_advice_fits_the_call(rows, advice):
    """A client that sent one row cannot send fewer."""
    message = deadline_error(Call([{}] * rows, request_id="", now=0.0, deadline=1.0)).message
    assert message.startswith(
        "not answered within the 1 s that its caller and request_timeout_s left it. " + advice
    )
