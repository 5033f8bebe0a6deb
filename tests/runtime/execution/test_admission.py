"""Admit or refuse, by what is in flight."""

from __future__ import annotations

import pytest

from runtime.batching.service_times import WorkAhead
from runtime.execution.admission import (
    MOST_CAUTION,
    AdmissionLimits,
    AdmissionLoad,
    is_admitted,
    is_surely_in_time,
    late_error,
    next_caution,
    overloaded_error,
    retry_after_s,
    seconds_too_late,
)

CAPACITY = AdmissionLimits(calls=4, rows=100, workers=2, bytes=1000)


@pytest.mark.parametrize(
    ("load", "rows", "admitted"),
    [
        (AdmissionLoad(0, 0), 1, True),
        (AdmissionLoad(3, 3), 1, True),
        (AdmissionLoad(4, 4), 1, False),
        (AdmissionLoad(1, 99), 1, True),
        (AdmissionLoad(1, 99), 2, False),
        (AdmissionLoad(0, 0), 1000, True),
    ],
)
def test_a_call_is_admitted(load, rows, admitted):
    """By calls and by rows; a call alone is always admitted, its size is limited elsewhere."""
    assert is_admitted(load, CAPACITY, rows) is admitted


def test_retry_after_is_the_time_the_queue_takes():
    """Rows in flight times seconds a row over the workers, one second at least."""
    assert (retry_after_s(80, 0.25, 2), retry_after_s(80, 0.0, 2)) == (10, 1)
    error = overloaded_error(AdmissionLoad(4, 80), CAPACITY, 10)
    assert (error.status, error.retry_after_s) == (429, 10)


@pytest.mark.parametrize(
    ("ahead", "own_s", "caution", "late_s"),
    [
        (WorkAhead(0.0, 1.0, 0.1), 9.0, 1.0, 0.0),
        (WorkAhead(1.0, 1.0, 0.0), 0.1, 1.0, -0.7),
        (WorkAhead(1.5, 1.0, 0.0), 0.2, 1.0, 0.0),
        (WorkAhead(2.0, 1.0, 0.0), 0.2, 1.0, 0.6),
        (WorkAhead(2.0, 2.0, 0.0), 0.2, 1.0, -0.7),
        (WorkAhead(2.0, 0.5, 0.0), 0.2, 1.0, 3.2),
        (WorkAhead(1.0, 1.0, 0.0), 4.0, 1.0, 3.2),
        (WorkAhead(1.0, 1.0, 0.5), 0.2, 1.0, -0.3),
        (WorkAhead(1.0, 1.0, 60.0), 0.2, 1.0, 0.2),
        (WorkAhead(0.5, 1.0, 60.0), 0.2, 1.0, -0.4),
        (WorkAhead(1.0, 1.0, 0.0), 0.2, 2.0, 0.6),
    ],
)
def test_a_call_is_late_where_work_ahead_takes_its_time(ahead, own_s, caution, late_s):
    """Of two seconds: a fifth more than the work ahead over the workers, and then its own, or its
    way past them, half of the time at most. Nothing ahead: it is never late.
    """
    assert seconds_too_late(ahead, own_s, 2.0, caution) == pytest.approx(late_s)


def test_most_calls_are_in_time_without_a_look():
    """A fifth of one worker's time is enough for all rows; what takes an unknown time is."""
    assert is_surely_in_time(8, 0.05, 2.0)
    assert not is_surely_in_time(9, 0.05, 2.0)
    assert is_surely_in_time(10**6, 0.0, 0.001)


def test_caution_follows_what_comes_too_late():
    """It grows with each late call, to a bound, and is gone after many in time."""
    caution = 1.0
    for _ in range(10):
        caution = next_caution(caution, True)
    assert caution == pytest.approx(1.5)
    for _ in range(100):
        caution = next_caution(caution, True)
    assert caution == MOST_CAUTION
    for _ in range(1000):
        caution = next_caution(caution, False)
    assert caution == 1.0


def test_a_late_call_may_come_again_when_there_is_time():
    """After whole seconds, one at least."""
    errors = [late_error(AdmissionLoad(40, 40), 2.0, late_s) for late_s in (0.2, 3.2)]
    assert [(error.status, error.retry_after_s) for error in errors] == [(429, 1), (429, 4)]
    assert "40 calls with 40 rows" in errors[1].message
