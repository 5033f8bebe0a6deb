"""Blocking calls to Ray: in threads of their own, with a limit, one of a kind at a time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from deployments.placement.controller import RayCalls


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_controller_that_does_not_answer_takes_one_thread_and_none_of_the_loop(
    anyio_backend,
):
    """However often it is called, of several that it could have; and when it answers, the next
    question gets that answer.
    """
    calls, may_end, made = RayCalls(), threading.Event(), []

    def ask() -> str:
        made.append(threading.current_thread().name)
        may_end.wait(10)
        return "answer"

    for _ in range(5):
        with pytest.raises(TimeoutError):
            await calls.ask("owner", ask, 0.01)
    assert await asyncio.to_thread(lambda: "loaded") == "loaded"
    assert len(made) == 1
    assert made[0].startswith("ray-calls")
    last = asyncio.ensure_future(calls.ask("owner", ask, 10))
    await asyncio.sleep(0)
    may_end.set()
    assert await last == "answer"
    assert await calls.ask("owner", lambda: "next", 10) == "next"
    calls.close()
    calls.close()


@pytest.mark.anyio
async def test_a_call_that_fails_raises_where_it_was_made_and_is_forgotten(anyio_backend):
    """The next one is made."""
    calls = RayCalls()
    with pytest.raises(ZeroDivisionError):
        await calls.ask("status", lambda: 1 // 0, 10)
    assert await calls.ask("status", lambda: 1, 10) == 1
    calls.close()


@pytest.mark.anyio
async def test_other_calls_go_on_beside_one_that_hangs(anyio_backend):
    """Each key has a call of its own."""
    calls, may_end = RayCalls(), threading.Event()
    hanging = calls.begin("order f", lambda: may_end.wait(10))
    assert await calls.ask("order g", lambda: "taken", 10) == "taken"
    assert not hanging.done()
    may_end.set()
    assert await hanging
    calls.close()
