"""The stages that should have threads of their own."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from runtime.batching.health import wait_watch
from runtime.batching.health.wait_watch import LONG_S, SEEN, WaitWatch, is_waiting
from tests.runtime.batching.test_batcher import Sum


@pytest.mark.parametrize(
    ("seconds", "cpu_s", "behind", "waits"),
    [
        (0.5, 0.001, 1, True),
        (0.5, 0.025, 1, True),
        (0.5, 0.026, 1, False),
        (0.5, 0.001, 0, False),
        (LONG_S, 0.0, 1, True),
        (LONG_S - 1e-6, 0.0, 1, False),
    ],
)
def test_a_stage_waits_that_takes_long_and_computes_little(
    seconds: float, cpu_s: float, behind: int, *, waits: bool
) -> None:
    """While others wait for it: one caller alone would gain nothing."""
    assert is_waiting(seconds, cpu_s, behind) is waits


def test_a_stage_that_waits_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some batches of one thread, whose clock stands still meanwhile; not one that has
    threads, and none on the event loop.
    """
    clock = [0.0]
    monkeypatch.setattr(wait_watch.time, "thread_time", lambda: clock[0])
    segments = [Sum(1), Sum(2, on_loop=True), Sum(3)]
    segments[2].threads = 4
    watch = WaitWatch("f", segments)
    with caplog.at_level(logging.WARNING, "wakeful.function"):
        for _ in range(2 * SEEN):
            for index in range(3):
                watch.record(index, 0.5, 7)
            clock[0] += 1.0  # as a batch that computes
            watch.record(0, 0.5, 7)
    (record,) = caplog.records
    assert "f: stage 'add 1' waits" in record.getMessage()
    assert "threads: 16" in record.getMessage()


def test_time_passes_for_the_clock_of_threads() -> None:
    """The clock that is used stands while a thread sleeps."""
    before = time.thread_time()
    threading.Event().wait(0.01)
    assert time.thread_time() - before < 0.01
