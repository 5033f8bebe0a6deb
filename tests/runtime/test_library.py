"""Declared functions in one process: declared anew, refused, released, measured, freed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref

import pytest

from runtime import residents
from runtime.errors import NoRoom, NotFound, Quarantined
from runtime.function import Function
from runtime.library import Declared
from tests.sleepers import HANDS, Served, double, obedient, run, serving


def test_a_function_is_freed_when_it_is_unloaded(tmp_path):
    """Nothing keeps it or its stages: its memory goes back without waiting for a garbage collection of what refers in circles."""

    async def work(served: Served) -> None:
        assert (await served.call("f")).status_code == 200
        function = served.library.loaded("f")
        assert function is not None
        gone: list[weakref.ref[Function]] = [weakref.ref(function)]
        del function
        await served.library.unload("f")
        await asyncio.sleep(0)
        assert gone[0]() is None

    gc.disable()
    try:
        run(serving(tmp_path, obedient("f", "freed")), work)
    finally:
        gc.enable()


def test_a_sleeping_function_is_a_name_and_its_declaration(tmp_path):
    """Under 50 kB each, whatever a thousand of them are."""

    async def work(served: Served) -> float:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            served.library.declare([Declared(obedient(f"f{n}", "many")) for n in range(1000)])
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert served.library.counts() == {"asleep": 1000}
        return (after - before) / 1000

    assert run(serving(tmp_path), work) < 50_000


def test_what_is_declared_anew_is_loaded_anew_only_if_it_must(tmp_path):
    """Other tunables hold at once, another graph takes a load, the same stays, who is gone is gone."""

    async def work(served: Served) -> None:
        library = served.library
        for name in ("same", "tuned", "changed", "gone"):
            await served.call(name)
        same, tuned = library.loaded("same"), library.loaded("tuned")
        library.declare(
            [Declared(obedient("same", "d")), Declared(obedient("tuned", "d", limits={"max_rows": 7})), Declared(obedient("changed", "d2"))]
        )
        assert library.loaded("same") is same
        assert library.loaded("tuned") is tuned
        assert tuned is not None
        assert tuned.spec.limits.max_rows == 7
        await served.until(lambda: HANDS["d2"].loads == 1 and library.report()["functions"]["changed"]["update"] == "")
        assert (await served.call("changed")).status_code == 200
        assert (await served.call("gone")).status_code == 404
        with pytest.raises(NotFound, match="did you mean 'same'"):
            await library.load("sane")

    run(serving(tmp_path, *(obedient(name, "d") for name in ("same", "tuned", "changed", "gone"))), work)


def test_a_load_that_is_overtaken_by_a_declaration_serves_nobody(tmp_path):
    """Who waited for the former function is answered by the new one."""
    hand = HANDS["overtaken"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        served.library.declare([Declared(obedient("f", "overtakes"))])
        hand.may_load.set()
        assert (await call).status_code == 200

    run(serving(tmp_path, obedient("f", "overtaken")), work)
    assert HANDS["overtakes"].loads == 1


def test_a_quarantined_function_is_refused_until_it_is_not(tmp_path):
    """Loaded or not, its callers hear the reason; the others are served, and so is it once nobody refuses it."""

    async def work(served: Served) -> None:
        await served.call("f")
        served.library.refuse({"f": "it brought its host down twice.", "unknown": "?"})
        refused = await served.call("f")
        assert (refused.status_code, refused.json()["code"]) == (503, "quarantined")
        assert "brought its host down twice" in refused.json()["error"]
        assert served.library.state("f").state == "failed"
        assert (await served.call("g")).status_code == 200
        with pytest.raises(Quarantined):
            await served.library.load("f")
        served.library.refuse({})
        assert (await served.call("f")).status_code == 200

    run(serving(tmp_path, obedient("f", "q"), obedient("g", "q")), work)


def test_what_is_released_leaves_as_soon_as_it_is_idle(tmp_path):
    """Not before its call is answered, and long before its delay."""
    hand = HANDS["released"]

    async def work(served: Served) -> None:
        await served.call("f")
        hand.may_answer.clear()
        busy = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        served.library.release("f")
        hand.may_answer.set()
        assert (await busy).status_code == 200
        await served.until_state("f", "asleep")
        served.library.release("f")
        served.library.release("nobody")

    run(serving(tmp_path, obedient("f", "released")), work)


def test_a_call_takes_a_release_back(tmp_path):
    """Used again, it stays for its delay."""
    hand = HANDS["again used"]

    async def work(served: Served) -> None:
        await served.call("f")
        hand.may_answer.clear()
        busy = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        served.library.release("f")
        hand.may_answer.set()
        answers = await asyncio.gather(busy, served.call("f"))
        assert [answer.status_code for answer in answers] == [200, 200]
        holding = served.library.find("/v2/models/f")
        assert holding is not None
        assert holding.released_at is None

    run(serving(tmp_path, obedient("f", "again used")), work)


def test_one_that_stays_is_unloaded_for_nobody(tmp_path, monkeypatch):
    """Neither for being idle nor to make room."""
    monkeypatch.setattr(residents, "ROOM_WAIT_S", 0.0)

    async def work(served: Served) -> None:
        await served.call("a")
        await served.call("b")
        await served.until_state("b", "asleep")
        with pytest.raises(NoRoom):
            await served.library.load("huge")
        assert served.library.state("a").state == "ready"

    delay = {"autoscaling": {"downscale_to_zero_delay_s": 0.0}}
    size = 1 << 40
    declared = [
        Declared(obedient("a", "stays", **delay), size, stays=True),
        Declared(obedient("b", "stays", **delay), size),
        Declared(obedient("huge", "stays"), 3 * size),  # fits, were it not for a
    ]
    run(serving(tmp_path, *declared, budget=3 * size), work)


def test_what_nobody_probed_is_measured_by_its_load(tmp_path):
    """One that alone is larger than the budget is refused, the next time before it is loaded."""

    async def work(served: Served) -> None:
        await served.call("small")
        refused = [await served.client.post("/v2/models/large", json={"n": 1}) for _ in range(2)]
        assert [answer.json()["code"] for answer in refused] == ["no_room", "no_room"]
        assert served.library.report()["functions"].get("large", {}).get("loads", 0) == 0

    large = obedient("large", "large")
    large = large.model_copy(update={"graph": (large.graph[0].model_copy(update={"python": f"{__name__}:Large"}),)})
    run(serving(tmp_path, obedient("small", "small"), large, budget=30_000_000), work)
    assert HANDS["large loads"].loads == 1


class Large:
    """A stage that holds 60 MB."""

    def __init__(self, key: str) -> None:
        HANDS[f"{key} loads"].loads += 1
        self.held = b"x" * 60_000_000

    def __call__(self, n: float) -> dict[str, float]:
        """As large as it is."""
        return {"n": n}


def test_all_are_loaded_while_there_is_room(tmp_path):
    """The rest stays asleep, and says so."""

    async def work(served: Served) -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []
        await served.library.load_all(lambda name, state: told.append((name, state.state)))
        return told

    declared = [Declared(obedient(name, "all"), 1 << 40) for name in "abc"]
    assert run(serving(tmp_path, *declared, budget=(2 << 40) - 1), work) == [("a", "ready"), ("b", "asleep"), ("c", "asleep")]


def test_the_report_has_what_policies_ask_for(tmp_path):
    """Of functions that are awake, or were a moment ago; plain JSON data."""

    async def work(served: Served) -> None:
        for n in range(30):
            await served.client.post("/v2/models/double", json={"x": [n, n, n]})
        report = served.library.report()
        assert set(report["functions"]) == {"double"}
        found = report["functions"]["double"]
        assert (found["state"], found["calls"], found["in_flight"], found["waiting_rows"], found["loads"]) == ("ready", 30, 0, 0, 1)
        assert found["busy_s"] > 0
        assert found["p95_ms"] > 0
        await served.library.unload("double")
        assert served.library.report()["functions"]["double"]["state"] == "asleep"
        assert served.library.report()["used_bytes"] >= 0
        assert repr(served.library) == "<Library: 2 asleep>"

    run(serving(tmp_path, double(tmp_path), obedient("f", "report")), work)


def test_a_wake_without_a_caller(tmp_path):
    """wake begins a load that nobody waits for; it is recorded without an answer."""

    async def work(served: Served) -> None:
        served.library.wake("f")
        served.library.wake("f")
        served.library.wake("nobody")
        await served.until_state("f", "ready")
        wake = served.library.report()["functions"]["f"]["last_wake"]
        assert "answer" not in wake["phases"]
        async with served.library.use("f") as function:
            row, _ = await function.call_row({"n": 4})
        assert row == {"twice": 8}

    run(serving(tmp_path, obedient("f", "wake")), work)
    assert HANDS["wake"].loads == 1


def test_close_ends_loads_under_way(tmp_path):
    """Who waits for one is told that the process ends."""
    hand = HANDS["closing"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        await served.library.close()
        assert (await call).json()["code"] == "draining"
        hand.may_load.set()
        await served.library.close()

    run(serving(tmp_path, obedient("f", "closing")), work)
