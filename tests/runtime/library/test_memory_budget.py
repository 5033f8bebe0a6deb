"""``WAKEFUL_MEMORY_MB`` holds, whatever wakes at once."""

from __future__ import annotations

import asyncio
import mmap
import threading
import time

import numpy as np
import pytest

from runtime.declaration.function_spec import FunctionSpec
from tests.sleepers import HANDS, PATIENCE_S, Served, obedient, run, serving

HERE = __name__
MB = 1_000_000

LOADING: list[int] = [0, 0]
"""Stages that are being constructed, and the most at once."""

LOCK = threading.Lock()


class Holds:
    """A stage that holds memory, and takes a moment to load."""

    def __init__(self, mb: int) -> None:
        with LOCK:
            LOADING[0] += 1
            LOADING[1] = max(LOADING)
        assert HANDS[str(mb)].may_load.wait(PATIENCE_S)
        # of blocks below 32 MB the C library keeps up to 64 MB a thread, whatever is trimmed
        self.held = mmap.mmap(-1, mb * MB + 1, flags=mmap.MAP_PRIVATE)
        np.frombuffer(self.held, np.uint8)[:] = 1
        time.sleep(0.02)
        with LOCK:
            LOADING[0] -= 1

    def __call__(self, n: float) -> float:
        """Its size."""
        return float(len(self.held))


@pytest.fixture(autouse=True)
def none_loads():
    """No stage was constructed yet."""
    LOADING[:] = [0, 0]


def holder(name: str, mb: int, calls: FunctionSpec | None = None) -> FunctionSpec:
    """A function of one such stage, and of one that is another function."""
    graph: list[dict] = [{"stage": "s", "python": f"{HERE}:Holds", "with": {"mb": mb}}]
    args: dict = {"graph": graph}
    if calls is not None:
        graph.append({"stage": "other", "function": calls.name, "inputs": {"n": "s"}})
        interface = {"datatype": "FP64", "shape": [], "container": ""}
        digest, declaration = calls.declaration
        callee = {
            "route_prefix": calls.route_prefix,
            "digest": digest,
            "takes": {"n": interface},
            "gives": {"s": interface},
        }
        args["deployed"] = {
            "calls": {calls.name: callee},
            "declarations": {digest: declaration, **calls.deployed.declarations},
        }
    return FunctionSpec.from_args(name, f"/v2/models/{name}", args)


@pytest.mark.slow
def test_functions_of_unknown_size_that_wake_at_once_stay_in_the_budget(tmp_path):
    """Twelve of 30 MB where three fit: all are answered, as many load at a time as surely fit, and no
    more is held than the budget and one of them.
    """
    most = [0]

    async def work(served: Served) -> None:
        async def watch() -> None:
            while True:
                most[0] = max(most[0], served.library.used_bytes())
                await asyncio.sleep(0.002)

        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(served.call(f"f{number}") for number in range(12)))
        watching.cancel()
        assert [answer.status_code for answer in answers] == [200] * 12
        assert served.library.used_bytes() <= 100 * MB

    run(serving(tmp_path, *(holder(f"f{n}", 30) for n in range(12)), budget=100 * MB), work)
    assert LOADING[1] <= 2
    assert most[0] <= 130 * MB


def test_small_functions_of_unknown_size_wake_together_where_there_is_memory(tmp_path):
    """Once one was measured; a size of nothing is known as well."""

    async def work(served: Served) -> None:
        assert (await served.call("f0")).status_code == 200
        await asyncio.gather(*(served.call(f"f{number}") for number in range(1, 9)))

    run(serving(tmp_path, *(holder(f"f{n}", 0) for n in range(9)), budget=10_000 * MB), work)
    assert LOADING[1] > 1


def test_a_function_that_calls_another_is_measured_without_it(tmp_path):
    """Both are loaded by the first call of one: its own memory is what the other did not take."""

    async def work(served: Served) -> None:
        answer = await served.call("caller")
        assert answer.status_code == 200, answer.text
        found = served.library.report()
        assert found["callee"].memory_bytes == pytest.approx(60 * MB, rel=0.2)
        assert found["caller"].memory_bytes == pytest.approx(40 * MB, rel=0.2)

    callee = holder("callee", 60)
    run(serving(tmp_path, callee, holder("caller", 40, callee), budget=1000 * MB), work)


def test_a_load_beside_an_unload_measures_nothing(tmp_path):
    """What the one takes and the other gives back cannot be told apart; the next load measures."""
    hand = HANDS["40"]

    async def work(served: Served) -> None:
        await served.library.load("goes")
        hand.may_load.clear()
        loading = asyncio.create_task(served.call("stays"))
        await served.until_state("stays", "waking")
        while not LOADING[0]:
            await asyncio.sleep(0.001)
        await served.library.unload("goes")
        hand.may_load.set()
        assert (await loading).status_code == 200
        await served.library.unload("stays")
        await served.library.load("stays")
        size = served.library.report()["stays"].memory_bytes
        assert size == pytest.approx(40 * MB, rel=0.2)

    run(serving(tmp_path, holder("goes", 60), holder("stays", 40), budget=1000 * MB), work)


def test_callers_that_wake_with_what_they_call_do_not_wait_for_each_other(tmp_path):
    """Functions in a chain, all called at once, of which no two fit together."""

    async def work(served: Served) -> float:
        began = time.monotonic()
        names = ("c", "b", "a", "b", "c", "other")
        answers = await asyncio.gather(*(served.call(name) for name in names))
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert [answer.status_code for answer in answers][-1] == 200
        return time.monotonic() - began

    a = holder("a", 10)
    b = holder("b", 10, a)
    chain = (a, b, holder("c", 10, b), obedient("other", "chain"))
    assert chain[2].all_called == {"a", "b"}
    assert run(serving(tmp_path, *chain, budget=15 * MB), work) < 30


def test_one_that_hangs_stops_no_other_for_good(tmp_path, clock):
    """A function whose load does not end is waited for a minute at most, by all that wake after it
    together.
    """
    hand = HANDS["hangs in a budget"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        hanging = asyncio.create_task(served.call("hangs"))
        async with asyncio.timeout(30):
            while hand.loads != 1:  # in a thread, which sends no signal
                await asyncio.sleep(0.005)
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        await asyncio.sleep(0.05)
        assert not LOADING[1]
        clock.advance(61)
        await served.until(lambda: served.library.entries.require("f").state.state == "ready")
        assert (await served.call("g")).status_code == 200
        hand.may_load.set()
        await asyncio.gather(hanging, call)

    functions = obedient("hangs", "hangs in a budget"), holder("f", 0), holder("g", 0)
    run(serving(tmp_path, *functions, budget=MB), work)
