"""What `status` says of the last minute: differences of counts, by a clock that the test has."""

from __future__ import annotations

import pytest

from runtime.system.telemetry.counters import SECONDS, ProcessCounters
from runtime.system.telemetry.recent import RecentCalls, Traffic, merge_traffic, quantile


def counts(**at: int) -> list[int]:
    """Counts by index of the bucket, ``b3=2``."""
    return [at.get(f"b{bucket}", 0) for bucket in range(len(SECONDS) + 1)]


@pytest.mark.parametrize(
    ("values", "share", "seconds"),
    [
        (counts(), 0.95, None),
        (counts(b0=100), 0.5, 0.0005),
        (counts(b0=100), 1.0, 0.001),
        (counts(b0=90, b6=10), 0.95, 0.075),
        (counts(b14=1), 0.95, 30.0),
    ],
)
def test_a_percentile_lies_in_the_bucket_that_it_falls_into(values, share, seconds) -> None:
    """On a line between its bounds; beyond the last bound it is that."""
    found = quantile(values, share)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_the_last_minute_forgets_what_came_before() -> None:
    """A function that is not called any more has nothing; one that goes on has its rate."""
    counters = ProcessCounters()
    f = counters.of("f")
    recent = RecentCalls(counters, 100.0)
    for second in range(1, 121):
        if second <= 60:
            f.calls.record(200, "", 0.004, None)
            f.calls.record(400, "wrong", 0.0001, None)
        recent.look(100.0 + second)
        if second == 60:
            seen = recent.of(f, 160.0)
            assert (seen.calls, seen.errors) == (120, 60)
            assert seen.calls_per_s == pytest.approx(2.0)
            assert seen.p95_s == pytest.approx(0.0045, abs=0.0006)
    assert recent.of(f, 220.0).calls <= 10
    for second in range(121, 130):
        recent.look(100.0 + second)
    assert recent.of(f, 230.0) == Traffic()


def test_a_process_that_has_just_begun_is_not_taken_for_a_fast_one() -> None:
    """Two calls in its first moment are no 200 a second."""
    counters = ProcessCounters()
    recent = RecentCalls(counters, 0.0)
    counters.of("f").calls.record(200, "", 0.001, None)
    assert recent.of(counters.of("f"), 0.01).calls_per_s == 1.0


def test_the_calls_of_several_processes_are_added() -> None:
    """By bucket, so that the percentile is of all of them; on the wire and back."""
    one = Traffic(2.0, 20, 1, tuple(counts(b0=20)))
    other = Traffic(1.0, 10, 0, tuple(counts(b6=10)))
    both = merge_traffic(Traffic.from_wire(part.to_wire()) for part in (one, other, Traffic()))
    assert (both.calls_per_s, both.calls, both.errors) == (3.0, 30, 1)
    assert both.to_dict()["p95_ms"] == pytest.approx(92.5)
    assert Traffic().to_dict() == {
        "calls": 0,
        "calls_per_s": 0.0,
        "errors": 0,
        "p50_ms": None,
        "p95_ms": None,
    }
