"""The rows of a function through its segments: no answer changes, is lost, or reaches another
caller.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching.batcher import Batcher
from runtime.batching.bisection import BatchSizeCap
from runtime.batching.calls import Call
from runtime.batching.policy import BatchLimits
from runtime.batching.workers import Workers
from runtime.errors import DeviceLost, Draining, FunctionError, RequestError
from runtime.types.conditions import Condition


class Sum:
    """A segment that adds its number to every row's, and remembers the batches it saw."""

    streams = by_call = False
    calls = False
    is_python = True
    threads = 0
    element_order = None
    each: str | None = None
    when: Condition | None = None
    gives: tuple[str, ...] = ()

    def __init__(
        self, add: int, limits: BatchLimits | None = None, *, on_loop: bool = False
    ) -> None:
        self.name, self.add, self.batch_limits, self.on_loop = f"add {add}", add, limits, on_loop
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def measure(self, row) -> None:
        row.padded_size = row.values["n"] % 7 + 1
        row.shapes = ((row.padded_size,),)

    def run(self, rows) -> None:
        self.gate.wait(5)
        self.batches.append(len(rows))
        for row in rows:
            if row.values["n"] == 13:
                row.error = FunctionError("unlucky")
            row.values["n"] += self.add

    async def run_on_loop(self, rows) -> None:
        await asyncio.sleep(0)
        self.run(rows)


async def answers(batcher: Batcher, numbers, *, deadline: float = 60.0) -> Call:
    """One call through the batcher."""
    now = time.monotonic()
    call = Call([{"n": n} for n in numbers], request_id="", now=now, deadline=now + deadline)
    done: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    batcher.submit(call, done.set_result)
    return await asyncio.wait_for(done, 10)


@asynccontextmanager
async def batching(*segments: Sum, workers: int = 1) -> AsyncIterator[Batcher]:
    """A batcher on workers of its own, both closed at the end."""
    threads = Workers(workers)
    batcher = Batcher(
        "test", segments, workers=threads, share=workers, loop=asyncio.get_running_loop()
    )
    try:
        yield batcher
    finally:
        await asyncio.to_thread(batcher.close, 5)
        await asyncio.to_thread(threads.close, 5)


async def through(segments, calls, *, workers: int) -> list[Call]:
    """All calls at once through one batcher."""
    async with batching(*segments, workers=workers) as batcher:
        return await asyncio.gather(*(answers(batcher, numbers) for numbers in calls))


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 10_000), min_size=1, max_size=9), min_size=1, max_size=24),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_an_answer_never_changes_is_lost_or_reaches_another_caller(calls, workers, size):
    """Any calls, workers and batch sizes, over plain, gathering and event-loop segments: each row
    gets its own sum, or its own error.
    """
    segments = [
        Sum(1),
        Sum(100, BatchLimits(max_batch_size=size)),
        Sum(10_000, on_loop=True),
        Sum(0),
    ]
    for call, numbers in zip(
        asyncio.run(through(segments, calls, workers=workers)), calls, strict=True
    ):
        for row, n in zip(call.rows, numbers, strict=True):
            if row.error is None:
                assert row.values["n"] == n + 10_101
            else:
                assert n in (13, 12)
    assert max(segments[1].batches, default=0) <= size


def test_a_batch_grows_while_the_worker_is_busy():
    """Rows that come during a run leave together after it: one, then seven, not eight runs."""

    async def main() -> list[int]:
        segment = Sum(1, BatchLimits(max_batch_size=32, run_cost=100, max_padding=1.0))
        segment.gate.clear()
        async with batching(segment) as batcher:
            first = asyncio.create_task(answers(batcher, [1]))
            while not batcher.on_workers.share.active:
                await asyncio.sleep(0.001)
            others = [asyncio.create_task(answers(batcher, [n])) for n in range(2, 9)]
            for _ in range(2):  # they submit, and what is submitted in one turn waits from the next
                await asyncio.sleep(0)
            assert "7 at add 1; 1 of 1 workers" in repr(batcher)
            assert batcher.on_workers.queues.waiting == 7
            segment.gate.set()
            await asyncio.gather(first, *others)
        return segment.batches

    assert asyncio.run(main()) == [1, 7]


