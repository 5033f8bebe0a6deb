"""What was counted, by steps: which sample goes where, and how much is kept of it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from runtime.http.catalogue.console.history import (
    LENGTHS,
    LONG_S,
    MOST_CODES,
    SAMPLE_S,
    SHORT_S,
    CountHistory,
    Counts,
    StepRing,
    share_steps,
)
from runtime.system.telemetry.counters import OTHER_CODE, SECONDS
from runtime.system.telemetry.statistics import FunctionStatistics

BUCKETS = len(SECONDS) + 1


def counted(calls: int = 0, failed: int = 0, bucket: int = 2, **more: Any) -> FunctionStatistics:
    """What was counted of a function; all of its calls took as long."""
    seconds = [0] * BUCKETS
    seconds[bucket] = calls + failed
    return FunctionStatistics(succeeded=calls, failed=failed, seconds=tuple(seconds), **more)


@pytest.mark.parametrize(
    ("before", "at", "steps", "is_shared"),
    [
        (100.0, 110.0, [10], True),
        (100.2, 110.1, [10], True),
        (109.9, 110.0, [10], True),
        (100.0, 109.9, [], True),
        (100.0, 121.0, [10, 11], True),
        (100.0, 130.0, [10, 11, 12], True),
        (100.0, 140.0, [10, 11, 12, 13], False),
        (110.0, 100.0, [], True),
    ],
)
def test_a_look_is_of_the_steps_that_ended(before, at, steps, is_shared):
    """As a rule of one; of a few it is not known when something was, so each has its part."""
    found, are_shared = share_steps(before, at, 10)
    assert (list(found), are_shared) == (steps, is_shared)


def test_what_is_counted_between_two_looks_is_of_the_step_between():
    """Calls, errors, latencies, batches, wakes, and where it was loaded at the end."""
    history = CountHistory(1000.0)
    first = counted(3, 1, errors={"bad": 1}, batches={2: (3, 0.1), 4: (1, 0.1)}, wakes=1)
    assert history.look(1010.0, {"f": first}, {"f": 1}) == {SAMPLE_S: 1000.0, SHORT_S: 1000.0}
    history.look(1020.0, {"f": first}, {"f": 2})
    second = counted(5, 1, errors={"bad": 1}, batches={2: (3, 0.1), 4: (2, 0.1)}, wakes=1)
    history.look(1030.0, {"f": second}, {})
    assert history.of("f", SHORT_S) == {
        "step_s": 10,
        "from": 1000.0,
        "calls": [4, 0, 2],
        "errors": {"bad": [1, 0, 0]},
        "p50_ms": [pytest.approx(3.75), None, pytest.approx(3.75)],
        "p95_ms": [pytest.approx(4.875), None, pytest.approx(4.875)],
        "batch_rows": [2.5, None, 4],
        "wakes": [1, 0, 0],
        "replicas": [1, 2, 0],
    }
    assert history.of("f", SHORT_S, after=1020.0)["calls"] == [2]
    assert history.of("f", SHORT_S, after=1020.0)["from"] == 1020.0


def test_looks_each_ten_seconds_have_samples_of_five():
    """While no page is open; one that opens has its last minute at once."""
    history = CountHistory(1000.0)
    history.look(1010.0, {"f": counted(4, 1, errors={"bad": 1})}, {})
    samples = history.samples(12)
    assert (samples["from"], samples["steps"]) == (950.0, 12)
    one = samples["functions"]["f"]
    assert one["calls_per_s"] == [None] * 10 + [0.5, 0.5]
    assert one["errors_per_s"] == [None] * 10 + [0.1, 0.1]
    assert one["p50_ms"][-2:] == [pytest.approx(3.75)] * 2
    history.look(1015.0, {"f": counted(4, 1, errors={"bad": 1})}, {})
    assert history.samples(1)["functions"] == {}
    assert history.samples(12, names={"g"})["functions"] == {}
    assert history.errors_of_last_minute() == {"f": {"bad": 1}}


def test_a_function_that_sleeps_costs_nothing():
    """Nor does one that was counted before the history began."""
    history = CountHistory(1000.0)
    old = {f"f{n}": counted(9) for n in range(1000)}
    history.look(1010.0, old, {}, old)
    assert len(history) == 0
    assert history.of("f1", SHORT_S)["calls"] == []
    history.look(1020.0, {**old, "f1": counted(10)}, {}, old)
    assert len(history) == 1
    assert history.of("f1", SHORT_S)["calls"] == [1]


def test_a_process_that_was_stopped_knows_not_when_it_was():
    """The last step has what was counted meanwhile, and the others are gaps."""
    history = CountHistory(1000.0)
    history.look(1010.0, {"f": counted(1)}, {"f": 1})
    history.look(1060.0, {"f": counted(7)}, {"f": 1})
    assert history.of("f", SHORT_S)["calls"] == [1, None, None, None, None, 6]
    history.look(9000.0, {"f": counted(8)}, {"f": 1})
    assert len(history.of("f", SHORT_S)["calls"]) == LENGTHS[SHORT_S]


def test_a_clock_that_is_set_right_costs_as_little():
    """One that has begun in 1970 goes on by half a century, which has 358 million steps."""
    history = CountHistory(0.0)
    tracemalloc.start()
    try:
        history.look(5_000_000.0, {"f": counted(7)}, {"f": 1})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000
    assert history.of("f", SHORT_S)["calls"][-2:] == [None, 7]


def test_what_was_counted_before_a_history_is_no_call_of_it():
    """Some tell of it after the first looks, of functions that are known or not."""
    history = CountHistory(1001.0)
    older = {"old": counted(50)}
    assert history.look(1002.0, {"old": counted(50)}, {"old": 1}, older) == {}
    older |= {"late": counted(70, 5, errors={"bad": 5}), "asleep": counted(8)}
    told = {"old": counted(50), **older}
    history.look(1015.0, told, {"old": 1, "late": 1}, older)
    older["old"] = counted(950)
    told = {
        "old": counted(951),
        "late": counted(72, 6, errors={"bad": 6}),
        "new": counted(3),
        "asleep": counted(8),
    }
    history.look(1025.0, told, {"old": 1, "late": 1, "new": 1}, older)
    assert {name: history.of(name, SHORT_S)["calls"] for name in told} == {
        "old": [0, 1],
        "late": [0, 3],
        "new": [3],
        "asleep": [],
    }
    assert history.of("late", SHORT_S)["errors"] == {"bad": [0, 1]}


def test_counts_that_become_less_are_no_calls():
    """Those of a process that is gone; a function that is not told of has counted nothing more."""
    history = CountHistory(1000.0)
    history.look(1010.0, {"f": counted(9)}, {"f": 1})
    history.look(1020.0, {"f": counted(4)}, {"f": 1})
    history.look(1030.0, {}, {"f": 1})
    history.look(1040.0, {"f": counted(5)}, {"f": 1})
    assert history.of("f", SHORT_S)["calls"] == [9, 0, 0, 1]


def test_a_clock_that_is_set_back_takes_nothing_twice():
    """What is counted meanwhile is of the first step behind the one that is known."""
    history = CountHistory(1000.0)
    history.look(1010.0, {"f": counted(1)}, {"f": 1})
    assert history.look(500.0, {"f": counted(3)}, {"f": 1}) == {}
    history.look(1020.0, {"f": counted(4)}, {"f": 1})
    assert history.of("f", SHORT_S)["calls"] == [1, 3]


def test_what_is_old_is_forgotten():
    """The ring of each resolution has its length; six hours after its last call, and no longer
    loaded, a function has no numbers, and its next call is counted as one.
    """
    history, at = CountHistory(0.0), 0.0
    for n in range(1, LENGTHS[SHORT_S] + 10):
        at = n * 10.0
        history.look(at, {"f": counted(n)}, {"f": 1})
    shown = history.of("f", SHORT_S)
    assert shown["calls"] == [1] * LENGTHS[SHORT_S]
    assert shown["from"] == at - 10 * LENGTHS[SHORT_S]
    assert history.of("f", LONG_S)["calls"][-1] == 6
    last = LENGTHS[SHORT_S] + 9
    for n in range(LENGTHS[LONG_S] + 2):
        history.look(at + 60.0 * n, {"f": counted(last)}, {})
    assert len(history) == 0
    at += 60.0 * (LENGTHS[LONG_S] + 2)
    history.look(at, {"f": counted(last + 1)}, {})
    assert history.of("f", LONG_S)["calls"][-1] == 1


def test_functions_that_are_gone_are_forgotten():
    """Those that a file no longer has."""
    history = CountHistory(1000.0)
    history.look(1010.0, {"f": counted(1), "g": counted(1)}, {})
    history.keep({"g"})
    assert len(history) == 1
    assert history.of("f", SHORT_S)["calls"] == []


def test_errors_are_told_apart_up_to_a_bound():
    """Further codes are others; a code that is not seen any more makes room."""
    ring = StepRing(4, 0)
    many = {f"e{code}": 1 for code in range(MOST_CODES + 5)}
    ring.add(0, Counts(calls=len(many), errors=many), 1.0, 1)
    found = ring.errors(-1, 0)
    assert len(found) == MOST_CODES
    assert found[OTHER_CODE] == [6]
    for step in range(1, 6):
        ring.add(step, Counts(calls=1), 1.0, 1)
    ring.add(6, Counts(calls=1, errors={"new": 2}), 1.0, 1)
    assert ring.errors(2, 6) == {"new": [0, 0, 0, 2]}


def test_a_hundred_busy_functions_take_little_memory():
    """20 MB are allowed for all of the console; each of these has errors of every code."""
    history = CountHistory(0.0)
    errors = {f"e{code}": 1 for code in range(MOST_CODES)}
    told = {f"f{n}": counted(1, errors=errors) for n in range(100)}
    tracemalloc.start()
    try:
        history.look(60.0, told, {})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(history) == 100
    assert held < 10_000_000
