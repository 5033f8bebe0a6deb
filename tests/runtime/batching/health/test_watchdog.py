"""The watchdog: what it orders of the workers, and what it writes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytest

from runtime.batching.fair_queue import FunctionShare
from runtime.batching.health.function_health import Renewal
from runtime.batching.health.hangs import HUNG_S, MOST_ABANDONED
from runtime.batching.health.loop_watch import REPEAT_S, LoopWatch
from runtime.batching.health.stacks import MOST_LINES, frames_of, stage_lines
from runtime.batching.health.watchdog import RunningBatch, Watchdog
from tests.problems import expect_values


class Workers:
    """Notes what is ordered; ``batches`` are what they are in."""

    thread_count = 2
    abandoned_count = 0
    crash_recorder = None

    def __init__(self) -> None:
        self.batches: list[RunningBatch] = []
        self.has_waiting = False
        self.orders: list[tuple[str, Any]] = []

    def running(self, now: float) -> tuple[Sequence[RunningBatch], bool]:
        """As it was set."""
        return self.batches, self.has_waiting

    def replace(self, batch: RunningBatch) -> bool:
        """It is."""
        self.orders.append(("replace", batch.worker))
        self.batches.remove(batch)
        return True


class Worker:
    """That was given up, until it comes back."""

    is_abandoned = True
    index = 0


class Function:
    """A function that notes which of its batches are let go of."""

    name = label = "f"

    def __init__(self, abandoned: int, timeout_s: float) -> None:
        self.share = FunctionShare(1, abandoned=abandoned)
        self.timeout_s = timeout_s
        self.gone: list[Any] = []
        self.health = self
        self.construct_s = 0.0

    def let_go(self, batch: Any) -> None:
        """It is."""
        self.gone.append(batch)

    def segment(self, batch: Any) -> Any:
        """A stage."""

        class Segment:
            name = "s"

            def stage_in(self, frames: Sequence[FrameType]) -> str:
                return ""

        return Segment()


def batch(worker: Any, began: float, *, abandoned: int = 0, timeout_s: float = 2.0) -> RunningBatch:
    """A batch of `f`, whose callers have left, in this thread."""
    function = Function(abandoned, timeout_s)
    return RunningBatch(worker, function, "rows", threading.get_ident(), began, False)


def look_for(watchdog: Watchdog, seconds: float, since: float) -> float:
    """Looks every quarter of a second for so long; returns when that is over."""
    for step in range(1, int(seconds * 4) + 1):
        watchdog.look(since + step / 4)
    return since + seconds


@pytest.fixture
def workers(clock):
    """Workers that are watched, and the watchdog, whose thread does not run."""
    made = Workers()
    return made, Watchdog(made), time.monotonic()


def test_a_worker_is_given_up_when_its_time_is_over_and_rows_wait(workers, caplog):
    """And not before; nothing is written yet."""
    watched, watchdog, now = workers
    worker = Worker()
    running = batch(worker, now)
    watched.batches = [running]
    now = look_for(watchdog, 3.0, now)
    assert watched.orders == []
    watched.has_waiting = True
    look_for(watchdog, 0.25, now)
    assert watched.orders == [("replace", worker)]
    assert running.function.gone == ["rows"]
    assert not caplog.records


def test_a_worker_that_hangs_is_written_once(workers, caplog):
    """With its stage, its stack and what becomes of it."""
    watched, watchdog, now = workers
    watched.batches = [batch("w", now)]
    look_for(watchdog, HUNG_S + 5, now)
    assert watched.orders == [("replace", "w")]
    (record,) = caplog.records
    expect_values(record.getMessage(), "'s'", "'f'", "30 s", "Another thread has its place")


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_worker_that_was_given_up_for_rows_that_wait_is_written_too(
    workers, caplog, comes_back: bool
):
    """Half a minute after it began, unless it has come back."""
    watched, watchdog, now = workers
    worker = Worker()
    watched.batches = [batch(worker, now)]
    watched.has_waiting = True
    now = look_for(watchdog, 3.0, now)
    assert watched.orders == [("replace", worker)]
    now = look_for(watchdog, HUNG_S - 5, now)
    assert not caplog.records
    worker.is_abandoned = not comes_back
    look_for(watchdog, 10.0, now)
    assert len(caplog.records) == (0 if comes_back else 1)


def test_a_function_without_a_worker_is_reported(workers, caplog):
    """As many were given up as may be, and the next one hangs: its rows leave, and the process is
    told which function has none left.
    """
    watched, watchdog, now = workers
    running = batch("w", now, abandoned=MOST_ABANDONED)
    watched.batches = [running]
    now = look_for(watchdog, HUNG_S - 1, now)
    assert (watched.orders, watchdog.hang) == ([], "")
    now = look_for(watchdog, 2, now)
    assert (watched.orders, set(running.function.gone)) == ([], {"rows"})
    expect_values(running.function.share.trouble, "'s'", "'f'")
    assert len(caplog.records) == 1
    watched.batches = []
    look_for(watchdog, 0.25, now)
    assert (watchdog.hang, running.function.share.trouble) == ("", "")


def test_time_in_which_the_process_was_stopped_does_not_count(workers):
    """A laptop that slept for a night has not waited for its stages."""
    watched, watchdog, now = workers
    worker = Worker()
    watched.batches, watched.has_waiting = [batch(worker, now, timeout_s=10.0)], True
    now = look_for(watchdog, 1.0, now)
    watchdog.look(now + 8 * 3600)
    assert watched.orders == []
    look_for(watchdog, 10.0, now + 8 * 3600)
    assert watched.orders == [("replace", worker)]


def test_a_worker_that_constructs_has_the_time_of_a_load(workers, caplog):
    """Not that of a call; then it is given up, and the log names what it constructs."""
    watched, watchdog, now = workers
    worker = Worker()
    function = Function(1, 2.0)
    function.construct_s = HUNG_S / 2
    constructing = RunningBatch(
        worker, function, None, threading.get_ident(), now, False, Renewal(0, "s", "s")
    )
    watched.batches, watched.has_waiting = [constructing], True
    now = look_for(watchdog, 2 * HUNG_S - 1, now)
    assert (watched.orders, caplog.records) == ([], [])
    look_for(watchdog, 2, now)
    assert (watched.orders, function.gone) == ([("replace", worker)], [])
    (record,) = caplog.records
    expect_values(record.getMessage(), "`__init__` of stage 's'", "'f'")


def test_another_batch_of_the_same_worker_begins_anew(workers):
    """Many short batches are no long one."""
    watched, watchdog, now = workers
    watched.has_waiting = True
    for _ in range(10):
        watched.batches = [batch("w", now)]
        now = look_for(watchdog, 1.5, now)
    assert watched.orders == []


class OnLoop:
    """A function whose coroutine runs in this test's loop."""

    name = label = "f"
    has_tasks = True
    timeout_s = 2.0

    def __init__(self, loop: Any, thread: int) -> None:
        self.loop = loop
        self.loop_thread = thread

    def stage_on_loop(self, frames: Sequence[FrameType]) -> str:
        """`block` is its stage."""
        return "s" if any(frame.f_code.co_name == "block" for frame in frames) else ""


