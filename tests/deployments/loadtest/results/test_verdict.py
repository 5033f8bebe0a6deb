"""PASS, FAIL and UNSURE, and how often they are wrong."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from deployments.loadtest.results.records import CallRecord, Promise
from deployments.loadtest.results.verdict import PARTS, judge, shortest_seconds
from tests.deployments.loadtest.results.false_verdicts import count_outcomes
from tests.deployments.loadtest.results.simulated_latencies import (
    SERVERS,
    independent,
    make_run,
    run_of,
)


def calls_of(count: int, *, failed: int = 0, cold: int = 0, name: str = "f") -> list[CallRecord]:
    """Calls of 10 ms in a minute, mixed; so many of them failed, and so many found it asleep."""
    order = np.random.default_rng(0).permutation(count).tolist()
    return [
        CallRecord(
            name,
            60 * index / count,
            60 * index / count,
            60 * index / count + 0.01,
            500 if place < failed else 200,
            "internal" if place < failed else "",
            is_warm=place >= cold,
        )
        for index, place in enumerate(order)
    ]


@pytest.mark.parametrize(
    ("promise", "calls", "outcome"),
    [
        (Promise(latency_p95_ms=20), calls_of(6000), "PASS"),
        (Promise(latency_p95_ms=5), calls_of(6000), "FAIL"),
        (Promise(latency_p95_ms=20), calls_of(6000, failed=500), "FAIL"),
        (Promise(latency_p95_ms=20), calls_of(6000, failed=300), "UNSURE"),
        (Promise(latency_p50_ms=20, latency_p99_ms=20), calls_of(6000), "PASS"),
        (Promise(latency_p50_ms=5, latency_p99_ms=20), calls_of(6000), "FAIL"),
        (Promise(latency_p99_ms=20), calls_of(300), "UNSURE"),
        (Promise(latency_p99_ms=20), [], "UNSURE"),
        (Promise(success=0.99), calls_of(6000, failed=10), "PASS"),
        (Promise(success=0.99), calls_of(6000, failed=60), "UNSURE"),
        (Promise(success=0.99), calls_of(6000, failed=200), "FAIL"),
        (Promise(success=0.999), calls_of(2000), "UNSURE"),
        (Promise(success=1), calls_of(6000), "PASS"),
        (Promise(success=1), calls_of(6000, failed=1), "FAIL"),
        (Promise(success=1), [], "UNSURE"),
        (Promise(warm=0.9), calls_of(6000, cold=10), "PASS"),
        (Promise(warm=0.9), calls_of(6000, cold=3000), "FAIL"),
        (Promise(warm=0.9), [call._replace(is_warm=None) for call in calls_of(600)], "UNSURE"),
        (Promise(), calls_of(10), None),
        (None, calls_of(10), None),
    ],
)
def test_a_promise_is_judged(promise: Promise | None, calls: list[CallRecord], outcome: str | None):
    """By the share of calls that break it; a failed call breaks every promise of latency."""
    verdict = judge(make_run(calls, 60.0, promise))
    assert verdict.outcome == outcome
    assert verdict.exit_status == {"PASS": 0, "FAIL": 1, "UNSURE": 2, None: 0}[outcome]
    assert outcome is None or verdict.words.startswith(outcome)


@pytest.mark.parametrize(
    ("promise", "failed", "ended", "outcome"),
    [
        (Promise(success=0.9), 0, 100, "PASS"),
        (Promise(success=0.9), 0, 3000, "UNSURE"),
        (Promise(success=0.9), 1500, 100, "FAIL"),
        (Promise(success=1), 0, 5, "UNSURE"),
        (Promise(success=1), 1, 5, "FAIL"),
        (Promise(latency_p95_ms=20), 0, 3000, "UNSURE"),
        (Promise(latency_p95_ms=5), 0, 3000, "FAIL"),
    ],
)
def test_calls_under_way_when_it_was_ended_let_nothing_pass_and_nothing_fail(
    promise: Promise, failed: int, ended: int, outcome: str
):
    """What would have become of them is not known."""
    calls = calls_of(6000, failed=failed)
    calls[-ended:] = [call._replace(status=0, code="ended") for call in calls[-ended:]]
    assert judge(make_run(calls, 60.0, promise, is_partial=True)).outcome == outcome


def test_one_broken_promise_fails_and_one_unsure_makes_unsure():
    """Of two functions; the words name it with what was measured and promised."""
    calls = sorted(
        [*calls_of(6000), *calls_of(6000, failed=300, name="g")], key=lambda call: call.intended
    )
    run = make_run(calls, 60.0, rates={"f": 100.0, "g": 100.0})
    for promises, outcome, named in (
        ({"f": Promise(latency_p95_ms=5), "g": Promise(success=0.5)}, "FAIL", "f: p95 10 ms"),
        ({"f": Promise(latency_p95_ms=20), "g": Promise(success=0.95)}, "UNSURE", "g: 95 %"),
        ({"f": Promise(latency_p95_ms=20), "g": Promise(success=0.5)}, "PASS", "all 2 promises"),
    ):
        verdict = judge(make_run(calls, 60.0, rates=run.rates, promises=promises))
        assert verdict.outcome == outcome
        assert named in verdict.words


def test_unsure_says_how_much_longer():
    """A run that long decides, mostly; near the promise none within a day does."""
    promise = {"latency_p95_ms": 1000 * 1.04 * independent().percentile(0.95)}
    verdict = judge(run_of(independent(), promise, 10.0, seed=0))
    assert verdict.outcome == "UNSURE"
    assert verdict.seconds_more is not None
    again = Counter(
        judge(run_of(independent(), promise, 10 + verdict.seconds_more, seed)).outcome
        for seed in range(2, 8)
    )
    assert again["PASS"] >= 3
    near = judge(make_run(calls_of(6000, failed=300), 60.0, Promise(success=0.95)))
    assert (near.outcome, near.seconds_more) == ("UNSURE", None)
    assert "a day" in near.words


def test_sequences_that_go_on_after_the_load_are_judged_by_their_time():
    """As those of a load that took as long."""
    promise = {"latency_p95_ms": 1000 * 1.04 * independent().percentile(0.95)}
    run = run_of(independent(), promise, 10.0, seed=0)
    whole = judge(replace(run, seconds=run.calls[-1].intended))
    assert whole.seconds_more is not None
    assert judge(replace(run, seconds=5.0)) == whole


def test_a_generator_that_was_the_limit_decides_nothing():
    """Neither that the server is good, nor that it is not."""
    for limit in (5, 20):
        promise = Promise(latency_p95_ms=limit, success=1)
        verdict = judge(make_run(calls_of(6000), 60.0, promise, was_limited="it was 2 s late"))
        assert (verdict.outcome, verdict.seconds_more) == ("UNSURE", None)
        assert "2 s late" in verdict.words


def test_latency_that_grows_all_along_does_not_pass():
    """A longer run would break the promise; a broken one is one."""
    calls = [
        call._replace(done=call.intended + 0.01 * (1 + call.intended)) for call in calls_of(6000)
    ]
    unsure = judge(make_run(calls, 60.0, Promise(latency_p95_ms=2000)))
    assert (unsure.outcome, unsure.is_growing) == ("UNSURE", True)
    assert "grew" in unsure.words
    assert judge(make_run(calls, 60.0, Promise(latency_p95_ms=20))).outcome == "FAIL"
    ramp = make_run(calls, 60.0, Promise(latency_p95_ms=2000), shape="ramp --rps 100")
    assert judge(ramp).outcome == "PASS"


def test_a_warm_up_counts_for_nothing():
    """And an end before its time is told."""
    calls = [call._replace(done=call.done + (call.intended < 6)) for call in calls_of(6000)]
    promise = Promise(latency_p95_ms=20)
    assert judge(make_run(calls, 60.0, promise)).outcome != "PASS"
    verdict = judge(make_run(calls, 60.0, promise, warm_up_s=6.0, is_partial=True))
    assert verdict.outcome == "PASS"
    assert "before its time" in verdict.words


@pytest.mark.parametrize(
    ("promise", "rate", "expected"),
    [
        (Promise(), 100.0, 0.0),
        (Promise(success=1), 100.0, 0.0),
        (Promise(latency_p50_ms=1), 1000.0, 0.56),
        (Promise(latency_p95_ms=1), 1000.0, 7.6),
        (Promise(latency_p95_ms=1), 1.0, 76.3),
        (Promise(latency_p99_ms=1), 1000.0, 38.9),
        (Promise(success=0.999), 100.0, 39.1),
        (Promise(latency_p95_ms=1, success=0.999), 100.0, 39.1),
        (Promise(latency_p95_ms=1), 0.0, math.inf),
    ],
)
def test_how_long_a_run_must_be_is_known_before_it(promise: Promise, rate: float, expected: float):
    """By the promise that needs most; a run without a slow call passes from there on."""
    seconds = shortest_seconds(promise, rate)
    assert seconds == pytest.approx(expected, rel=0.03)
    if 0 < seconds < math.inf:
        for factor, outcome in ((1.02, "PASS"), (0.9, "UNSURE")):
            long = factor * seconds
            calls = [
                CallRecord("f", at, at, at + 0.0001, 200)
                for at in np.linspace(0, long, round(rate * long), endpoint=False).tolist()
            ]
            assert judge(make_run(calls, long, promise)).outcome == outcome


@pytest.mark.slow
def test_false_verdicts_are_rare():
    """At most one of twenty, on servers of known latency a little to either side of the promise."""
    for label in ("independent", "bursty, heavy tail"):
        seen = count_outcomes(SERVERS[label], range(15), 20, (0.97, 1.03))
        for name in PARTS:
            assert seen[name, 0.97]["PASS"] <= 2, (label, name, seen)
            assert seen[name, 1.03]["FAIL"] <= 2, (label, name, seen)
    seen = count_outcomes(SERVERS["independent"], range(8), 20, (0.7, 1.4))
    assert seen["latency_p95_ms", 0.7]["FAIL"] == 8
    assert seen["latency_p95_ms", 1.4]["PASS"] == 8


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", SERVERS)
def test_false_verdicts_are_at_most_five_of_a_hundred(label: str):
    """Of 200 runs of a minute, for each percentile and margin; three standard deviations of luck
    are left to the count.
    """
    seen = count_outcomes(SERVERS[label], range(1000, 1200), 60)
    for (name, margin), outcomes in seen.items():
        false = outcomes["PASS" if margin < 1 else "FAIL"]
        assert false <= 10 + 9, (name, margin, outcomes)
