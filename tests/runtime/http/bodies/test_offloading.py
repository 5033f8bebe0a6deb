"""Large work beside the event loop: which function has the next turn, and what becomes of work that no
call waits for.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import DeadlineExceeded, Overloaded, TooLarge
from runtime.http.bodies.offloading import (
    LARGE_BYTES,
    LONG_BYTES,
    SWITCH_S,
    Offloader,
    OffloadThreads,
    TurnQueue,
    deadline_check,
    reserve_json_memory,
)
from runtime.http.request_headers import RequestDeadline


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


def in_s(seconds: float) -> RequestDeadline:
    """A deadline from now."""
    return RequestDeadline(asyncio.get_running_loop().time(), seconds)


@pytest.mark.parametrize(
    ("put", "removed", "taken"),
    [
        ("", "", ""),
        ("a1", "", "a1"),
        ("a1 a2 a3", "", "a1 a2 a3"),
        ("a1 a2 a3 b1", "", "a1 b1 a2 a3"),
        ("a1 a2 b1 c1 b2 a3", "", "a1 b1 c1 a2 b2 a3"),
        ("a1 a2 b1", "a1", "a2 b1"),
        ("a1 b1 b2", "a1 b1", "b2"),
        ("a1 b1", "b2 c1", "a1 b1"),
        ("a1", "a1", ""),
    ],
)
def test_owners_take_turns(put: str, removed: str, taken: str):
    """However many items one has; what is removed has none."""
    queue = TurnQueue[str]()
    for item in put.split():
        queue.put(item[0], item)
    for item in removed.split():
        queue.remove(item[0], item)
    assert list(iter(queue.take, None)) == taken.split()


def test_an_owner_that_had_its_turn_waits_for_the_others():
    """Also with what it puts later."""
    queue = TurnQueue[str]()
    for item in ("a1", "a2", "b1"):
        queue.put(item[0], item)
    assert queue.take() == "a1"
    queue.put("c", "c1")
    queue.put("a", "a3")
    assert list(iter(queue.take, None)) == ["b1", "a2", "c1", "a3"]


class Held:
    """Work in a thread that ends when it may."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began, self.may_end = asyncio.Event(), threading.Event()

    def __call__(self) -> str:
        self.loop.call_soon_threadsafe(self.began.set)
        assert self.may_end.wait(5)
        return "held"


def begin(offloader: Offloader, size: int, work: Callable[[], Any]) -> asyncio.Task[Any]:
    """Work of this size, which another task waits for."""
    return asyncio.create_task(offloader.run(size, in_s(30), work))


@pytest.mark.anyio
async def test_short_work_does_not_wait_for_long_work(anyio_backend):
    """Of the same function or another; long work waits for long work."""
    threads = OffloadThreads()
    one, other = Offloader(threads), Offloader(threads)
    held = Held()
    long = begin(one, LONG_BYTES, held)
    await held.began.wait()
    assert await begin(one, LONG_BYTES - 1, lambda: 1) == 1
    assert await begin(other, LARGE_BYTES, lambda: 2) == 2
    second = begin(other, LONG_BYTES, lambda: 3)
    assert await begin(other, LARGE_BYTES, lambda: 4) == 4
    assert not second.done()
    held.may_end.set()
    assert (await long, await second) == ("held", 3)


@pytest.mark.anyio
async def test_functions_take_turns_in_a_thread(anyio_backend):
    """One of them has much that waits."""
    threads, order = OffloadThreads(), list[str]()
    busy, other = Offloader(threads), Offloader(threads)
    held = Held()
    tasks = [begin(busy, LARGE_BYTES, held)]
    await held.began.wait()
    tasks += [begin(busy, LARGE_BYTES, lambda: order.append("busy")) for _ in range(3)]
    tasks += [begin(other, LARGE_BYTES, lambda: order.append("other"))]
    await asyncio.sleep(0)
    held.may_end.set()
    await asyncio.gather(*tasks)
    assert order == ["busy", "other", "busy", "busy"]


