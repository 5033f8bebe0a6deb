"""However many processes send, together they send the same calls at the same times."""

from __future__ import annotations

import pytest

from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator.plan import assign
from deployments.loadtest.results.records import Promise
from deployments.scaling.simulation import Arrival
from tests.deployments.loadtest.plans import plan_of


def calls_of(function, count):
    """Calls that differ."""
    return [LoadCall(function, "/", str(number).encode()) for number in range(count)]


CALLS = {"f": calls_of("f", 3), "g": calls_of("g", 2)}
ARRIVALS = [Arrival(at / 10, "fg"[at % 2]) for at in range(20)]


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 30])
def test_parts_are_the_whole(parts):
    """Each call is in one part, with the body that it has whatever the parts."""
    whole = list(assign(ARRIVALS, CALLS, 0, 1))
    split = [one for part in range(parts) for one in assign(ARRIVALS, CALLS, part, parts)]
    assert sorted(split, key=lambda one: one.number) == whole
    assert [one.number for one in whole] == list(range(20))
    assert [one.call.body for one in whole[:8:2]] == [b"0", b"1", b"2", b"0"]


@pytest.mark.parametrize(
    ("sequence_calls", "ends_sequences", "rest_s"), [(0, True, 0), (5, True, 60), (5, False, 0)]
)
def test_sequences_have_time_after_the_load(sequence_calls, ends_sequences, rest_s):
    """As much as it took, unless another load is to follow."""
    plan = plan_of(1, seconds=60.0, sequence_calls=sequence_calls, ends_sequences=ends_sequences)
    assert plan.rest_s == rest_s


def test_a_recorded_arrival_has_its_own_call():
    """And those that name none go on in turn."""
    arrivals = [Arrival(0.0, "f", index=2), Arrival(0.1, "f", index=0), Arrival(0.2, "f")]
    assert [one.call.body for one in assign(arrivals, CALLS, 0, 1)] == [b"2", b"0", b"2"]


@pytest.mark.parametrize(
    ("promise", "most_lag_s"),
    [
        (Promise(success=0.9), 0.01),
        (Promise(latency_p50_ms=5, latency_p95_ms=500), 0.0025),
        (Promise(latency_p95_ms=20), 0.01),
        (Promise(latency_p95_ms=100), 0.01),
        (Promise(latency_p95_ms=500), 0.05),
    ],
)
def test_how_late_a_call_may_be_sent(promise, most_lag_s):
    """Never so late that the generator breaks the promise."""
    plan = plan_of(1, promises={"f": promise})
    assert plan.most_lag_s == pytest.approx(most_lag_s)
