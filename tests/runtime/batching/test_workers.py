"""Worker threads that functions share: fair, never idle with work to do, and kept by
no function."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching.batcher import Batcher
from runtime.batching.calls import Call, Row
from runtime.batching.health import hangs
from runtime.batching.health.hangs import MOST_ABANDONED, MOST_ABANDONED_IN_ALL
from runtime.batching.policy import BatchLimits
from runtime.batching.workers import Workers
from runtime.errors import DeadlineExceeded, Draining
from runtime.system.crash import CrashRecorder
from runtime.types.conditions import Condition
from tests.problems import expect_values


class Work:
    """A segment that does what the test says, one row at a time or by ``limits``, and knows how
    many workers are in it.
    """

    name = "work"
    on_loop = False
    streams = False
    calls = False
    is_python = True
    threads = 0
    element_order = None
    each: str | None = None
    when: Condition | None = None
    gives: tuple[str, ...] = ()

    def __init__(
        self, do: Callable[[], object] = lambda: None, limits: BatchLimits | None = None
    ) -> None:
        self.do = do
        self.batch_limits: BatchLimits | None = limits or BatchLimits(max_batch_size=1)
        self.lock = threading.Lock()
        self.now = self.most = self.runs = 0

    def measure(self, row: Row) -> None: ...

    def run(self, rows: Sequence[Row]) -> None:
        with self.lock:
            self.now += 1
            self.runs += 1
            self.most = max(self.most, self.now)
        self.do()
        for row in rows:
            row.values["done"] = True
        with self.lock:
            self.now -= 1

    async def run_on_loop(self, rows: Sequence[Row]) -> None: ...


class Shared:
    """Workers, and functions made on them."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.functions: list[Batcher] = []

    def function(self, *segments: Work, share: int = 1, name: str = "") -> Batcher:
        """A function with these segments."""
        name = name or f"f{len(self.functions)}"
        self.functions.append(
            Batcher(
                name, segments, workers=self.workers, share=share, loop=asyncio.get_running_loop()
            )
        )
        return self.functions[-1]


@asynccontextmanager
async def shared(
    count: int, *, spare: int = 0, crash_recorder: CrashRecorder | None = None
) -> AsyncIterator[Shared]:
    """Closes everything in order at the end."""
    these = Shared(Workers(count, spare=spare, crash_recorder=crash_recorder))
    try:
        yield these
    finally:
        for function in these.functions:
            await asyncio.to_thread(function.close, 5)
        await asyncio.to_thread(these.workers.close, 5)


def call(function: Batcher, rows: int = 1, seconds: float = 60) -> asyncio.Future[Call]:
    """Submits a call that has so much time; the future is its answer."""
    now = time.monotonic()
    done: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    function.submit(
        Call([{} for _ in range(rows)], request_id="", now=now, deadline=now + seconds),
        done.set_result,
    )
    return done


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until it holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_rare_function_is_started_at_once_by_the_spare_worker():
    """All workers are in a busy function with a backlog: another's call is answered while they stay
    there.
    """

    async def main() -> None:
        gate = threading.Event()
        async with shared(2, spare=1) as these:
            await until(lambda: "2 of 2 idle, 1 of 1" in repr(these.workers))
            busy, rare = Work(gate.wait), Work()
            crowd = call(these.function(busy, share=3), rows=20)
            await until(lambda: busy.now == 2)
            await asyncio.wait_for(call(these.function(rare, share=2), rows=3), 10)
            assert (rare.runs, rare.most) == (3, 1)
            await until(lambda: "1 of 1 spare idle" in repr(these.workers))
            assert (busy.runs, crowd.done()) == (2, False)
            gate.set()
            await asyncio.wait_for(crowd, 10)
            assert busy.most == 2, "the spare worker ran a function that had workers"

    asyncio.run(main())


def test_two_busy_functions_have_the_same_seconds():
    """However unlike their batches are, whenever a batch begins both have had the same but for a
    longest batch of each.
    """
    seen: list[tuple[float, float]] = []

    async def main() -> None:
        gate = threading.Event()
        async with shared(1) as these:
            plug = call(these.function(Work(gate.wait)))

            def work(seconds: float) -> None:
                seen.append((slow.on_workers.share.done_s, quick.on_workers.share.done_s))
                time.sleep(seconds)

            slow, quick = (
                these.function(Work(lambda: work(0.004))),
                these.function(Work(lambda: work(0.0005))),
            )
            calls = [call(slow, rows=20), call(quick, rows=400)]
            gate.set()
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            both = len(seen)
            await asyncio.gather(plug, *calls)
            del seen[both - 2 :]

    asyncio.run(main())
    longest = [
        max(later - earlier for earlier, later in pairwise(column))
        for column in zip(*seen, strict=True)
    ]
    assert len(seen) > 20
    assert max(abs(slow - quick) for slow, quick in seen) <= sum(longest)


