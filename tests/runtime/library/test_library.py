"""Declared functions in one process: declared again, refused, released, measured, freed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref

import pytest

from runtime.errors import NoRoom, NotFound, Quarantined
from runtime.execution.function import Function
from runtime.library import eviction
from runtime.library.library import DeclaredFunction
from tests.sleepers import HANDS, Served, double, obedient, run, serving


def test_a_function_is_freed_when_it_is_unloaded(tmp_path):
    """Nothing keeps it or its stages: its memory goes back without waiting for a garbage collection
    of what refers in circles.
    """

    async def work(served: Served) -> None:
        assert (await served.call("f")).status_code == 200
        function = served.library.entries.require("f").function
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
            served.library.declare(
                [DeclaredFunction(obedient(f"f{n}", "many")) for n in range(1000)]
            )
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert served.library.counts() == {"asleep": 1000}
        return (after - before) / 1000

    assert run(serving(tmp_path), work) < 50_000


def test_what_is_declared_again_is_loaded_again_only_if_it_must(tmp_path):
    """Other tunables hold at once, another graph takes a load, the same stays, what is gone is
    gone.
    """

    async def work(served: Served) -> None:
        library = served.library
        for name in ("same", "tuned", "changed", "gone"):
            await served.call(name)
        same, tuned = (
            library.entries.require("same").function,
            library.entries.require("tuned").function,
        )
        library.declare(
            [
                DeclaredFunction(obedient("same", "d")),
                DeclaredFunction(obedient("tuned", "d", limits={"max_rows": 7})),
                DeclaredFunction(obedient("changed", "d2")),
            ]
        )
        assert library.entries.require("same").function is same
        assert library.entries.require("tuned").function is tuned
        assert tuned is not None
        assert tuned.spec.limits.max_rows == 7
        await served.until(
            lambda: HANDS["d2"].loads == 1 and library.report()["changed"].update == ""
        )
        assert (await served.call("changed")).status_code == 200
        assert (await served.call("gone")).status_code == 404
        with pytest.raises(NotFound, match="'same'"):
            await library.load("sane")

    run(
        serving(tmp_path, *(obedient(name, "d") for name in ("same", "tuned", "changed", "gone"))),
        work,
    )


@pytest.mark.parametrize("fault", ["", "no weights"])
def test_a_load_that_a_declaration_overtakes_serves_no_call(tmp_path, fault):
    """A caller of the previous version is answered by the new one, whatever becomes of that load:
    the declaration may have mended it.
    """
    hand, overtakes = HANDS[f"overtaken {fault}"], f"overtakes {fault}"
    hand.may_load.clear()
    hand.fault = fault

    async def work(served: Served) -> None:
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        served.library.declare([DeclaredFunction(obedient("f", overtakes))])
        hand.may_load.set()
        assert (await call).status_code == 200

    run(serving(tmp_path, obedient("f", f"overtaken {fault}")), work)
    assert HANDS[overtakes].loads == 1


def test_an_unload_waits_for_the_longest_deadline(tmp_path, monkeypatch):
    """What a function has accepted is answered, though it takes longer than an unload waits by
    default.
    """
    monkeypatch.setattr(eviction, "UNLOAD_TIMEOUT_S", 0.01)
    hand = HANDS["long"]

    async def work(served: Served) -> None:
        await served.library.load("f")
        hand.may_answer.clear()
        call = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        unload = asyncio.create_task(served.library.unload("f"))
        await asyncio.sleep(0.1)
        assert not unload.done()
        hand.may_answer.set()
        assert (await call).status_code == 200
        await unload

    try:
        run(serving(tmp_path, obedient("f", "long", limits={"request_timeout_s": 20})), work)
    finally:
        hand.may_answer.set()


def test_a_quarantined_function_is_refused_until_it_is_not(tmp_path):
    """Loaded or not, its callers get the reason; the others are served, and so is it once nothing
    refuses it.
    """

    async def work(served: Served) -> None:
        await served.call("f")
        served.library.set_quarantined({"f": "it brought its host down twice.", "unknown": "?"})
        refused = await served.call("f")
        assert (refused.status_code, refused.json()["code"]) == (503, "quarantined")
        assert "brought its host down twice" in refused.json()["error"]
        assert served.library.entries.require("f").state.state == "failed"
        assert (await served.call("g")).status_code == 200
        with pytest.raises(Quarantined):
            await served.library.load("f")
        served.library.set_quarantined({})
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
        served.library.unload_when_idle("f")
        hand.may_answer.set()
        assert (await busy).status_code == 200
        await served.until_state("f", "asleep")
        served.library.unload_when_idle("f")
        served.library.unload_when_idle("unknown")

    run(serving(tmp_path, obedient("f", "released")), work)


def test_a_call_takes_a_release_back(tmp_path):
    """Used again, it stays for its delay."""
    hand = HANDS["again used"]

    async def work(served: Served) -> None:
        await served.call("f")
        hand.may_answer.clear()
        busy = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        served.library.unload_when_idle("f")
        hand.may_answer.set()
        answers = await asyncio.gather(busy, served.call("f"))
        assert [answer.status_code for answer in answers] == [200, 200]
        holding = served.library.entries.find("/v2/models/f")
        assert holding is not None
        assert holding.leases.release_requested_at is None

    run(serving(tmp_path, obedient("f", "again used")), work)


def test_a_pinned_function_is_never_unloaded(tmp_path, monkeypatch):
    """Neither because it is idle nor to free memory."""
    monkeypatch.setattr(eviction, "MEMORY_WAIT_S", 0.0)

    async def work(served: Served) -> None:
        await served.call("a")
        await served.call("b")
        await served.until_state("b", "asleep")
        with pytest.raises(NoRoom):
            await served.library.load("huge")
        assert served.library.entries.require("a").state.state == "ready"

    delay = {"autoscaling": {"downscale_to_zero_delay_s": 0.0}}
    size = 1 << 40
    declared = [
        DeclaredFunction(obedient("a", "stays", **delay), size, is_pinned=True),
        DeclaredFunction(obedient("b", "stays", **delay), size),
        DeclaredFunction(obedient("huge", "stays"), 3 * size),  # fits, were it not for a
    ]
    run(serving(tmp_path, *declared, budget=3 * size), work)


def test_an_unprobed_function_is_measured_by_its_load(tmp_path):
    """One that alone is larger than the budget is refused, the next time before it is loaded."""

    async def work(served: Served) -> None:
        await served.call("small")
        refused = [await served.client.post("/v2/models/large", json={"n": 1}) for _ in range(2)]
        assert [answer.json()["code"] for answer in refused] == ["no_room", "no_room"]
        found = served.library.report().get("large")
        assert found is None or found.loads == 0

    large = obedient("large", "large")
    large = large.model_copy(
        update={"graph": (large.graph[0].model_copy(update={"python": f"{__name__}:Large"}),)}
    )
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


def test_all_are_loaded_while_there_is_memory(tmp_path):
    """The rest stays asleep, and says so."""

    async def work(served: Served) -> list[tuple[str, str]]:
        states: list[tuple[str, str]] = []
        await served.library.load_all(lambda name, state: states.append((name, state.state)))
        return states

    declared = [DeclaredFunction(obedient(name, "all"), 1 << 40) for name in "abc"]
    assert run(serving(tmp_path, *declared, budget=(2 << 40) - 1), work) == [
        ("a", "ready"),
        ("b", "asleep"),
        ("c", "asleep"),
    ]


def test_the_report_has_what_policies_ask_for(tmp_path):
    """Of functions that are awake, or were a moment ago; plain JSON data."""

    async def work(served: Served) -> None:
        for n in range(30):
            await served.client.post("/v2/models/double", json={"x": [n, n, n]})
        (found,) = served.library.report().values()
        assert found.last_wake is not None
        assert found.last_wake.name == "double"
        assert (found.state, found.calls, found.in_flight, found.waiting_rows, found.loads) == (
            "ready",
            30,
            0,
            0,
            1,
        )
        assert found.busy_s > 0
        assert found.p95_ms
        await served.library.unload("double")
        assert served.library.report()["double"].state == "asleep"
        assert repr(served.library) == "<FunctionLibrary: 2 asleep>"

    run(serving(tmp_path, double(tmp_path), obedient("f", "report")), work)


def test_a_wake_without_a_caller(tmp_path):
    """start_loading begins a load that no caller waits for; it is recorded without an answer."""

    async def work(served: Served) -> None:
        served.library.start_loading("f")
        served.library.start_loading("f")
        served.library.start_loading("unknown")
        await served.until_state("f", "ready")
        wake = served.library.report()["f"].last_wake
        assert wake is not None
        assert "answer" not in wake.phases
        async with served.library.use("f") as function:
            row, _ = await function.call_row({"n": 4})
        assert row == {"twice": 8}

    run(serving(tmp_path, obedient("f", "wake")), work)
    assert HANDS["wake"].loads == 1


def test_close_ends_loads_under_way(tmp_path):
    """A caller that waits for one learns that the process ends."""
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
