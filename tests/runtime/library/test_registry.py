"""A function that is declared again while it serves, and the version that is to follow it."""

from __future__ import annotations

import asyncio

import pytest

from runtime.declaration.function_spec import version_hash
from runtime.library import eviction
from runtime.library.library import DeclaredFunction
from tests.sleepers import HANDS, Served, obedient, run, serving


def update(served: Served) -> str:
    """What becomes of another version of it."""
    return served.library.report()["f"].update


def version(served: Served) -> str:
    """The key of the version that answers."""
    function = served.library.entries.require("f").function
    assert function is not None
    return str(function.spec.graph[0].with_["key"])


def test_the_version_before_serves_until_the_new_one_is_warm(tmp_path):
    """No call waits for the load; the one under way is answered by the version that took it, though
    the other serves by then.
    """
    before, after = HANDS["before"], HANDS["after"]
    after.may_load.clear()

    async def work(served: Served) -> None:
        await served.call("f")
        served.library.declare([DeclaredFunction(obedient("f", "after"), is_probed=True)])
        assert (await served.call("f")).status_code == 200
        assert (version(served), update(served)) == ("before", "loading")
        before.may_answer.clear()
        busy = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        after.may_load.set()
        await served.until(lambda: version(served) == "after")
        assert (await served.call("f")).status_code == 200
        assert not busy.done()
        before.may_answer.set()
        assert (await busy).status_code == 200
        assert served.library.report()["f"].version == version_hash(obedient("f", "after"))

    run(serving(tmp_path, obedient("f", "before")), work)
    assert (before.loads, after.loads) == (1, 1)


def test_the_version_before_goes_on_if_the_new_one_does_not_load(tmp_path):
    """The reason is reported; declared again it is tried again, and with the previous declaration it is
    forgotten.
    """
    broken = HANDS["a broken version"]
    broken.fault = "the weights are not there"

    async def work(served: Served) -> None:
        await served.call("f")
        for attempt in (1, 2):
            served.library.declare([DeclaredFunction(obedient("f", "a broken version"))])
            await served.until(lambda: "the weights are not there" in update(served))
            assert broken.loads == attempt
            assert (await served.call("f")).status_code == 200
        await served.library.unload("f")
        assert (await served.call("f")).status_code == 200
        assert version(served) == "good"
        served.library.declare([DeclaredFunction(obedient("f", "good"))])
        assert (version(served), update(served)) == ("good", "")

    run(serving(tmp_path, obedient("f", "good")), work)


@pytest.mark.parametrize("then", ["third", "first"])
def test_the_last_declaration_is_promoted(tmp_path, then):
    """A version that is overtaken while it loads answers no call, and is unloaded."""
    hand = HANDS[f"second, {then}"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        await served.call("f")
        served.library.declare([DeclaredFunction(obedient("f", f"second, {then}"))])
        served.library.declare([DeclaredFunction(obedient("f", then))])
        hand.may_load.set()
        await served.until(lambda: version(served) == then and not update(served))
        await served.until(lambda: served.library.counts() == {"ready": 1})
        assert (await served.call("f")).status_code == 200

    run(serving(tmp_path, obedient("f", "first")), work)


def test_a_version_that_is_gone_does_not_wait_for_its_successor_to_be_warm(tmp_path):
    """Unloaded meanwhile, it is not loaded again: callers wait for the new one."""
    hand = HANDS["late"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        await served.call("f")
        served.library.declare([DeclaredFunction(obedient("f", "late"))])
        await served.library.unload("f")
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        hand.may_load.set()
        assert (await call).status_code == 200
        assert version(served) == "late"

    run(serving(tmp_path, obedient("f", "early")), work)
    assert (HANDS["early"].loads, hand.loads) == (1, 1)


def test_without_memory_for_both_the_new_one_is_loaded_when_the_other_is_unloaded(
    tmp_path, monkeypatch
):
    """By the next call, as a function that sleeps is."""
    monkeypatch.setattr(eviction, "MEMORY_WAIT_S", 0.0)
    hand = HANDS["small"]

    async def work(served: Served) -> None:
        await served.call("f")
        hand.may_answer.clear()
        busy = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        served.library.declare([DeclaredFunction(obedient("f", "large"), 2 << 40)])
        await served.until_state("f", "asleep")
        hand.may_answer.set()
        assert (await busy).status_code == 200
        assert (await served.call("f")).status_code == 200
        assert version(served) == "large"

    run(serving(tmp_path, DeclaredFunction(obedient("f", "small"), 1 << 40), budget=2 << 40), work)


def test_a_quarantine_holds_for_both_versions(tmp_path):
    """The one that loads meanwhile serves no call either."""
    hand = HANDS["follows"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        await served.call("f")
        served.library.declare([DeclaredFunction(obedient("f", "follows"))])
        served.library.set_quarantined({"f": "it brought its host down twice."})
        hand.may_load.set()
        assert (await served.call("f")).json()["code"] == "quarantined"
        await served.until(lambda: served.library.counts() == {"failed": 1})

    run(serving(tmp_path, obedient("f", "leads")), work)