def test_a_function_never_has_more_than_its_share():
    """Two of four workers, and it has the two; the other function has the rest."""

    async def main() -> None:
        pairs = threading.Barrier(2)
        async with shared(4, spare=1) as these:
            small, large = Work(lambda: pairs.wait(10)), Work()
            calls = [
                call(these.function(small, share=2), rows=40),
                call(these.function(large, share=4), rows=40),
            ]
            await asyncio.wait_for(asyncio.gather(*calls), 20)
            assert small.most == 2
            assert large.most <= 4

    asyncio.run(main())


def test_a_spare_worker_that_may_not_go_on_leaves_the_rows_to_a_resting_one():
    """A third row waited for a full share. As the spare worker ends its own, an ordinary one that
    rests takes the third.
    """

    async def main() -> None:
        gates = [threading.Event() for _ in range(3)]
        inside = iter(list(gates))
        async with shared(2, spare=1) as these:
            await until(lambda: "2 of 2 idle, 1 of 1" in repr(these.workers))
            holds = [threading.Event(), threading.Event()]
            holding = [Work(hold.wait) for hold in holds]
            held = []
            # one after the other: two that are woken at once may swap, and leave the second to the
            # spare worker
            for one in holding:
                held.append(call(these.function(one)))
                await until(lambda one=one: bool(one.now))
            assert "0 of 2 idle, 1 of 1" in repr(these.workers)
            work = Work(lambda: next(inside).wait(60))
            rows = call(these.function(work, share=2), rows=3)
            for runs, hold in enumerate(holds, 1):
                await until(lambda runs=runs: work.runs == runs)
                hold.set()
            await until(lambda: "1 of 2 idle" in repr(these.workers))
            gates[0].set()
            await until(lambda: work.runs == 3)
            for gate in gates:
                gate.set()
            await asyncio.wait_for(asyncio.gather(rows, *held), 10)

    asyncio.run(main())


def test_a_batch_that_waits_for_batch_mates_is_not_forgotten():
    """The worker that waited for it to be due was called away for good: another that rests runs it
    when it is due.
    """

    async def main() -> None:
        gate = threading.Event()
        async with shared(2) as these:
            await until(lambda: "2 of 2 idle" in repr(these.workers))
            patient = call(
                these.function(
                    Work(limits=BatchLimits(max_batch_size=2, batch_wait_timeout_s=0.05))
                )
            )
            await until(lambda: "2 of 2 idle" in repr(these.workers))
            held = call(these.function(Work(gate.wait)))
            await asyncio.wait_for(patient, 10)
            gate.set()
            await asyncio.wait_for(held, 10)

    asyncio.run(main())


def test_closing_one_function_leaves_the_others():
    """Its rows are answered and no more are taken; the threads and the other functions go on."""

    async def main() -> None:
        async with shared(1, spare=1) as these:
            one, other = these.function(Work()), these.function(Work())
            accepted = call(one, rows=5)
            await asyncio.to_thread(one.close, 5)
            assert all(row.values == {"done": True} for row in (await accepted).rows)
            with pytest.raises(Draining):
                call(one)
            await asyncio.wait_for(call(other, rows=5), 10)
            assert not these.workers.trouble

    asyncio.run(main())


def test_closed_workers_run_what_waits_and_take_nothing():
    """Their threads end, and a function that is left on them says so instead of waiting for
    ever.
    """

    async def main() -> None:
        async with shared(2, spare=2) as these:
            function = these.function(Work(), share=2)
            accepted = call(function, rows=20)
            await asyncio.sleep(0)  # rows begin to wait at the end of the loop's turn
            await asyncio.to_thread(these.workers.close, 5)
            await asyncio.wait_for(accepted, 10)
            assert these.workers.trouble
            with pytest.raises(Draining):
                call(function)

    asyncio.run(main())


