"""Turns of sequences, and what is stored between them."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from runtime.batching.calls import Call, CallOptions
from runtime.declaration.function_spec import SequencesSpec
from runtime.errors import DeadlineExceeded, Overloaded, SequenceUnknown, TooManySequences
from runtime.execution.sequence_store import SequenceCall, SequenceLock, SequenceStore
from runtime.protocol.sequences import MOST_WAITING, SequenceRef
from tests.problems import expect_values

FIRST, NEXT, LAST = SequenceRef("a", starts=True), SequenceRef("a"), SequenceRef("a", ends=True)


def sequence_store(most: int = 2, idle_timeout_s: float = 60.0) -> SequenceStore:
    """Of one value."""
    return SequenceStore(("x",), SequencesSpec(max_sequences=most, idle_timeout_s=idle_timeout_s))


async def take(
    store: SequenceStore, ref: SequenceRef, leaves: object = ..., until: float = math.inf
) -> object:
    """One call: what it is given, and it leaves something."""
    async with store.lock(ref, until) as lock:
        if leaves is not ...:
            lock.commit({"x": leaves, "y": 0})
        return lock.values["x"]


def test_what_a_call_leaves_the_next_one_is_given():
    """None at the start; a start begins again; an end frees it."""

    async def work() -> None:
        store = sequence_store()
        assert await take(store, FIRST, 1) is None
        assert await take(store, NEXT, 2) == 1
        assert await take(store, FIRST, 3) is None
        assert await take(store, LAST, 4) == 3
        assert len(store) == 0
        with pytest.raises(SequenceUnknown):
            await take(store, NEXT)

    asyncio.run(work())


def test_a_call_that_comes_again_does_not_go_on_from_what_it_left():
    """Where its answer cannot be given again, its sequence begins again; one that left nothing is
    computed.
    """

    async def work() -> None:
        store = sequence_store()
        await take(store, FIRST, 1)
        await take(store, replace(NEXT, call="one"))
        assert await take(store, replace(NEXT, call="one"), 2) == 1
        with pytest.raises(SequenceUnknown) as refused:
            await take(store, replace(NEXT, call="one"), 3)
        expect_values(refused.value.message, "sequence_start")
        assert await take(store, replace(NEXT, call="two")) == 2
        assert await take(store, NEXT) == 2  # it did not come through HAProxy
        assert await take(store, replace(FIRST, call="three"), 4) is None
        assert await take(store, replace(FIRST, call="three"), 4) is None

    asyncio.run(work())


def test_a_call_that_leaves_nothing_leaves_the_sequence_as_it_was():
    """It failed, or its caller went away: also at the end. A start has ended what was before, so
    nothing is stored.
    """

    async def work() -> None:
        store = sequence_store()
        assert await take(store, FIRST) is None
        assert len(store) == 0
        await take(store, FIRST, 1)
        with pytest.raises(RuntimeError):
            async with store.lock(NEXT, math.inf):
                raise RuntimeError
        await take(store, LAST)
        assert await take(store, NEXT) == 1
        await take(store, FIRST)
        with pytest.raises(SequenceUnknown):
            await take(store, NEXT)

    asyncio.run(work())


def test_calls_of_a_sequence_have_their_turns_in_the_order_they_came():
    """While calls of others do not wait; what waits beyond the bound is refused."""

    async def work() -> None:
        store, given, may_end = sequence_store(), [], asyncio.Event()

        async def call(number: int) -> None:
            async with store.lock(FIRST if not number else NEXT, math.inf) as lock:
                given.append((number, lock.values["x"]))
                await may_end.wait()
                lock.commit({"x": number})

        calls = [asyncio.create_task(call(number)) for number in range(MOST_WAITING + 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await take(store, NEXT)
        assert await take(store, SequenceRef("b", starts=True), 9) is None
        assert given == [(0, None)]
        may_end.set()
        await asyncio.gather(*calls)
        assert given == [
            (number, number - 1 if number else None) for number in range(MOST_WAITING + 1)
        ]

    asyncio.run(work())


def test_a_call_that_waits_for_a_start_that_fails_is_answered_that_nothing_is_kept():
    """It was admitted because the start was under way."""

    async def work() -> None:
        store, may_end = sequence_store(), asyncio.Event()

        async def fails() -> None:
            async with store.lock(FIRST, math.inf):
                await may_end.wait()

        first = asyncio.create_task(fails())
        await asyncio.sleep(0)
        second = asyncio.create_task(take(store, NEXT))
        await asyncio.sleep(0)
        may_end.set()
        await first
        with pytest.raises(SequenceUnknown):
            await second
        assert len(store) == 0

    asyncio.run(work())


def test_a_turn_that_does_not_come_in_time_is_given_up():
    """504, or nothing for a client that disconnected; the others wait on."""

    async def work() -> None:
        store, may_end = sequence_store(), asyncio.Event()

        async def first() -> None:
            async with store.lock(FIRST, math.inf) as lock:
                await may_end.wait()
                lock.commit({"x": 1})

        working = asyncio.create_task(first())
        await asyncio.sleep(0)
        left, third = asyncio.create_task(take(store, NEXT)), asyncio.create_task(take(store, NEXT))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(DeadlineExceeded):
            await take(store, NEXT, until=time.monotonic() + 0.01)
        may_end.set()
        await working
        assert await third == 1

    asyncio.run(work())


def test_a_place_is_free_once_a_sequence_was_idle_for_too_long(clock):
    """By a timer: stored state is memory. Sequences that are called live on."""

    async def work() -> None:
        store = sequence_store(idle_timeout_s=60)
        await take(store, FIRST, 1)
        await take(store, SequenceRef("b", starts=True), 1)
        with pytest.raises(TooManySequences):
            await take(store, SequenceRef("c", starts=True), 1)
        async with store.lock(SequenceRef("b"), math.inf) as lock:
            clock.advance(59)
            await asyncio.sleep(0.001)
            assert len(store) == 2
            clock.advance(1)
            await asyncio.sleep(0.001)
            assert len(store) == 1
            assert await take(store, SequenceRef("c", starts=True), 1) is None
            lock.commit({"x": 2})
        with pytest.raises(SequenceUnknown):
            await take(store, NEXT)
        clock.advance(60)
        await asyncio.sleep(0.001)
        assert len(store) == 0

    asyncio.run(work())


def test_an_array_is_kept_without_its_batch_and_cannot_be_written():
    """A row of a batch would keep all of it in memory; a stage that writes would change what a
    failed call must leave as it was.
    """

    async def work() -> None:
        store, batch = sequence_store(), np.zeros((1000, 2), np.float32)
        await take(store, FIRST, batch[3])
        given = await take(store, NEXT)
        assert isinstance(given, np.ndarray)
        assert not np.shares_memory(given, batch)
        with pytest.raises(ValueError, match="read-only"):
            given[0] = 1

    asyncio.run(work())


def test_an_answer_is_kept_without_its_batch():
    """Likewise, until the next call of its sequence."""
    lock, batch = SequenceLock({"x": None}, 0.0), np.zeros((1000, 2), np.float32)
    options = CallOptions(sequence=replace(NEXT, call="one"))
    call = Call([{"x": 1, "y": batch[3]}], request_id="", now=0.0, deadline=1.0)
    SequenceCall({}, lock, options).commit(call, ["y"])
    assert lock.answer is not None
    kept = lock.answer.rows[0].values["y"]
    assert kept.tolist() == [0.0, 0.0]
    assert not np.shares_memory(kept, batch)


class Pair(NamedTuple):
    """Two arrays."""

    one: Any
    two: Any


@dataclass(frozen=True, slots=True)
class Heard:
    """An array in a container, and what is none."""

    rest: Any
    count: int


@pytest.mark.parametrize(
    ("wraps", "inner"),
    [
        (lambda row: [row, 1], lambda state: state[0]),
        (lambda row: (row, "a"), lambda state: state[0]),
        (lambda row: Pair(row, row), lambda state: state.two),
        (lambda row: {"deep": [(row,)]}, lambda state: state["deep"][0][0]),
        (lambda row: Heard(row, 3), lambda state: state.rest),
    ],
)
def test_what_containers_hold_is_cut_loose_as_well(wraps, inner):
    """Lists, tuples, dicts and dataclasses come back as what they were, with arrays of their own in
    them.
    """

    async def work() -> None:
        store, batch = sequence_store(), np.arange(2000, dtype=np.float32).reshape(1000, 2)
        left = wraps(batch[3])
        await take(store, FIRST, left)
        given = await take(store, NEXT)
        assert (type(given), inner(given).tolist()) == (type(left), [6.0, 7.0])
        assert inner(given).base.base is None
        assert not np.shares_memory(inner(given), batch)
        assert not inner(given).flags.writeable
        assert np.shares_memory(inner(left), batch)

    asyncio.run(work())


def test_a_list_that_its_stage_goes_on_with_is_another():
    """What a failed call adds to it does not stay; a list that holds itself is stored too."""

    async def work() -> None:
        store, seen = sequence_store(), ["a"]
        await take(store, FIRST, seen)
        seen.append("b")
        assert await take(store, NEXT) == ["a"]
        circle: list[Any] = []
        circle.append(circle)
        await take(store, NEXT, circle)
        assert isinstance(await take(store, NEXT), list)

    asyncio.run(work())


def test_what_is_kept_belongs_to_the_way_that_its_calls_take():
    """The edge lost its way to a sequence, which began again elsewhere, and comes here by chance:
    what is stored here is of before.
    """

    async def work() -> None:
        store = sequence_store()
        await take(store, SequenceRef("a", starts=True, route="1"), 1)
        for lost in (
            SequenceRef("a"),
            SequenceRef("a", route="2"),
            SequenceRef("a", ends=True, route="0"),
        ):
            with pytest.raises(SequenceUnknown):
                await take(store, lost)
        assert await take(store, SequenceRef("a", route="1")) == 1

    asyncio.run(work())


def test_of_one_id_each_key_has_a_sequence_of_its_own():
    """Neither goes on with, ends or replaces the other's."""

    async def work() -> None:
        store = sequence_store()
        mine, theirs = (SequenceRef("a", starts=True, owner=owner) for owner in ("ops", "ci"))
        assert await take(store, mine, 1) is None
        with pytest.raises(SequenceUnknown):
            await take(store, SequenceRef("a", owner="ci"))
        assert await take(store, theirs, 10) is None
        assert await take(store, SequenceRef("a", owner="ops"), 2) == 1
        assert await take(store, SequenceRef("a", ends=True, owner="ci")) == 10
        assert await take(store, SequenceRef("a", owner="ops"), 3) == 2
        with pytest.raises(SequenceUnknown):
            await take(store, NEXT)

    asyncio.run(work())
