"""A prediction beside a measurement: what is compared, and what makes it void."""

from __future__ import annotations

import math

import pytest

from deployments.loadtest.results.records import CallRecord, Run, ServerSample
from deployments.scaling.planning.traffic_plan import FunctionPlan
from loadtests.loadtest.planned import compare, held_s, row_s


def sample(at: float, replicas: int, function: str = "embed") -> ServerSample:
    """What the server said then."""
    return ServerSample(at, function, replicas, 0, "ready", 0, 0, 0, 0.0, 0)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [
        pytest.param([], 0.0, id="none"),
        pytest.param([sample(1, 1), sample(3, 2)], 2 + 14, id="each holds until the next"),
        pytest.param([sample(0, 0), sample(9, 1)], 1.0, id="asleep"),
        pytest.param([sample(2, 1), sample(0, 3)], 6 + 8, id="in any order"),
        pytest.param([sample(0, 5, "other")], 0.0, id="of another function"),
        pytest.param([sample(0, 1), sample(12, 1)], 10.0, id="one after the end"),
    ],
)
def test_replica_seconds_are_counted_from_the_samples(samples, seconds):
    """Of a run of ten seconds."""
    assert held_s(samples, "embed", 10.0) == seconds


@pytest.mark.parametrize(
    ("counts", "seconds"),
    [
        pytest.param([(0.0, 0), (1.0, 10), (3.0, 30)], 0.1, id="by its growth"),
        pytest.param([(1.0, 10), (2.0, 20), (0.1, 1), (0.3, 3)], 0.1, id="loaded anew"),
        pytest.param([(1.0, 10), (1.0, 10)], None, id="no rows"),
    ],
)
def test_the_time_of_a_row_is_that_of_the_servers_counts(counts, seconds):
    """Whatever they began with."""
    samples = [
        ServerSample(float(at), "embed", 1, 0, "ready", 0, 0, rows, busy_s, 0)
        for at, (busy_s, rows) in enumerate(counts)
    ]
    found = row_s(samples, "embed")
    assert math.isnan(found) if seconds is None else found == pytest.approx(seconds)


def planned(**more) -> FunctionPlan:
    """A function that was planned to hold ten replica-seconds, and to have a p95 of 50 ms."""
    numbers = dict.fromkeys(FunctionPlan.__dataclass_fields__, 0)
    fixed = {"function": "embed", "replica_s": 8.0, "host_s": 2.0, "p95_s": 0.05, "warm": 1.0}
    return FunctionPlan(**{**numbers, "promised": {}, "ranges": {}, "moments": (), **fixed, **more})


def run(latency_s: float = 0.05, **more) -> Run:
    """Ten calls in ten seconds on one replica."""
    calls = [
        CallRecord("embed", float(at), float(at), at + latency_s, 200, is_warm=True)
        for at in range(10)
    ]
    facts = {"url": "", "shape": "day", "rates": {}, "seconds": 10.0, "warm_up_s": 0.0, "seed": 0}
    facts |= {"started": 0.0, "machine": {}, "promises": {}, "calls": calls}
    return Run(**{**facts, "server": [sample(0, 1)], **more})


def verdicts(numbers) -> dict[str, str]:
    """Of the two that have a bound."""
    return {number.name.partition(",")[0]: number.verdict for number in numbers if number.bound}


@pytest.mark.parametrize(
    ("measured", "found"),
    [
        (run(), {"replica-seconds": "met", "p95": "met"}),
        (run(0.061), {"replica-seconds": "met", "p95": "met"}),
        (run(0.063), {"replica-seconds": "met", "p95": "missed"}),
        (run(0.041), {"replica-seconds": "met", "p95": "missed"}),
        (run(server=[sample(0, 2)]), {"replica-seconds": "missed", "p95": "met"}),
        (run(was_limited="the generator"), {"replica-seconds": "void", "p95": "void"}),
        (run(calls=[]), {"replica-seconds": "void", "p95": "void"}),
    ],
)
def test_prediction_is_judged_by_measurement(measured, found):
    """Replica-seconds within 15 %, p95 within 20 %; not where the generator was the limit."""
    assert verdicts(compare(planned(), measured, 10.0)) == found
