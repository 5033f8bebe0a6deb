"""The search for the highest rate at which promises hold."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from deployments.loadtest.results.capacity import (
    LEAST_STEP_S,
    LONGEST_STEP_S,
    MOST_STEPS,
    Capacity,
    CapacitySearch,
)
from deployments.loadtest.results.records import CallRecord, Promise, Run
from deployments.loadtest.results.statistics import find_warm_up
from runtime.errors import DeclarationError
from tests.deployments.loadtest.results.simulated_latencies import make_run
from tests.deployments.loadtest.results.simulated_queue import SERVERS, search
from tests.problems import expect_values

LIMIT_S = 0.05

PROMISES = {"f": Promise(latency_p95_ms=1000 * LIMIT_S)}


def run_at(rate: float, capacity: float, seconds: float = 30.0, **of_run: object) -> Run:
    """Of a server that answers ever fewer calls in time, 95 of 100 at its capacity."""
    late = 1 / (1 + math.exp(-(math.log(0.05 / 0.95) + 12 * math.log(rate / capacity))))
    count = min(int(rate * seconds), 2000)
    calls = [
        CallRecord("f", at, at, at + (2 if (index * 0.618034) % 1 < late else 0.2) * LIMIT_S, 200)
        for index, at in enumerate(seconds * index / count for index in range(count))
    ]
    return make_run(calls, seconds, PROMISES["f"], rates={"f": rate}, **of_run)


def find(
    capacity: float,
    *,
    start: float = 10.0,
    most: float = 5000.0,
    spikes: frozenset[int] = frozenset(),
) -> tuple[Capacity, list[float]]:
    """A whole search, and the rates that it asked for; in steps ``spikes`` the server stood."""
    finder, rates = CapacitySearch(start, most), []
    while (rate := finder.next_rate()) is not None:
        assert len(rates) < MOST_STEPS
        rates.append(rate)
        actual = rate / 3 if len(rates) - 1 in spikes else capacity
        finder.record(rate, run_at(rate, actual))
    return finder.result(), rates


@pytest.mark.parametrize(
    ("capacity", "start"), [(40.0, 160.0), (40.0, 10.0), (777.0, 10.0), (2400.0, 500.0)]
)
def test_the_capacity_is_found(capacity: float, start: float):
    """Within 3 %, from a start above it or below, in steps that never more than double."""
    found, rates = find(capacity, start=start)
    assert found.is_converged
    assert found.rate == pytest.approx(capacity, rel=0.03)
    assert found.low <= found.rate <= found.high <= found.low * 1.05
    assert all(after <= 2.001 * before for before, after in pairwise(rates))
    expect_values(found.words, f"{found.rate:.4g}", f"{found.low:.4g}", f"{found.high:.4g}")


@pytest.mark.parametrize("spike", [0, 5, 9])
def test_one_step_that_met_a_spike_does_not_end_the_search(spike: int):
    """Whichever it is."""
    found, _ = find(100.0, spikes=frozenset({spike}))
    assert found.rate == pytest.approx(100.0, rel=0.04)


def test_a_server_that_holds_the_highest_rate_is_told_so():
    """No more is known; nor where the generator was the limit."""
    found, rates = find(1000.0, most=60.0)
    assert (rates, found.rate, found.high) == ([10, 20, 40, 60], 60.0, math.inf)
    finder = CapacitySearch(10.0, 5000.0)
    while (rate := finder.next_rate()) is not None:
        limit = "it was 2 s late" if rate > 100 else ""
        finder.record(rate, run_at(rate, 1000.0, was_limited=limit))
    assert finder.result().rate == 80.0
    expect_values(finder.result().words, "80", "2 s late")


def test_a_server_that_holds_no_rate_is_told_so():
    """After some halvings."""
    found, rates = find(0.01)
    assert (found.rate, found.is_converged) == (0.0, False)
    assert len(rates) <= 8
    assert found.words.startswith("Not even")
    always_late = CapacitySearch(10.0, 100.0)
    for _ in range(20):
        if (rate := always_late.next_rate()) is None:
            break
        always_late.record(rate, run_at(rate, 100.0, was_limited="late"))
    assert always_late.next_rate() is None


def test_a_search_is_bounded_in_time():
    """And says that it had not converged."""
    finder = CapacitySearch(10.0, 5000.0, longest_s=150.0)
    while (rate := finder.next_rate()) is not None:
        finder.record(rate, run_at(rate, 700.0))
    found = finder.result()
    assert sum(step.seconds for step in found.steps) <= 150
    assert not found.is_converged
    assert CapacitySearch(1.0, 2.0).result().words == "Nothing was tried."


@pytest.mark.parametrize(
    ("limited", "runs", "words"),
    [
        pytest.param({0, 1, 2, 3, 4}, 5, "Nothing was tried: .* 2 s late", id="all of them"),
        pytest.param({4}, 5, "80 .* 2 s late", id="the last"),
        pytest.param(
            {1}, 5, r"80 calls a second hold, more were not tried\.", id="one, and then not"
        ),
    ],
)
def test_runs_in_which_the_generator_was_the_limit_take_of_the_time(limited, runs, words):
    """Of 150 s, 30 each; the search says that it was."""
    finder, sent = CapacitySearch(10.0, 5000.0, longest_s=150.0), 0
    while (rate := finder.next_rate()) is not None:
        limit = "it was 2 s late" if sent in limited else ""
        finder.record(rate, run_at(rate, 1000.0, was_limited=limit))
        sent += 1
    assert sent == runs
    assert re.search(words, finder.result().words)


def test_sequences_that_go_on_after_a_step():
    """They count for as long as their calls came; what was ended in the end breaks no promise."""
    run = run_at(20.0, 1000.0)
    last = run.calls[-1].intended
    ended = [CallRecord("f", last, last, last + 60, 0, "ended")] * 100
    steps = [
        CapacitySearch(20.0, 100.0).record(20.0, replace(run, seconds=20.0, calls=calls))
        for calls in (run.calls, [*run.calls, *ended])
    ]
    assert steps[0] == steps[1]
    (trial,) = steps[0].trials.values()
    warm_up = find_warm_up(run.calls).seconds
    assert (steps[0].seconds, trial.seconds) == (20.0, pytest.approx(last - warm_up))


def test_a_step_is_long_enough_for_each_promise():
    """At its rate, and never beyond what is left."""
    finder = CapacitySearch(10.0, 5000.0, longest_s=400.0)
    assert finder.next_seconds({"f": Promise(success=1)}, {"f": 10.0}) == LEAST_STEP_S
    first = finder.next_seconds({"f": Promise(latency_p99_ms=50)}, {"f": 10.0})
    assert first == pytest.approx(58, abs=1)
    assert finder.next_seconds({"f": Promise(latency_p99_ms=50)}, {"f": 0.1}) == 400.0
    while (rate := finder.next_rate()) is not None:
        seconds = finder.next_seconds(PROMISES, {"f": rate})
        assert seconds >= LEAST_STEP_S
        finder.record(rate, run_at(rate, 100.0, seconds))


@pytest.mark.parametrize(("start", "most"), [(0.0, 1.0), (2.0, 1.0), (1.0, math.nan)])
def test_a_range_that_is_none_is_refused(start: float, most: float):
    """As is a server that promises nothing."""
    with pytest.raises(DeclarationError, match="calls a second"):
        CapacitySearch(start, most)
    with pytest.raises(DeclarationError, match="slo"):
        CapacitySearch(1.0, 2.0).record(1.0, make_run([], 10.0))


@pytest.mark.slow
def test_a_queue_is_searched():
    """What is found is near what long runs hold."""
    server = SERVERS["one worker, no batches"]
    found = search(server, seed=2, start=50.0)
    assert found.is_converged
    assert found.rate == pytest.approx(server.capacity, rel=0.05)


@pytest.mark.slow
def test_a_capacity_that_half_an_hour_does_not_tell():
    """Where service times have a heavy tail the share of slow calls hardly rises with the rate: the
    search says how far it came, and how much longer it would have to be.
    """
    server = SERVERS["heavy tail"]
    found = search(server, seed=3, longest_s=600.0)
    assert not found.is_converged
    assert found.low < server.capacity < found.high
    assert found.steps[0].seconds == LEAST_STEP_S
    assert max(step.seconds for step in found.steps) == LONGEST_STEP_S
    expect_values(found.words, "before it had converged", "min more", "--for")


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", SERVERS)
def test_five_searches_differ_by_at_most_five_per_cent(label: str):
    """And are as near to what long runs hold."""
    truth = SERVERS[label].capacity
    rates = [search(SERVERS[label], seed).rate for seed in range(5)]
    assert max(rates) - min(rates) <= 0.05 * sorted(rates)[2]
    assert all(abs(rate / truth - 1) <= 0.05 for rate in rates), (truth, rates)
