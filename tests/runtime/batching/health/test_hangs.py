"""When a worker that does not come back is given up, and when its process is."""

from __future__ import annotations

import math

import pytest

from runtime.batching.health.hangs import (
    HUNG_S,
    MOST_ABANDONED,
    MOST_ABANDONED_IN_ALL,
    BusyWorker,
    call_fix,
    can_answer,
    construct_fix,
    construct_limit_s,
    is_loop_hung,
    judge,
    late_fix,
)
from tests.problems import expect_values

FULL = MOST_ABANDONED


@pytest.mark.parametrize(
    ("ran_s", "timeout_s", "has_callers", "has_waiting", "abandoned", "in_all", "expected"),
    [
        # within its time, whatever waits
        (1.9, 2.0, False, True, 0, 0, "works"),
        (1e9, math.inf, False, True, 0, 0, "works"),
        # a caller that waits has a use of it
        (2.1, 2.0, True, True, 0, 0, "works"),
        # overdue: another thread as soon as rows wait, at the latest when it hangs
        (2.1, 2.0, False, True, 0, 0, "replace"),
        (2.1, 2.0, False, False, 0, 0, "waits"),
        (HUNG_S - 0.1, 2.0, False, False, 0, 0, "waits"),
        (HUNG_S + 0.1, 2.0, False, False, 0, 0, "replace"),
        # whichever is later
        (HUNG_S + 0.1, 60.0, False, True, 0, 0, "works"),
        (60.1, 60.0, False, False, 0, 0, "replace"),
        # the bound of the function, and of the process
        (2.1, 2.0, False, True, FULL - 1, FULL - 1, "replace"),
        (2.1, 2.0, False, True, FULL, FULL, "waits"),
        (HUNG_S + 0.1, 2.0, False, True, FULL, FULL, "stuck"),
        (HUNG_S + 0.1, 2.0, False, False, FULL, FULL, "stuck"),
        (2.1, 2.0, False, True, 0, MOST_ABANDONED_IN_ALL - 1, "replace"),
        (2.1, 2.0, False, True, 0, MOST_ABANDONED_IN_ALL, "waits"),
        (HUNG_S + 0.1, 2.0, False, True, 0, MOST_ABANDONED_IN_ALL, "stuck"),
    ],
)
def test_what_becomes_of_a_worker(
    ran_s, timeout_s, has_callers, has_waiting, abandoned, in_all, expected
):
    """By how long it has been in its batch, what its function's callers wait for, and how many were
    given up before.
    """
    worker = BusyWorker(ran_s, timeout_s, has_callers)
    assert judge(worker, has_waiting=has_waiting, abandoned=abandoned, in_all=in_all) == expected


@pytest.mark.parametrize(
    ("loaded_s", "expected"),
    [(0.0, HUNG_S), (0.1, HUNG_S), (HUNG_S / 4, HUNG_S), (HUNG_S, 4 * HUNG_S)],
)
def test_how_long_a_stage_may_be_constructed_anew(loaded_s, expected):
    """Half a minute, or four times as long as it took at first: it is no call, and one that reads a
    model in 20 s is not read twice at once.
    """
    assert construct_limit_s(loaded_s) == expected


@pytest.mark.parametrize(
    ("stuck", "max_workers", "threads", "stuck_in_all", "expected"),
    [
        (0, 1, 3, 0, True),
        (1, 1, 3, 1, False),
        (1, 2, 3, 1, True),
        (2, 2, 3, 2, False),
        (3, 8, 3, 3, False),
        # the others have the threads that it may have
        (1, 2, 3, 3, False),
        (0, 1, 3, 3, True),
    ],
)
def test_whether_a_function_can_answer(stuck, max_workers, threads, stuck_in_all, expected):
    """It can while one of the workers that it may have does not hang."""
    assert can_answer(stuck, max_workers, threads, stuck_in_all) is expected


@pytest.mark.parametrize(
    ("held_s", "timeout_s", "expected"),
    [
        (HUNG_S, 1.0, False),
        (HUNG_S + 1, 1.0, True),
        (HUNG_S + 1, 60.0, False),
        (61.0, 60.0, True),
    ],
)
def test_when_an_event_loop_hangs(held_s, timeout_s, expected):
    """Half a minute, and the longest time of a call, are over."""
    assert is_loop_hung(held_s, timeout_s) is expected


def test_what_the_caller_of_a_late_call_is_told():
    """Of a call that is in a stage, where that is; of one behind a stage that does not return, that
    another try does not help; of one that waited in a queue, nothing.
    """
    expect_values(late_fix("s", 2.04, is_own=True, is_overdue=False), "'s'", "2.04 s", "30 s")
    behind = late_fix("s", 12.0, is_own=False, is_overdue=True)
    expect_values(behind, "'s'", "12 s", "log")
    assert "less busy" not in behind
    assert late_fix("s", 1.0, is_own=False, is_overdue=False) == ""
    expect_values(call_fix("s", 1.04), "'s'", "1.04 s", "30 s")
    expect_values(construct_fix("s", 12.0), "'s'", "__init__", "12 s", "log")