@pytest.mark.parametrize("spare", [0, 1])
def test_a_call_that_comes_with_the_end_of_the_threads_is_refused(spare):
    """It was taken before, but it would wait only from the next turn of the loop on, without a thread."""

    async def main() -> None:
        workers = Workers(1, spare=spare)
        function = Shared(workers).function(Work())
        answer = call(function, rows=2)
        workers.close(30)
        answered = await asyncio.wait_for(answer, 10)
        assert all(isinstance(row.error, Draining) for row in answered.rows)
        await asyncio.to_thread(function.close, 0)

    asyncio.run(main())


def test_a_resting_worker_keeps_nothing_of_a_closed_function():
    """Once it is closed and let go, its memory can go too."""

    async def main() -> None:
        async with shared(2, spare=1) as these:
            function = these.function(Work(), share=2)
            await asyncio.gather(*(call(function, rows=3) for _ in range(5)))
            await asyncio.to_thread(function.close, 5)
            gone = weakref.ref(function)
            these.functions.clear()
            del function
            await until(lambda: gc.collect() >= 0 and gone() is None)

    asyncio.run(main())


class Hanging(Work):
    """It does not return from its first runs until it is let go."""

    def __init__(self, runs: int) -> None:
        super().__init__(self.hang)
        self.left = runs
        self.go = threading.Event()
        self.renewed: list[str] = []

    def hang(self) -> None:
        """One run."""
        self.left -= 1
        if self.left >= 0:
            self.go.wait(30)

    def stage_in(self, frames: Sequence[FrameType]) -> str:
        """Its only one."""
        return "hangs"

    def renew(self, stage: str) -> None:
        """Noted."""
        self.renewed.append(stage)


def test_a_worker_that_does_not_come_back_is_replaced():
    """Once no caller can be waiting for it: the next call of the function is answered by another
    thread. What hangs ends itself when it comes back, and its outcome is dropped.
    """

    async def main() -> None:
        work = Hanging(1)
        async with shared(1, spare=1) as these:
            stuck, other = these.function(work, name="stuck"), these.function(Work())
            stuck.health.timeout_s = 0.2
            held = call(stuck, seconds=0.2)
            await until(lambda: stuck.on_workers.share.active == 1)
            await asyncio.wait_for(call(other), 10)
            answered = await asyncio.wait_for(call(stuck), 10)
            assert answered.rows[0].values == {"done": True}
            assert (stuck.health.abandoned, stuck.health.trouble) == (1, "")
            assert work.renewed == ["hangs"]
            error = (await asyncio.wait_for(held, 10)).rows[0].error
            assert isinstance(error, DeadlineExceeded)
            await until(lambda: stuck.on_workers.share.active == 0)
            work.go.set()
            await until(lambda: not stuck.health.abandoned)
            await asyncio.wait_for(asyncio.gather(call(stuck), call(other)), 10)
            await until(lambda: "1 of 1 idle, 1 of 1 spare idle" in repr(these.workers))
            assert not these.workers.trouble

    asyncio.run(main())


def test_a_stage_that_is_slow_while_nothing_waits_keeps_its_thread():
    """Its time is over, and it comes back: no other thread was made."""

    async def main() -> None:
        work = Hanging(1)
        async with shared(1) as these:
            slow = these.function(work)
            slow.health.timeout_s = 0.1
            held = call(slow, seconds=0.1)
            await asyncio.sleep(1.0)
            work.go.set()
            await asyncio.wait_for(held, 10)
            assert (slow.health.abandoned, work.renewed) == (0, [])

    asyncio.run(main())


