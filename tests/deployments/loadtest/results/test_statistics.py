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
        prices={"cpu": 0.04},
    )
    result = summarise(run)
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


def test_sequences_that_go_on_are_no_time_of_other_functions():
    """Each has that until its own last call; memory is paid for until the last of all."""
    load = [CallRecord("f", float(at), at, at + 0.01, 200) for at in range(10)]
    longer = [CallRecord("g", float(at), at, at + 0.01, 200) for at in range(21)]
    held = ServerSample(0.0, "f", 1, 0, "ready", 0, 0, 0, 0.0, 10**9)
    run = make_run([*load, *longer], 10.0, warm_up_s=2.0, server=[held], prices={"memory": 3600.0})
    result = summarise(run)
    f, g = result.functions["f"], result.functions["g"]
    assert (f.seconds, f.throughput, f.goodput, f.replica_s) == (8.0, 1.0, 1.0, 8.0)
    assert (g.seconds, g.throughput) == pytest.approx((18.0, 19 / 18))
    assert result.cost_per_1000 == pytest.approx(1000 / 31 * 20)


def test_a_run_without_an_answer_is_summed_up():
    """No call at all, or none that is right; no cost without a price, without a right answer, or of
    a processor that is elsewhere.
    """
    prices = {"cpu": 1.0}
    empty = summarise(make_run([], 10.0, prices=prices))
    assert math.isnan(empty.functions["f"].success.value)
    assert math.isnan(empty.functions["f"].percentiles[0.99].value)
    assert (empty.functions["f"].throughput, empty.functions["f"].warm) == (0.0, None)
    failed = [CallRecord("f", 1.0, 1.0, 1.0, 0, "refused")]
    result = summarise(make_run(failed, 10.0, cpu_s=3.0, prices=prices))
    assert (result.cost_per_1000, result.functions["f"].errors) == (None, {"refused": 1})
    assert summarise(make_run(calls_of([0.1]), 10.0, cpu_s=3.0)).cost_per_1000 is None
    assert summarise(make_run(calls_of([0.1]), 10.0, prices=prices)).cost_per_1000 is None


def test_what_the_server_did_not_say_is_not_known():
    """And is no 0: neither what it did, nor what its memory costs."""
    prices = {"memory": 1.0}
    result = summarise(make_run(calls_of([0.1]), 10.0, prices=prices))
    f = result.functions["f"]
    assert (f.wakes, f.replica_s, f.worker_s, result.cost_per_1000) == (None,) * 4
    for count, changes in ((1, None), (2, 0)):  # one says nothing of what changed
        server = [sample(at, 0) for at in range(count)]
        said = summarise(make_run(calls_of([0.1]), 10.0, prices=prices, server=server))
        f = said.functions["f"]
        assert (f.wakes, f.worker_s) == (changes, changes)
        assert (f.replica_s, said.cost_per_1000) == (0.0, 0.0)


def test_the_first_items_of_streams():
    """From when a call was to be sent, of right answers; of a function that does not stream none."""
    calls = [
        CallRecord("f", at, at + 0.1, at + 1, 200, first=at + 0.2 + 0.1 * at) for at in range(5)
    ]
    calls.append(CallRecord("f", 5.0, 5.0, 6.0, 200, "wrong_answer", first=5.01))
    f = summarise(make_run(calls, 10.0)).functions["f"]
    assert f.first[0.5].value == pytest.approx(0.4)
    assert f.percentiles[0.5].value == pytest.approx(1.0)
    assert not summarise(make_run(calls_of([0.1]), 10.0)).functions["f"].first


def test_memory_costs_as_long_as_it_is_held():
    """2 GB for 5 of 10 seconds, and a processor second, for ten answers."""
    server = [
        ServerSample(0.0, "f", 0, 0, "asleep", 0, 0, 0, 0.0, 0),
        ServerSample(5.0, "f", 1, 0, "ready", 1, 0, 0, 0.0, 2_000_000_000),
    ]
    prices = {"cpu": 3.6, "memory": 0.36}
    run = make_run(calls_of([0.1] * 10), 10.0, cpu_s=1.0, prices=prices, server=server)
    assert summarise(run).cost_per_1000 == pytest.approx(100 * (0.001 + 0.0001 * 10))


def test_what_the_server_said_counts_from_the_end_of_the_warm_up_on():
    """A wake of the warm-up is none of the run, and its replicas and batches neither."""
    server = [sample(0, 0), sample(4, 2, 1, 10), sample(6, 1, 1, 12), sample(9, 1, 2, 16)]
    f = summarise(make_run(calls_of([0.1]), 10.0, warm_up_s=5.0, server=server)).functions["f"]
    assert (f.wakes, f.worker_s) == (1, 3.0)
    assert f.replica_s == pytest.approx(1 * 2 + 4 * 1)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], 0.0),
        ([sample(0, 2)], 20.0),
        ([sample(1, 0), sample(3, 1), sample(5, 3)], 2 + 15),
        ([sample(0, 1), sample(9, 2), sample(12, 5)], 9 + 2),
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