@pytest.mark.anyio
async def test_small_work_is_done_here(anyio_backend):
    """And at once."""
    here = threading.get_ident()
    assert await Offloader().run(LARGE_BYTES - 1, in_s(0), threading.get_ident) == here
    assert await Offloader().run(LARGE_BYTES, in_s(30), threading.get_ident) != here


@pytest.mark.anyio
@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_work_that_runs_is_finished_before_the_next_begins(anyio_backend, is_cancelled):
    """Where its client disconnected, or its deadline passed: a thread is not interrupted, and the
    bound on threads holds.
    """
    offloader, held = Offloader(), Held()
    seconds = 30 if is_cancelled else 0.01
    left = asyncio.create_task(offloader.run(LARGE_BYTES, in_s(seconds), held))
    await held.began.wait()
    if is_cancelled:
        left.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else DeadlineExceeded):
        await left
    second = begin(offloader, LARGE_BYTES, lambda: "done")
    await asyncio.sleep(0.01)
    assert not second.done()
    held.may_end.set()
    assert await second == "done"


@pytest.mark.anyio
async def test_work_that_waited_too_long_is_not_done_and_not_kept(anyio_backend):
    """Its body is given back at once, however long the turn before lasts."""

    class Body:
        pass

    offloader, held, body = Offloader(), Held(), Body()
    first = begin(offloader, LARGE_BYTES, held)
    await held.began.wait()
    kept, done = weakref.ref(body), list[str]()

    def work(body: Body = body) -> None:
        done.append("late")

    with pytest.raises(DeadlineExceeded):
        await offloader.run(LARGE_BYTES, in_s(0.01), work)
    del work, body
    gc.collect()
    assert kept() is None
    held.may_end.set()
    assert await first == "held"
    assert await begin(offloader, LARGE_BYTES, lambda: "next") == "next"
    assert done == []


@pytest.mark.anyio
async def test_an_error_of_work_is_its_callers(anyio_backend):
    """And the next has its turn."""
    offloader = Offloader()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await offloader.run(LARGE_BYTES, in_s(30), fail)
    assert await begin(offloader, LARGE_BYTES, lambda: "next") == "next"


@pytest.mark.anyio
async def test_work_looks_at_its_deadline(anyio_backend):
    """From any thread, and the error is the call's."""
    deadline_check(in_s(30))()
    with pytest.raises(DeadlineExceeded) as late:
        deadline_check(in_s(0))()
    assert late.value.code == "deadline_exceeded"


@pytest.mark.anyio
async def test_threads_switch_more_often_while_large_work_runs(anyio_backend):
    """Until the last of it has ended, well or not."""
    usual_s, offloader, held = sys.getswitchinterval(), Offloader(), Held()

    def fail() -> None:
        raise ZeroDivisionError

    first = begin(offloader, LARGE_BYTES, held)
    await held.began.wait()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    with pytest.raises(ZeroDivisionError):
        await begin(offloader, LONG_BYTES, fail)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    held.may_end.set()
    await first
    assert sys.getswitchinterval() == pytest.approx(usual_s)


LISTS = b"[" + b"0.5," * LARGE_BYTES + b"1]"


@pytest.mark.anyio
async def test_what_json_becomes_is_counted_before_it_is_read(anyio_backend):
    """Beside its body; more than may be is refused, and so is more than there is room for."""

    async def reserve(limit: int, room: int) -> int:
        budget = ByteBudget(lambda: room)
        other, one = (BodyReservation((budget,), lambda: 3) for _ in range(2))
        other.extend_to(1)
        one.extend_to(len(LISTS))
        await reserve_json_memory(LISTS, len(LISTS), limit, one, Offloader(), in_s(30))
        return one.size

    size = await reserve(1 << 30, 1 << 30)
    assert size > 10 * len(LISTS)
    assert await reserve(size, size + 1) == size
    with pytest.raises(TooLarge) as large:
        await reserve(size - 1, 1 << 30)
    assert "limits.max_ongoing_bytes" in large.value.message
    with pytest.raises(Overloaded):
        await reserve(1 << 30, size)
