"""The requests that use a function, and those that wait for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from runtime.library.leases import MAX_LATENCIES, Leases


def test_only_calls_that_are_timed_have_a_latency_and_the_latest_are_kept() -> None:
    """How long a stream lasts does not say how soon a call is answered."""
    leases = Leases()
    for timed in (True, False):
        leases.acquire()
        leases.release(time.monotonic(), is_timed=timed)
    assert len(leases.latencies or ()) == 1
    for _ in range(MAX_LATENCIES + 3):
        leases.acquire()
        leases.release(time.monotonic(), is_timed=True)
    assert len(leases.latencies or ()) == MAX_LATENCIES
    assert (leases.count, leases.is_used) == (0, False)


@pytest.mark.parametrize("begins_later", [False, True])
def test_a_call_that_begins_later_cancels_that_it_is_to_sleep(*, begins_later: bool) -> None:
    """One that was under way does not."""
    leases = Leases()
    began = time.monotonic() - 1
    leases.request_release()
    leases.acquire()
    leases.release(time.monotonic() + 1 if begins_later else began)
    assert (leases.release_requested_at is None) is begins_later


def test_an_unload_waits_for_the_last_lease() -> None:
    """And no longer than it may."""

    async def main() -> None:
        leases = Leases()
        await leases.wait_until_released(30)
        for _ in range(2):
            leases.acquire()
        await leases.wait_until_released(0.01)
        assert leases.count == 2
        waiting = asyncio.create_task(leases.wait_until_released(30))
        await asyncio.sleep(0)
        leases.release(0.0)
        await asyncio.sleep(0)
        assert not waiting.done()
        leases.release(0.0)
        await asyncio.wait_for(waiting, 30)

    asyncio.run(main())


def test_a_caller_waits_for_a_load_until_its_deadline() -> None:
    """It counts as waiting meanwhile, whatever becomes of the load."""

    async def main() -> None:
        leases, may_end = Leases(), asyncio.Event()

        async def load() -> None:
            await may_end.wait()
            raise ValueError("no weights")

        task = asyncio.create_task(load())
        assert not await leases.wait_for_load(task, time.monotonic() + 0.01)
        waiting = asyncio.create_task(leases.wait_for_load(task, float("inf")))
        await asyncio.sleep(0)
        assert (leases.waiting_callers, leases.is_used) == (1, True)
        may_end.set()
        with pytest.raises(ValueError, match="weights"):
            await waiting
        assert not leases.is_used

    asyncio.run(main())
