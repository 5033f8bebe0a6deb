"""Rows that run in threads: those of a stage that waits, and which batches are looked at."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from runtime.batching import thread_batches
from runtime.batching.calls import Call
from runtime.batching.health.wait_watch import WaitWatch
from runtime.errors import Draining
from tests.runtime.batching.test_batcher import Sum, answers, batching

PATIENCE_S = 20.0


class Meets(Sum):
    """Rows that wait for each other: all must run at once."""

    def __init__(self, count: int, threads: int) -> None:
        super().__init__(1)
        self.barrier = threading.Barrier(count)
        self.threads = threads
        self.ran_in: set[str] = set()

    def run(self, rows: Any) -> None:
        """Until as many others have come."""
        for _ in rows:
            self.barrier.wait(PATIENCE_S)
        self.ran_in.add(threading.current_thread().name)
        super().run(rows)


def test_as_many_rows_wait_at_once_as_there_are_threads() -> None:
    """One worker, which a stage before and a stage behind have; the answers are those of one."""

    async def main() -> list[Call]:
        waits = Meets(8, 8)
        async with batching(Sum(10), waits, Sum(100), workers=1) as batcher:
            calls = await asyncio.gather(*(answers(batcher, [n]) for n in range(100, 108)))
            assert batcher.waiting_rows == 0
        assert len(waits.ran_in) == 8
        return calls

    assert [call.rows[0].values["n"] for call in asyncio.run(main())] == list(range(211, 219))


def test_threads_that_wait_keep_no_worker_and_no_more_than_their_rows() -> None:
    """A row of the same function that another stage has passes by; rows beyond the threads wait,
    and are counted.
    """

    async def main() -> None:
        waits = Sum(1)
        waits.threads = 2
        waits.gate.clear()
        async with batching(waits, workers=1) as batcher:
            calls = [asyncio.create_task(answers(batcher, [n])) for n in range(100, 105)]
            async with asyncio.timeout(PATIENCE_S):
                while batcher.waiting_rows != 3:
                    await asyncio.sleep(0.001)
            assert (batcher.on_workers.share.active, batcher.on_workers.queues.waiting) == (0, 0)
            assert "3 at add 1; 0 of 1 workers" in repr(batcher)
            waits.gate.set()
            await asyncio.gather(*calls)

    asyncio.run(main())


def test_what_threads_compute_is_time_that_they_kept_a_cpu_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not the time that they waited."""
    clock = iter([1.0, 1.25])
    monkeypatch.setattr(thread_batches.time, "thread_time", lambda: next(clock))

    async def main() -> float:
        waits = Sum(1)
        waits.threads = 1
        async with batching(waits) as batcher:
            await answers(batcher, [1])
            async with asyncio.timeout(PATIENCE_S):
                while not batcher.busy_s:
                    await asyncio.sleep(0.001)
            return batcher.busy_s

    assert asyncio.run(main()) == 0.25


def test_threads_end_with_their_function() -> None:
    """Rows that wait are answered before."""

    async def main() -> None:
        waits = Sum(1)
        waits.threads = 3
        before, others = threading.active_count(), threading.enumerate()
        async with batching(waits) as batcher:
            await answers(batcher, [1, 2])
            # a worker, and the thread that looks after all
            assert threading.active_count() == before + 2 + 3
            await asyncio.to_thread(batcher.close, PATIENCE_S)
            left = [one.name for one in threading.enumerate() if one not in others]
            assert sum(name.startswith("wakeful-worker") for name in left) == 1
            with pytest.raises(Draining):
                await answers(batcher, [1])
            await asyncio.to_thread(batcher.close, PATIENCE_S)

    asyncio.run(main())


def test_only_long_batches_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others pay for a comparison."""
    looked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        WaitWatch, "record", lambda self, index, seconds, behind: looked.append((index, behind))
    )

    async def main() -> None:
        async with batching(Sum(1)) as batcher:
            await answers(batcher, [1])
            assert not looked
            monkeypatch.setattr("runtime.batching.thread_batches.LONG_S", 0.0)
            await answers(batcher, [1])

    asyncio.run(main())
    assert looked == [(0, 0)]