class Looped:
    """A loop in a thread of its own, which ``block`` holds until it is let go."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.begun, self.go = threading.Event(), threading.Event()

    def hold(self) -> None:
        """Returns once the loop is held."""

        def block() -> None:
            self.begun.set()
            self.go.wait(30)

        self.begun.clear()
        self.go.clear()
        self.loop.call_soon_threadsafe(block)
        assert self.begun.wait(30)

    def free(self) -> None:
        """Returns once it has gone on."""
        self.go.set()
        turned = threading.Event()
        self.loop.call_soon_threadsafe(turned.set)
        assert turned.wait(30)

    def close(self) -> None:
        """Ends it."""
        self.go.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


@pytest.fixture
def looped():
    """A loop."""
    made = Looped()
    yield made
    made.close()


def test_a_coroutine_that_holds_the_loop_is_named_when_it_lets_go(looped, clock, caplog):
    """With the stage, the seconds and the line; a second time within a minute it is counted."""
    user, watch = OnLoop(looped.loop, looped.thread.ident), LoopWatch()

    def hold() -> None:
        looped.hold()
        for _ in range(5):
            watch.look([user], time.monotonic())
            clock.advance(0.25)
        looped.free()
        watch.look([], time.monotonic())

    for _ in range(3):
        hold()
    (record,) = caplog.records
    expect_values(record.getMessage(), "'s'", "'f'", "1.3 s", "block", "await")
    clock.advance(REPEAT_S)
    hold()
    expect_values(caplog.records[-1].getMessage(), "2 more times")
    assert len(caplog.records) == 2


def test_a_loop_that_others_keep_from_its_turn_blames_no_stage(looped, clock, caplog):
    """A stage stands in the stack in one look, and not in the next."""
    user, watch = OnLoop(looped.loop, looped.thread.ident), LoopWatch()
    looped.hold()
    seen = iter([True, False] * 4)
    user.stage_on_loop = lambda frames: "s" if next(seen) else ""  # type: ignore[method-assign]
    for _ in range(8):
        watch.look([user], time.monotonic())
        clock.advance(0.25)
    looped.free()
    watch.look([], time.monotonic())
    assert not caplog.records


def test_a_loop_that_is_not_let_go_of_is_reported(looped, clock, caplog):
    """It is written after half a minute, once, while it lasts; and when every call is over, the
    process is told.
    """
    caplog.set_level(logging.INFO)
    user, watch = OnLoop(looped.loop, looped.thread.ident), LoopWatch()
    looped.hold()
    hung = None
    for _ in range(int((HUNG_S + 2) * 4)):
        hung = watch.look([user], time.monotonic())
        clock.advance(0.25)
    assert hung is not None
    assert hung[0] == "f"
    (record,) = caplog.records
    expect_values(record.getMessage(), "'s'", "30 s", "block")


def test_the_stack_of_a_thread_begins_at_the_stages_own_line(tmp_path):
    """Frames of libraries between the engine and the stage are left out, a deep stack is cut in the
    middle.
    """
    stages = tmp_path / "deep_of_a_test.py"
    stages.write_text(
        "def deep(n, event):\n    return deep(n - 1, event) if n else event.wait(30)\n"
    )
    found: dict[str, Any] = {}
    exec(compile(stages.read_text(), str(stages), "exec"), found)
    begun = threading.Event()

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            begun.set()
            return super().wait(timeout)

    event = Event()
    thread = threading.Thread(target=found["deep"], args=(50, event))
    thread.start()
    begun.wait(30)
    lines = stage_lines(frames_of(thread.ident or 0))
    event.set()
    thread.join(30)
    assert "deep_of_a_test.py:2, in deep: return deep" in lines[0]
    assert len(lines) == MOST_LINES + 1
    assert frames_of(thread.ident or 0) == []
