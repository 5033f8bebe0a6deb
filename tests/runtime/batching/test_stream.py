"""What one row gives item by item: room, parking, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from runtime.batching.stream import BUFFER, Stream


def on_loop(work: Callable[[Stream], Awaitable[None]]) -> None:
    """Does the work with a stream."""

    async def main() -> None:
        async with asyncio.timeout(30):
            await work(Stream(asyncio.get_running_loop()))

    asyncio.run(main())


def test_it_is_parked_when_the_buffer_is_full_and_put_back_once():
    """By who takes; in between nobody is asked."""

    async def work(stream: Stream) -> None:
        resumed: list[int] = []
        for n in range(BUFFER):
            assert stream.goes_on(lambda: resumed.append(-1))
            stream.give({"n": n})
        assert not stream.goes_on(lambda: resumed.append(1))
        assert "parked" in repr(stream)
        assert [item["n"] for item in await stream.take()] == list(range(BUFFER))
        assert resumed == [1]
        stream.give({"n": 99})
        assert await stream.take() == [{"n": 99}]
        stream.finish()
        assert await stream.take() == []
        assert resumed == [1]

    on_loop(work)


def test_a_parked_row_is_put_back_when_nobody_takes_any_more():
    """So that it leaves by its queue; and one that was not parked goes on to do so by itself."""

    async def work(stream: Stream) -> None:
        resumed: list[int] = []
        for n in range(BUFFER):
            stream.give({"n": n})
        assert not stream.goes_on(lambda: resumed.append(1))
        stream.finish()
        stream.finish()
        assert resumed == [1]
        assert stream.goes_on(lambda: resumed.append(2))

    on_loop(work)


def test_what_a_thread_gives_wakes_who_waits():
    """Every item, in order, whatever the moments are."""

    async def work(stream: Stream) -> None:
        room = threading.Semaphore(BUFFER)
        seen: list[int] = []

        def give() -> None:
            for n in range(5000):
                room.acquire()
                stream.give({"n": n})

        thread = threading.Thread(target=give)
        thread.start()
        while len(seen) < 5000:
            items = await stream.take()
            room.release(len(items))
            seen += [item["n"] for item in items]
        await asyncio.to_thread(thread.join)
        assert seen == list(range(5000))

    on_loop(work)


def test_a_coroutine_waits_for_room():
    """Until somebody takes."""

    async def work(stream: Stream) -> None:
        for n in range(BUFFER):
            await stream.has_room()
            stream.give({"n": n})
        waiting = asyncio.create_task(stream.has_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        await stream.take()
        await waiting

    on_loop(work)


@pytest.mark.parametrize("is_bad", [False, True])
def test_closing_runs_the_generators_end_once(is_bad, caplog):
    """What that raises reaches the log, and nobody else."""
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
        stream.close()
        stream.close()

    on_loop(work)
    assert ends == ["closed"]
    assert ("at the very end" in caplog.text) == is_bad
