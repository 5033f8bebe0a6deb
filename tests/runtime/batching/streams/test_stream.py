"""What one row gives item by item: buffer, parking, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from runtime.batching.streams.stream import BUFFER, Stream


def on_loop(work: Callable[[Stream], Awaitable[None]]) -> None:
    """Does the work with a stream."""

    async def main() -> None:
        async with asyncio.timeout(30):
            await work(Stream(asyncio.get_running_loop()))

    asyncio.run(main())


def test_it_is_parked_when_the_buffer_is_full_and_put_back_once():
    """By the consumer that takes items; in between nothing calls it."""

    async def work(stream: Stream) -> None:
        resumed: list[int] = []
        for n in range(BUFFER):
            assert stream.should_continue(lambda: resumed.append(-1))
            stream.put({"n": n})
        assert not stream.should_continue(lambda: resumed.append(1))
        assert "parked" in repr(stream)
        assert [item["n"] for item in await stream.take()] == list(range(BUFFER))
        assert resumed == [1]
        stream.put({"n": 99})
        assert await stream.take() == [{"n": 99}]
        stream.close()
        assert await stream.take() == []
        assert resumed == [1]

    on_loop(work)


def test_a_parked_row_is_put_back_when_no_client_reads_any_more():
    """So that it leaves by its queue; and one that was not parked goes on to do so by itself."""

    async def work(stream: Stream) -> None:
        resumed: list[int] = []
        for n in range(BUFFER):
            stream.put({"n": n})
        assert not stream.should_continue(lambda: resumed.append(1))
        stream.close()
        stream.close()
        assert resumed == [1]
        assert stream.should_continue(lambda: resumed.append(2))

    on_loop(work)


def test_what_a_thread_gives_wakes_the_reader():
    """Every item, in order, whatever the moments are."""

    async def work(stream: Stream) -> None:
        free_slots = threading.Semaphore(BUFFER)
        seen: list[int] = []

        def put() -> None:
            for n in range(5000):
                free_slots.acquire()
                stream.put({"n": n})

        thread = threading.Thread(target=put)
        thread.start()
        while len(seen) < 5000:
            items = await stream.take()
            free_slots.release(len(items))
            seen += [item["n"] for item in items]
        await asyncio.to_thread(thread.join)
        assert seen == list(range(5000))

    on_loop(work)


def test_a_coroutine_waits_for_a_free_slot():
    """Until an item is taken."""

    async def work(stream: Stream) -> None:
        for n in range(BUFFER):
            await stream.wait_for_space()
            stream.put({"n": n})
        waiting = asyncio.create_task(stream.wait_for_space())
        await asyncio.sleep(0)
        assert not waiting.done()
        await stream.take()
        await waiting

    on_loop(work)


@pytest.mark.parametrize("is_bad", [False, True])
def test_closing_runs_the_generators_end_once(is_bad, caplog):
    """Its exception reaches the log only."""
    ends: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield 1
        finally:
            ends.append("closed")
            if is_bad:
                raise ValueError("at the very end")

    async def work(stream: Stream) -> None:
        stream.begin(items())
        next(stream.source)
        stream.close_source()
        stream.close_source()

    on_loop(work)
    assert ends == ["closed"]
    assert ("at the very end" in caplog.text) == is_bad
