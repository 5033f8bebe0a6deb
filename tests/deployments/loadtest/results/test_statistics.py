"""What is measured of a run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deployments.loadtest.results.records import CallRecord, Promise, ServerSample
from deployments.loadtest.results.statistics import (
    find_warm_up,
    keeps_growing,
    make_columns,
    replica_seconds,
    summarise,
)
from tests.deployments.loadtest.results.simulated_latencies import make_run


def calls_of(latencies: list[float] | np.ndarray, rate: float = 100.0) -> list[CallRecord]:
    """Right answers at even times."""
    return [
        CallRecord("f", index / rate, index / rate, index / rate + latency, 200)
        for index, latency in enumerate(np.asarray(latencies).tolist())
    ]


def sample(at: float, replicas: int, wakes: int = 0, batches: int = 0) -> ServerSample:
    """What the server said at a moment; three rows a batch, half a second of a worker each."""
    return ServerSample(at, "f", replicas, 0, "ready", wakes, batches, 3 * batches, batches / 2, 0)


def test_a_run_is_summed_up():
    """After the warm-up; percentiles are of right answers, goodput of those in time."""
    calls = [
        CallRecord("f", 0.5, 0.5, 9.5, 200),
        *(CallRecord("f", at, at, at + 0.01, 200, is_warm=True) for at in np.arange(1, 10, 0.1)),
        CallRecord("f", 10.0, 10.0, 10.5, 200, is_warm=False),
        CallRecord("f", 10.1, 10.1, 10.11, 429, "overloaded"),
        CallRecord("f", 10.2, 10.2, 10.21, 502),
        CallRecord("f", 10.3, 10.3, 40.3, 0, "timeout"),
        CallRecord("f", 10.4, 10.4, 10.41, 429, "overloaded"),
        CallRecord("f", 10.5, 10.5, 10.51, 200, "wrong_answer"),
    ]
    run = make_run(
        calls,
        11.0,
        Promise(latency_p50_ms=5, latency_p95_ms=100),
        warm_up_s=1.0,
        server=[sample(0, 0), sample(2, 1, wakes=1, batches=4), sample(10, 2, 2, batches=10)],
        cpu_s=18.0,
    )
    result = summarise(run, cpu_price=0.04)
    f = result.functions["f"]
    assert (f.calls, f.right, f.refused, f.wakes) == (96, 91, 2, 2)
    assert f.errors == {"overloaded": 2, "http_502": 1, "timeout": 1, "wrong_answer": 1}
    assert f.percentiles[0.5].value == pytest.approx(0.01)
    assert f.longest_s == pytest.approx(0.5)
    assert (f.throughput, f.goodput) == pytest.approx((9.1, 9.0))
    assert f.success.value == pytest.approx(91 / 96)
    assert f.warm is not None
    assert f.warm.value == pytest.approx(90 / 91)
    assert (f.replica_s, f.worker_s, f.batch_rows) == pytest.approx((8 + 2, 5.0, 3.0))
    assert result.cost_per_1000 == pytest.approx(0.04 * 18 / 3600 / 92 * 1000)


def test_a_run_without_an_answer_is_summed_up():
    """No call at all, or none that is right; no cost without a price or a right answer."""
    empty = summarise(make_run([], 10.0), cpu_price=1.0)
    assert math.isnan(empty.functions["f"].percentiles[0.99].value)
    assert (empty.functions["f"].throughput, empty.functions["f"].warm) == (0.0, None)
    failed = [CallRecord("f", 1.0, 1.0, 1.0, 0, "refused")]
    result = summarise(make_run(failed, 10.0, cpu_s=3.0), cpu_price=1.0)
    assert (result.cost_per_1000, result.functions["f"].errors) == (None, {"refused": 1})
    assert summarise(make_run(calls_of([0.1]), 10.0, cpu_s=3.0)).cost_per_1000 is None


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], 0.0),
        ([sample(0, 2)], 20.0),
        ([sample(1, 0), sample(3, 1), sample(5, 3)], 2 + 15),
    ],
)
def test_each_sample_counts_until_the_next(samples: list[ServerSample], expected: float):
    """Of replicas, until the end of the run."""
    assert replica_seconds(samples, 10.0) == expected


def test_a_warm_up_is_found_where_latency_falls():
    """Five seconds of it, of thirty."""
    dice = np.random.default_rng(0)
    latencies = 0.02 * np.exp(0.5 * dice.standard_normal(3000))
    latencies[:500] *= 3
    found = find_warm_up(calls_of(latencies))
    assert found.seconds == pytest.approx(5, abs=0.8)
    assert found.is_over


def test_a_tail_that_falls_is_a_warm_up_too():
    """A fifth of the calls meet a worker that is new; the median does not show it."""
    dice = np.random.default_rng(0)
    latencies = 0.02 * np.exp(0.1 * dice.standard_normal(3000))
    latencies[:500][dice.random(500) < 0.2] *= 5
    assert find_warm_up(calls_of(latencies)).seconds == pytest.approx(5, abs=0.8)


def test_a_run_that_is_warm_at_once_loses_nothing():
    """Nor one that is too short to tell."""
    dice = np.random.default_rng(1)
    lost = [
        find_warm_up(calls_of(0.02 * np.exp(0.5 * dice.standard_normal(3000)))).seconds
        for _ in range(20)
    ]
    assert sum(seconds > 0 for seconds in lost) <= 2
    assert find_warm_up(calls_of([0.5] * 10 + [0.1] * 60)) == (0.0, True)
    assert find_warm_up([]) == (0.0, True)


def test_a_run_that_still_changes_after_its_middle_is_not_warm():
    """At most half is ever left out, and it says so."""
    latencies = np.concatenate((np.full(2000, 0.5), np.full(1000, 0.02)))
    dice = np.random.default_rng(1)
    found = find_warm_up(calls_of(latencies * np.exp(0.1 * dice.standard_normal(3000))))
    assert not found.is_over
    assert found.seconds <= 15.1


@pytest.mark.parametrize(
    ("slope", "spread", "expected"),
    [(0.0, 0.5, False), (0.003, 0.3, False), (0.2, 0.3, True), (2.0, 0.1, True)],
)
def test_latency_that_grows_all_along_is_seen(slope: float, spread: float, *, expected: bool):
    """As where calls come faster than they are answered; ``slope`` is seconds a second."""
    dice = np.random.default_rng(2)
    base = 0.2 * np.exp(spread * dice.standard_normal(3000))
    grown = base + slope * np.arange(3000) / 100
    assert keeps_growing(make_columns(calls_of(grown))) is expected