@pytest.mark.parametrize("on_loop", [False, True])
def test_a_row_that_cannot_be_measured_fails_its_own_call(on_loop):
    """Not the calls that were submitted in the same turn of the event loop."""

    async def main() -> tuple[Call, Call, Call]:
        segment = Sum(1, on_loop=on_loop)
        measure = segment.measure

        def measure_or_fail(row) -> None:
            if row.values["n"] == 7:
                raise TypeError("seven")
            measure(row)

        segment.measure = measure_or_fail  # type: ignore[method-assign]
        async with batching(segment) as batcher:
            return await asyncio.gather(*(answers(batcher, [n]) for n in (1, 7, 2)))

    first, failed, last = asyncio.run(main())
    assert (first.rows[0].values["n"], last.rows[0].values["n"]) == (2, 3)
    assert first.rows[0].error is last.rows[0].error is None
    assert isinstance(failed.rows[0].error, FunctionError)


def test_a_call_that_is_over_is_not_computed():
    """A row whose deadline has passed is answered with 504 and never reaches its stage."""

    async def main() -> tuple[Call, list[int]]:
        segment = Sum(1)
        async with batching(segment) as batcher:
            return await answers(batcher, [1], deadline=-1.0), segment.batches

    call, batches = asyncio.run(main())
    assert call.rows[0].error is not None
    assert call.rows[0].error.status == 504
    assert batches == []


@pytest.mark.parametrize("fault", [RuntimeError("broken"), SystemExit(1)])
def test_a_segment_that_breaks_answers_its_callers(fault):
    """What it raises outside a stage, or a stage's own sys.exit, becomes an error of the rows, and
    the worker lives on.
    """

    async def main() -> tuple[Call, Call]:
        segment = Sum(1)
        broken = [fault]

        def run(rows, run=segment.run) -> None:
            if broken:
                raise broken.pop()
            run(rows)

        segment.run = run
        async with batching(segment) as batcher:
            bad, good = await answers(batcher, [1]), await answers(batcher, [1])
            assert not batcher.health.trouble
            return bad, good

    bad, good = asyncio.run(main())
    assert bad.rows[0].error is not None
    assert good.rows[0].values == {"n": 2}


def test_a_row_that_is_to_be_alone_is_alone_in_every_segment():
    """Of 20 rows that could all go together three are to be alone: they are, in plain, gathering
    and later segments, and all answer.
    """

    class Sees(Sum):
        def run(self, rows) -> None:
            super().run(rows)
            assert len(rows) == 1 or not any(row.run_solo for row in rows)
            alone.extend((self.name, row.index) for row in rows if row.run_solo)

    alone: list[tuple[str, int]] = []

    async def main() -> Call:
        segments = [
            Sees(1),
            Sees(100, BatchLimits(run_cost=100, max_padding=1.0)),
            Sees(10_000, on_loop=True),
            Sees(1_000_000, BatchLimits()),
        ]
        async with batching(*segments, workers=2) as batcher:
            now = time.monotonic()
            call = Call(
                [{"n": 50 + n} for n in range(20)], request_id="", now=now, deadline=now + 60
            )
            for index in (0, 7, 8):
                call.rows[index].run_solo = True
            done: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
            batcher.submit(call, done.set_result)
            return await asyncio.wait_for(done, 10)

    call = asyncio.run(main())
    assert [row.values["n"] for row in call.rows] == [1_010_151 + n for n in range(20)]
    assert [
        sorted(index for name, index in alone if name == f"add {add}")
        for add in (1, 100, 1_000_000)
    ] == [[0, 7, 8]] * 3


def test_batches_are_kept_below_the_size_that_memory_did_not_hold():
    """A segment that says so once gets no larger batch afterwards; its other segments do."""

    class Narrow(Sum):
        def run(self, rows) -> BatchSizeCap | None:
            super().run(rows)
            return BatchSizeCap(4, None, time.monotonic()) if len(rows) > 4 else None

    async def main() -> tuple[list[int], list[int]]:
        fixed = BatchLimits(run_cost=1000, max_padding=1.0)
        narrow, wide = Narrow(1, fixed), Sum(1, fixed)
        async with batching(wide, narrow) as batcher:
            for _ in range(3):
                await answers(batcher, range(100, 132))
            return wide.batches, narrow.batches

    wide, narrow = asyncio.run(main())
    assert wide == [32, 32, 32]
    assert narrow == [32] + [4] * 16


