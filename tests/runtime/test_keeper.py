"""Turns of sequences, and what is kept between them."""

from __future__ import annotations

import asyncio
import math
import time

import numpy as np
import pytest

from runtime.errors import DeadlineExceeded, Overloaded, SequenceUnknown, TooManySequences
from runtime.keeper import Keeper
from runtime.sequences import MOST_WAITING, InSequence
from runtime.spec import SequencesSpec

FIRST, NEXT, LAST = InSequence("a", starts=True), InSequence("a"), InSequence("a", ends=True)


def keeper(most: int = 2, idle_timeout_s: float = 60.0) -> Keeper:
    """Of one value."""
    return Keeper(("x",), SequencesSpec(max_sequences=most, idle_timeout_s=idle_timeout_s))


async def take(keeper: Keeper, asked: InSequence, leaves: object = ..., until: float = math.inf) -> object:
    """One call: what it is given, and it leaves something."""
    async with keeper.turn(asked, until) as turn:
        if leaves is not ...:
            turn.keep({"x": leaves, "y": 0})
        return turn.values["x"]


def test_what_a_call_leaves_the_next_one_is_given():
    """None at the start; a start begins again; an end frees it."""

    async def work() -> None:
        kept = keeper()
        assert await take(kept, FIRST, 1) is None
        assert await take(kept, NEXT, 2) == 1
        assert await take(kept, FIRST, 3) is None
        assert await take(kept, LAST, 4) == 3
        assert len(kept) == 0
        with pytest.raises(SequenceUnknown):
            await take(kept, NEXT)

    asyncio.run(work())


def test_a_call_that_leaves_nothing_leaves_the_sequence_as_it_was():
    """It failed, or its caller went away: also at the end. A start has ended what was before, so nothing is kept."""

    async def work() -> None:
        kept = keeper()
        assert await take(kept, FIRST) is None
        assert len(kept) == 0
        await take(kept, FIRST, 1)
        with pytest.raises(RuntimeError):
            async with kept.turn(NEXT, math.inf):
                raise RuntimeError
        await take(kept, LAST)
        assert await take(kept, NEXT) == 1
        await take(kept, FIRST)
        with pytest.raises(SequenceUnknown):
            await take(kept, NEXT)

    asyncio.run(work())


def test_calls_of_a_sequence_have_their_turns_in_the_order_they_came():
    """While calls of others do not wait; what waits beyond the bound is refused."""

    async def work() -> None:
        kept, given, may_end = keeper(), [], asyncio.Event()

        async def call(number: int) -> None:
            async with kept.turn(FIRST if not number else NEXT, math.inf) as turn:
                given.append((number, turn.values["x"]))
                await may_end.wait()
                turn.keep({"x": number})

        calls = [asyncio.create_task(call(number)) for number in range(MOST_WAITING + 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await take(kept, NEXT)
        assert await take(kept, InSequence("b", starts=True), 9) is None
        assert given == [(0, None)]
        may_end.set()
        await asyncio.gather(*calls)
        assert given == [(number, number - 1 if number else None) for number in range(MOST_WAITING + 1)]

    asyncio.run(work())


def test_who_waits_behind_a_start_that_fails_hears_that_nothing_is_kept():
    """It was admitted because the start was under way."""

    async def work() -> None:
        kept, may_end = keeper(), asyncio.Event()

        async def fails() -> None:
            async with kept.turn(FIRST, math.inf):
                await may_end.wait()

        first = asyncio.create_task(fails())
        await asyncio.sleep(0)
        second = asyncio.create_task(take(kept, NEXT))
        await asyncio.sleep(0)
        may_end.set()
        await first
        with pytest.raises(SequenceUnknown):
            await second
        assert len(kept) == 0

    asyncio.run(work())


def test_a_turn_that_does_not_come_in_time_is_given_up():
    """504, or nothing for a caller who left; the others wait on."""

    async def work() -> None:
        kept, may_end = keeper(), asyncio.Event()

        async def first() -> None:
            async with kept.turn(FIRST, math.inf) as turn:
                await may_end.wait()
                turn.keep({"x": 1})

        working = asyncio.create_task(first())
        await asyncio.sleep(0)
        left, third = asyncio.create_task(take(kept, NEXT)), asyncio.create_task(take(kept, NEXT))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(DeadlineExceeded):
            await take(kept, NEXT, until=time.monotonic() + 0.01)
        may_end.set()
        await working
        assert await third == 1

    asyncio.run(work())


def test_a_place_is_free_once_a_sequence_was_idle_for_too_long():
    """Without anybody asking: what is kept is memory. Those that are called live on."""

    async def work() -> None:
        kept = keeper(idle_timeout_s=0.05)
        await take(kept, FIRST, 1)
        await take(kept, InSequence("b", starts=True), 1)
        with pytest.raises(TooManySequences):
            await take(kept, InSequence("c", starts=True), 1)
        async with kept.turn(InSequence("b"), math.inf) as turn:
            async with asyncio.timeout(5):
                while len(kept) > 1:
                    await asyncio.sleep(0.01)
            assert await take(kept, InSequence("c", starts=True), 1) is None
            turn.keep({"x": 2})
        with pytest.raises(SequenceUnknown):
            await take(kept, NEXT)
        async with asyncio.timeout(5):
            while len(kept):
                await asyncio.sleep(0.01)

    asyncio.run(work())


def test_an_array_is_kept_without_its_batch_and_cannot_be_written():
    """A row of a batch would keep all of it in memory; a stage that writes would change what a failed call must leave as it was."""

    async def work() -> None:
        kept, batch = keeper(), np.zeros((1000, 2), np.float32)
        await take(kept, FIRST, batch[3])
        given = await take(kept, NEXT)
        assert isinstance(given, np.ndarray)
        assert not np.shares_memory(given, batch)
        with pytest.raises(ValueError, match="read-only"):
            given[0] = 1

    asyncio.run(work())


def test_what_is_kept_belongs_to_the_way_that_its_calls_take():
    """The edge lost its way to a sequence, which began again elsewhere, and comes here by chance: what is kept here is of before."""

    async def work() -> None:
        kept = keeper()
        await take(kept, InSequence("a", starts=True, route="1"), 1)
        for lost in (InSequence("a"), InSequence("a", route="2"), InSequence("a", ends=True, route="0")):
            with pytest.raises(SequenceUnknown):
                await take(kept, lost)
        assert await take(kept, InSequence("a", route="1")) == 1

    asyncio.run(work())
