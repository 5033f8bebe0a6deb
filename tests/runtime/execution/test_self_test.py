"""Whether a loaded function can still answer: it is tested when its batches raise doubt, and only
the test condemns it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.batching.health.failure_detector import FAILING
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeviceLost, FunctionError
from runtime.execution.function import Function
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests import onnx_models, sleepers
from tests.problems import expect_values

HERE = __name__

LOADS: Counter[str] = Counter()
"""By key."""

BROKEN: dict[str, float] = {}
"""By key: the last of its loads that does not answer any more."""


class Breaks:
    """A stage that answers until it is broken, but for one poisoned number."""

    def __init__(self, key: str) -> None:
        LOADS[key] += 1
        self.key, self.load = key, LOADS[key]

    def __call__(self, n: float) -> dict[str, float]:
        """Twice the number."""
        if n == 13 or self.load <= BROKEN.get(self.key, 0):
            raise RuntimeError("a secret of the function")
        return {"twice": 2 * n}


def breaks(key: str, **args: Any) -> FunctionSpec:
    """A function of one such stage."""
    graph = [{"stage": "s", "python": f"{HERE}:Breaks", "with": {"key": key}}]
    return FunctionSpec.from_args(
        "f", "/v2/models/f", {"graph": graph, "example": {"n": 1}, **args}
    )


def with_function(
    root: Path, spec: FunctionSpec, work: Callable[[Function, asyncio.Event], Awaitable[Any]]
) -> Any:
    """Loads, works, closes; the event is set when the function says that it is broken."""

    async def main() -> Any:
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        broken = asyncio.Event()
        function.self_test.on_broken = broken.set
        try:
            return await work(function, broken)
        finally:
            await function.close(5)

    return asyncio.run(main())


async def fail(function: Function, times: int, row: dict[str, Any]) -> None:
    """So many calls that are answered with an error."""
    for _ in range(times):
        with pytest.raises((FunctionError, DeviceLost)):
            await function.call_row(row)


async def no_test(function: Function) -> None:
    """Until no test is under way."""
    async with asyncio.timeout(30):
        while "being tested" in repr(function.self_test):
            await asyncio.sleep(0.001)


def test_a_flood_of_poisoned_rows_does_not_condemn_a_function(tmp_path):
    """Fifty calls in a row fail; its own example still succeeds, so it is healthy and answers the
    next caller.
    """

    async def work(function: Function, broken: asyncio.Event) -> None:
        await fail(function, 50, {"n": 13})
        await no_test(function)
        assert (function.trouble, broken.is_set()) == ("", False)
        assert (await function.call_row({"n": 2}))[0] == {"twice": 4}

    with_function(tmp_path, breaks("flood"), work)


def test_a_function_that_fails_on_its_own_example_is_broken(tmp_path):
    """Calls fail and so does what succeeded when it was loaded: it says why, and /ready is 503 with
    the reason.
    """

    async def work(function: Function, broken: asyncio.Event) -> httpx.Response:
        BROKEN["gone"] = 1
        await fail(function, FAILING, {"n": 2})
        await asyncio.wait_for(broken.wait(), 10)
        assert function.trouble
        transport = httpx.ASGITransport(AsgiApp(FunctionHandler(function)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", timeout=60
        ) as client:
            return await client.get("/ready")

    response = with_function(tmp_path, breaks("gone"), work)
    assert response.status_code == 503
    assert response.json()["ready"] is False
    expect_values(response.json()["reason"], "before it was ready", "declared example")
    assert "secret" not in response.text


def test_a_broken_session_is_found_without_an_example(tmp_path, monkeypatch):
    """A bare model runs made-up data, as it did before it was ready."""
    onnx_models.double(tmp_path / "m.onnx")

    def fails(self: Session, feeds: Any) -> Any:
        raise RuntimeError("the session is gone")

    async def work(function: Function, broken: asyncio.Event) -> str:
        monkeypatch.setattr(Session, "run", fails)
        await fail(function, FAILING, {"x": [1, 2, 3]})
        await asyncio.wait_for(broken.wait(), 10)
        return function.trouble

    trouble = with_function(tmp_path, FunctionSpec.from_args("f", "/f", {"onnx": "m.onnx"}), work)
    expect_values(trouble, "before it was ready", "m.onnx", "warm-up", "{'x': [1, 3]}")


def test_a_lost_device_condemns_at_once(tmp_path, monkeypatch):
    """What NVIDIA says cannot be recovered is not tested; the client gets 503 and may go to
    another replica.
    """
    onnx_models.double(tmp_path / "m.onnx")

    def fails(self: Session, feeds: Any) -> Any:
        raise DeviceLost(
            "m.onnx cannot run any more: CUDA error 700, an illegal memory access was encountered."
        )

    async def work(function: Function, broken: asyncio.Event) -> str:
        monkeypatch.setattr(Session, "run", fails)
        await fail(function, 1, {"x": [1, 2, 3]})
        await asyncio.wait_for(broken.wait(), 10)
        return function.trouble

    assert "CUDA error 700" in with_function(
        tmp_path, FunctionSpec.from_args("f", "/f", {"onnx": "m.onnx"}), work
    )


def test_a_closed_function_is_not_tested(tmp_path):
    """Doubt that comes while it closes starts nothing."""

    async def work(function: Function, broken: asyncio.Event) -> None:
        doubts = function._batcher.failures.on_suspected_failure
        await function.close(5)
        doubts("")
        assert "being tested" not in repr(function.self_test)

    with_function(tmp_path, breaks("closed"), work)


def test_a_broken_function_of_a_library_is_loaded_again(tmp_path):
    """Others of its process are untouched; once it is loaded again, first runs included, it
    answers.
    """

    async def work(served: sleepers.Served) -> None:
        await served.library.load("f")
        await served.call("other")
        BROKEN["again"] = 1
        for _ in range(FAILING):
            assert (await served.call("f")).status_code == 500
        await served.until(lambda: LOADS["again"] == 2)
        await served.until_state("f", "ready")
        assert (await served.call("f", 4.0)).json() == {"twice": 8.0}
        assert served.changes.count("other") == 3, "loaded once: waking, ready, its cold start"

    sleepers.run(
        sleepers.serving(tmp_path, breaks("again"), sleepers.obedient("other", "vitals")), work
    )


def test_a_function_that_stays_broken_is_refused_with_the_reason(tmp_path):
    """Its load fails as a load does, and is tried again later."""

    async def work(served: sleepers.Served) -> httpx.Response:
        await served.library.load("f")
        BROKEN["stays"] = math.inf
        for _ in range(FAILING):
            await served.call("f")
        await served.until_state("f", "failed")
        return await served.call("f")

    response = sleepers.run(sleepers.serving(tmp_path, breaks("stays")), work)
    assert (response.status_code, response.json()["code"]) == (503, "load_failed")
    expect_values(response.json()["error"], "declared example")