@pytest.mark.parametrize(
    ("error", "batches", "expected"),
    [
        (FunctionError("broken"), 4, []),
        (FunctionError("broken"), 7, [""]),
        (RequestError("refused"), 20, []),
        (DeviceLost("CUDA error 700"), 1, ["CUDA error 700"]),
    ],
)
@pytest.mark.parametrize("on_loop", [False, True])
def test_batches_without_an_answer_raise_suspicion(error, batches, expected, on_loop):
    """Five in a row do; refusals are answers; a lost device needs no second look."""

    async def main() -> list[str]:
        segment = Sum(1, on_loop=on_loop)

        def run(rows) -> None:
            for row in rows:
                row.error = error

        segment.run = run
        reasons: list[str] = []
        async with batching(segment) as batcher:
            batcher.failures.on_suspected_failure = reasons.append
            for _ in range(batches):
                await answers(batcher, [1])
        return reasons

    assert asyncio.run(main()) == expected


def test_a_closed_batcher_answers_what_it_took_and_takes_nothing_new():
    """close waits for accepted rows and refuses what comes later."""

    async def main() -> None:
        async with batching(Sum(1), workers=2) as batcher:
            accepted = asyncio.create_task(answers(batcher, [1]))
            await asyncio.sleep(0)
            await asyncio.to_thread(batcher.close, 5)
            assert (await accepted).rows[0].values == {"n": 2}
            with pytest.raises(Draining):
                await answers(batcher, [1])

    asyncio.run(main())


def test_closing_waits_for_rows_on_the_event_loop():
    """Rows that are on the loop when close begins still find a worker for the segment after it."""

    async def main() -> Call:
        entered, gate = asyncio.Event(), asyncio.Event()

        class Waits(Sum):
            async def run_on_loop(self, rows) -> None:
                entered.set()
                await gate.wait()
                self.run(rows)

        async with batching(Waits(1, on_loop=True), Sum(10)) as batcher:
            accepted = asyncio.create_task(answers(batcher, [1]))
            await entered.wait()
            closing = asyncio.create_task(asyncio.to_thread(batcher.close, 5))
            await asyncio.sleep(0.01)
            gate.set()
            await closing
            return await accepted

    assert asyncio.run(main()).rows[0].values == {"n": 12}


def test_the_seconds_of_its_workers_are_counted():
    """Each run adds to busy_s; rows on the event loop do not, since they hold no worker."""

    async def main() -> None:
        async with batching(Sum(1)) as in_workers, batching(Sum(1, on_loop=True)) as on_loop:
            seen = [0.0]
            for _ in range(3):
                await answers(in_workers, [1])
                await answers(on_loop, [1])
                while in_workers.on_workers.share.active:
                    await asyncio.sleep(0)
                seen.append(in_workers.busy_s)
            assert seen == sorted(set(seen))
            assert on_loop.busy_s == 0.0

    asyncio.run(main())


def test_an_error_outside_the_stages_ends_an_outer_row_once():
    """Both parts of a row were in the batch: the row leaves once, and the call waits for its other
    row.
    """

    class Breaks(Sum):
        """Fails outside its stages with the first batch; the next waits for the gate."""

        each = "parts"
        failed = threading.Event()

        def measure(self, row) -> None:
            """Rows are alike."""

        def run(self, rows) -> None:
            if not self.failed.is_set():
                self.failed.set()
                raise SystemExit
            assert self.gate.wait(5)

    async def main() -> None:
        breaks = Breaks(0, BatchLimits(max_batch_size=2))
        breaks.gate.clear()
        async with batching(breaks) as batcher:
            now, done = time.monotonic(), asyncio.Event()
            values = [{"parts": [1, 2]}, {"parts": [3]}]
            call = Call(values, request_id="", now=now, deadline=now + 60)
            batcher.submit(call, lambda _: done.set())
            assert await asyncio.to_thread(breaks.failed.wait, 5)
            for _ in range(100):
                await asyncio.sleep(0.001)
                if call.pending < 2:
                    break
            assert (call.pending, done.is_set()) == (1, False)
            breaks.gate.set()
            await asyncio.wait_for(done.wait(), 5)
            assert [row.error is None for row in call.rows] == [False, True]

    asyncio.run(main())