def test_a_function_that_hangs_again_and_again_has_no_worker_left(monkeypatch, tmp_path):
    """So many threads are given up, and no more: then it is trouble, with its name, and the process
    is said to have crashed by it. Its neighbour goes on.
    """
    monkeypatch.setattr(hangs, "HUNG_S", 0.5)

    async def main() -> None:
        work, told = Hanging(MOST_ABANDONED + 1), []
        crash_recorder = CrashRecorder(tmp_path, slots=2 + MOST_ABANDONED_IN_ALL)
        async with shared(1, spare=1, crash_recorder=crash_recorder) as these:
            these.workers.watchdog.on_hang = lambda label, reason: told.append(label)
            stuck, other = these.function(work, name="stuck"), these.function(Work())
            stuck.health.timeout_s = 0.1
            calls = []
            for given_up in range(1, MOST_ABANDONED + 1):
                calls.append(call(stuck, seconds=0.2))
                await until(lambda so_many=given_up: stuck.health.abandoned == so_many)
                await until(lambda: not stuck.on_workers.share.active)
                assert not stuck.health.trouble
            calls.append(call(stuck, seconds=0.2))
            await until(lambda: bool(told))
            expect_values(stuck.health.trouble, "'stuck'", "'hangs'")
            assert (told, these.workers.trouble, other.health.trouble) == (
                ["stuck"],
                stuck.health.trouble,
                "",
            )
            await asyncio.wait_for(call(other), 10)
            assert stuck.health.abandoned == MOST_ABANDONED
            work.go.set()
            await until(
                lambda: (
                    not (stuck.health.abandoned or stuck.health.trouble or these.workers.trouble)
                )
            )
            await asyncio.wait_for(asyncio.gather(call(stuck), *calls), 10)
        crash_recorder.close()

    asyncio.run(main())


def test_a_thread_that_ended_is_trouble():
    """The reason names it."""

    async def main() -> None:
        async with shared(1) as these:
            assert not these.workers.trouble
            await asyncio.to_thread(these.workers.close, 5)
            expect_values(these.workers.trouble, "wakeful-worker-0", "ended")

    asyncio.run(main())


def test_the_crash_recorder_gets_the_rows_that_run(tmp_path):
    """The marks of a batch's rows, those of calls without one left out; a batch without any is
    recorded by its function.
    """

    async def main() -> None:
        recorded: list[tuple[int, ...]] = []

        class Hears(CrashRecorder):
            def begin(self, slot: int, name: str, marks: Sequence[int] = ()) -> None:
                recorded.append(tuple(marks))
                super().begin(slot, name, marks)

        crash_recorder = Hears(tmp_path, slots=1)
        try:
            async with shared(1, crash_recorder=crash_recorder) as these:
                function = these.function(Work(limits=BatchLimits()))
                for mark in (0, 5):
                    now, done = time.monotonic(), asyncio.get_running_loop().create_future()
                    function.submit(
                        Call([{}, {}], request_id="", now=now, deadline=now + 60, fingerprint=mark),
                        done.set_result,
                    )
                    await done
        finally:
            crash_recorder.close()
        assert recorded == [(), (5 << 16, 5 << 16 | 1)]

    asyncio.run(main())


def test_the_crash_recorder_knows_the_running_function(tmp_path):
    """The crash recorder shows the function while its stage runs, and is idle afterwards."""

    async def main() -> None:
        gate = threading.Event()
        crash_recorder = CrashRecorder(tmp_path, slots=2)
        try:
            async with shared(1, spare=1, crash_recorder=crash_recorder) as these:
                calls = [
                    call(these.function(Work(gate.wait), name=name))
                    for name in ("embed", "forecast")
                ]
                await until(
                    lambda: "embed" in repr(crash_recorder) and "forecast" in repr(crash_recorder)
                )
                gate.set()
                await asyncio.gather(*calls)
                await until(lambda: "idle" in repr(crash_recorder))
        finally:
            crash_recorder.close()

    asyncio.run(main())


CALLS = st.lists(st.integers(1, 5), min_size=1, max_size=8)
FUNCTIONS = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.002]), st.integers(1, 4), CALLS),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60)
@given(FUNCTIONS, st.integers(1, 4), st.integers(0, 2))
def test_no_call_is_forgotten(functions, count, spare):
    """Any functions, shares, waits for batch-mates, workers and spare ones: every call is answered, and
    no share exceeded.
    """

    async def main() -> None:
        async with shared(count, spare=spare) as these:
            works = [
                (Work(limits=BatchLimits(size, wait)), Work(limits=BatchLimits(size + 1, wait)))
                for _, wait, size, _ in functions
            ]
            made = [
                these.function(*pair, share=share)
                for pair, (share, *_) in zip(works, functions, strict=True)
            ]
            calls = []
            for step in range(8):
                for function, (*_, rows) in zip(made, functions, strict=True):
                    if step < len(rows):
                        calls.append(call(function, rows[step]))
                await asyncio.sleep(0.0005 * (step % 3))
            for answered in await asyncio.wait_for(asyncio.gather(*calls), 20):
                assert all(row.values == {"done": True} for row in answered.rows)
            for pair, (share, *_) in zip(works, functions, strict=True):
                assert max(work.most for work in pair) <= share

    asyncio.run(main())
