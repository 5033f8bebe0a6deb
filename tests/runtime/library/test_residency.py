"""Functions that are kept awake: by a pin, by their hours; and the operator's load and unload."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from runtime.errors import LoadError, NotFound, RequestError, Unavailable
from runtime.library import library as library_module
from runtime.library import residency as residency_module
from runtime.library.library import DeclaredFunction
from runtime.library.residency import Residency, kept_names, require_may_sleep, why_kept
from tests.sleepers import HANDS, Served, obedient, run, serving

MONDAY = datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp()
SUNDAY = datetime(2026, 1, 4, 10, tzinfo=UTC).timestamp()
OFFICE = {"autoscaling": {"awake": "Mon-Fri 08:00-18:00 UTC", "downscale_to_zero_delay_s": 0.01}}
SOON = {"autoscaling": {"downscale_to_zero_delay_s": 0.01}}


@pytest.mark.parametrize(
    ("args", "pinned", "now", "expected"),
    [
        ({}, (), MONDAY, ""),
        ({}, ("g",), MONDAY, ""),
        ({}, ("f",), MONDAY, "pinned"),
        (OFFICE, (), MONDAY, "autoscaling.awake"),
        (OFFICE, (), SUNDAY, ""),
        (OFFICE, ("f",), SUNDAY, "pinned"),
    ],
)
def test_what_keeps_a_function_awake(
    args: dict[str, Any], pinned: tuple[str, ...], now: float, expected: str
) -> None:
    """A pin before the hours, since a pin can be taken back at once."""
    spec = obedient("f", "why", **args)
    why = why_kept(spec, pinned, now)
    assert expected in why
    assert bool(why) is bool(expected)
    assert kept_names([spec], pinned, now) == ({"f"} if expected else set())
    if not expected:
        require_may_sleep(spec, pinned, now)
        return
    with pytest.raises(RequestError) as refused:
        require_may_sleep(spec, pinned, now)
    assert refused.value.status == 409


def test_least_replicas_keep_a_function_awake() -> None:
    """As declared: the file is changed, not the server."""
    spec = obedient("f", "least", autoscaling={"min_replicas": 1})
    with pytest.raises(RequestError, match="min_replicas is 1"):
        require_may_sleep(spec, (), MONDAY)


def test_hours_begin_and_end(tmp_path, monkeypatch):
    """It is loaded when they begin, stays however idle it is, and sleeps when they are over."""
    monkeypatch.setattr(residency_module, "TICK_S", 0.01)
    now = SUNDAY

    async def work(served: Served) -> None:
        nonlocal now
        library = served.library
        keeper = asyncio.create_task(Residency(library, lambda: now).run())
        assert (await served.call("other")).status_code == 200
        await served.until_state("other", "asleep")  # the unloader is at work
        assert library.entries.require("f").state.state == "asleep"
        now = MONDAY
        await served.until_state("f", "ready")
        assert (await served.call("other")).status_code == 200
        await served.until_state("other", "asleep")  # as soon as f would
        kept = library.entries.require("f")
        assert (kept.state.state, kept.is_kept, kept.is_kept_by_pin) == ("ready", True, False)
        now = SUNDAY
        await served.until_state("f", "asleep")
        keeper.cancel()

    run(serving(tmp_path, obedient("f", "hours", **OFFICE), obedient("other", "o", **SOON)), work)
    assert HANDS["hours"].loads == 1


def test_a_pinned_function_neither_sleeps_nor_yields(tmp_path):
    """With memory for two: the other one goes, though it was used later."""
    size = 400_000_000

    async def work(served: Served) -> None:
        residency = Residency(served.library)
        await residency.pin("a")
        assert (await served.call("b")).status_code == 200
        assert (await served.call("c")).status_code == 200
        kept = served.library.entries.require("a")
        assert (kept.state.state, kept.is_kept, kept.is_kept_by_pin) == ("ready", True, True)
        await served.until_state("b", "asleep")
        with pytest.raises(RequestError) as refused:
            await residency.unload("a")
        assert refused.value.status == 409
        await residency.unpin("a")
        await residency.unload("a")
        assert served.library.entries.require("a").state.state == "asleep"
        assert (await served.call("a")).status_code == 200  # a call wakes it

    functions = [DeclaredFunction(obedient(name, "room"), size) for name in "abc"]
    run(serving(tmp_path, *functions, budget=2 * size), work)


def test_a_new_version_of_a_pinned_function_stays_pinned(tmp_path):
    """A declaration that comes again has not taken the pin back; its removal has."""

    async def work(served: Served) -> None:
        library, residency = served.library, Residency(served.library)
        await residency.pin("f")
        library.declare([DeclaredFunction(obedient("f", "second", **SOON))])
        await served.until(
            lambda: HANDS["second"].loads == 1 and not library.entries.require("f").state.reason
        )
        residency.apply()
        assert library.entries.require("f").is_kept
        library.declare([])
        residency.apply()
        library.declare([DeclaredFunction(obedient("f", "third"))])
        residency.apply()
        assert not library.entries.require("f").is_kept

    run(serving(tmp_path, obedient("f", "first", **SOON)), work)


def test_a_pinned_function_that_fails_is_loaded_again(tmp_path, monkeypatch):
    """The pin says why it does not load; once it can, it does, without a call."""
    monkeypatch.setattr(library_module, "KEEP_RETRY_S", 0.0)
    hand = HANDS["mended"]
    hand.fault = "no weights"

    async def work(served: Served) -> None:
        residency = Residency(served.library)
        with pytest.raises(LoadError, match="no weights"):
            await residency.pin("f")
        hand.fault = ""
        async with asyncio.timeout(30):
            while served.library.entries.require("f").state.state != "ready":
                residency.apply()
                await asyncio.sleep(0.05)

    run(serving(tmp_path, obedient("f", "mended")), work)


def test_unload_waits_for_the_calls_under_way(tmp_path, monkeypatch):
    """And gives up where they do not end; the function then stays."""
    monkeypatch.setattr(residency_module, "UNLOAD_WAIT_S", 0.05)
    hand = HANDS["held"]

    async def work(served: Served) -> None:
        residency = Residency(served.library)
        assert (await served.call("f")).status_code == 200
        hand.may_answer.clear()
        call = asyncio.create_task(served.call("f", 3))
        await served.until_begun("f")
        with pytest.raises(Unavailable):
            await residency.unload("f")
        hand.may_answer.set()
        assert (await call).json() == {"twice": 6}
        monkeypatch.setattr(residency_module, "UNLOAD_WAIT_S", 30.0)
        await residency.unload("f")
        assert served.library.entries.require("f").state.state == "asleep"
        await residency.unload("f")  # what sleeps may be told so again
        for act in (residency.load, residency.unload, residency.pin, residency.unpin):
            with pytest.raises(NotFound):
                await act("g")

    run(serving(tmp_path, obedient("f", "held")), work)


def test_what_is_still_waking_does_not_sleep(tmp_path, monkeypatch):
    """Its unload says so, and not that it sleeps."""
    monkeypatch.setattr(residency_module, "UNLOAD_WAIT_S", 0.05)
    hand = HANDS["slow to wake"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        with pytest.raises(Unavailable):
            await Residency(served.library).unload("f")
        hand.may_load.set()
        assert (await call).status_code == 200

    run(serving(tmp_path, obedient("f", "slow to wake")), work)


def test_a_pin_goes_before_an_unload_that_waits(tmp_path):
    """The unload is refused as it is after a pin, and leaves nothing behind that would end it."""
    hand = HANDS["pinned meanwhile"]

    async def work(served: Served) -> None:
        residency = Residency(served.library)
        assert (await served.call("f")).status_code == 200
        hand.may_answer.clear()
        call = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        unload = asyncio.create_task(residency.unload("f"))
        await asyncio.sleep(0)  # it waits for the call
        await residency.pin("f")
        with pytest.raises(RequestError) as refused:
            await unload
        assert refused.value.status == 409
        hand.may_answer.set()
        assert (await call).status_code == 200
        assert served.library.has_loaded("f")  # and is not to be unloaded once the pin is off

    run(serving(tmp_path, obedient("f", "pinned meanwhile")), work)
