"""Intervals of shares and percentiles of calls that depend on their neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from deployments.loadtest.results.dependence import (
    Share,
    count_breaches,
    design_effect,
    estimate_percentile,
    estimate_share,
    estimate_slower,
    needed_calls,
    needed_seconds,
    stall_calls_of,
    times_until,
)
from tests.deployments.loadtest.results.simulated_latencies import SERVERS, independent


@pytest.mark.parametrize(
    ("share", "calls", "low", "high"),
    [
        (0.0, 20, 0.0, 0.1684),
        (0.5, 10, 0.1871, 0.8129),
        (0.05, 100, 0.0164, 0.1128),
        (1.0, 20, 0.8316, 1.0),
    ],
)
def test_an_interval_of_independent_calls_is_the_exact_one(
    share: float, calls: float, low: float, high: float
):
    """Clopper and Pearson's, from their table."""
    assert Share(share, calls, calls).interval(0.025) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("length", [1, 10, 100])
def test_calls_that_go_together_are_worth_fewer(length: int):
    """Each answer given so many times in a row is worth one."""
    dice = np.random.default_rng(1)
    flags = np.repeat(dice.random(100_000 // length) < 0.2, length)
    effect, _ = design_effect(flags, int(flags.sum()))
    assert effect == pytest.approx(length, rel=0.6)
    share = estimate_share(flags)
    assert share.independent == pytest.approx(100_000 / length, rel=0.5)
    assert share.value == pytest.approx(flags.mean())


def test_a_long_streak_is_one_observation():
    """A pause in which a twentieth of the calls are slow does not tell how often pauses come."""
    flags = np.zeros(10_000, dtype=bool)
    flags[4000:4500] = True
    low, high = estimate_share(flags).interval()
    assert low < 0.01
    assert high > 0.15


@pytest.mark.parametrize(("part", "calls", "has_end"), [(0.95, 78, True), (0.95, 75, False)])
def test_a_percentile_of_too_few_calls_has_no_upper_end(part: float, calls: int, *, has_end: bool):
    """They do not show that the slowest has been seen."""
    latencies = np.random.default_rng(0).permutation(np.linspace(1, 2, calls))
    estimate = estimate_percentile(latencies, part, seconds=3600.0)
    assert math.isfinite(estimate.high) is has_end
    assert estimate.low <= estimate.value <= estimate.high


def test_no_call_has_no_percentile_and_failed_ones_are_above_all():
    """Infinity where more calls have failed than the percentile leaves out."""
    assert math.isnan(estimate_percentile(np.array([]), 0.5, 60.0).value)
    latencies = np.array([*np.full(900, 0.01), *np.full(100, np.inf)])
    np.random.default_rng(0).shuffle(latencies)
    assert estimate_percentile(latencies, 0.5, 60.0).value == 0.01
    assert estimate_percentile(latencies, 0.95, 60.0).value == math.inf


@pytest.mark.parametrize("part", [0.5, 0.95, 0.99])
def test_an_interval_is_the_limits_that_the_calls_do_not_decide(part: float):
    """At its ends the share of slower calls decides, just within it does not."""
    dice = np.random.default_rng(3)
    for server in SERVERS.values():
        times = np.sort(dice.random(4000)) * 60
        latencies = server.draw(dice, times)
        _, low, high = estimate_percentile(latencies, part, 60.0)
        stall_calls = stall_calls_of(latencies, 60.0)
        if math.isfinite(high):
            assert estimate_slower(latencies, high, stall_calls).interval()[1] <= 1 - part
            within = estimate_slower(latencies, high * (1 - 1e-9), stall_calls)
            assert within.interval()[1] > 1 - part
        assert estimate_slower(latencies, low * (1 - 1e-9), stall_calls).interval()[0] > 1 - part


def test_needed_calls_are_those_that_just_decide():
    """All inside: as many as are needed show it, a hundredth fewer do not."""
    for part in (0.5, 0.95, 0.99, 0.999):
        calls = needed_calls(part)
        assert Share(0.0, calls, calls * 1.001).interval()[1] <= 1 - part
        assert Share(0.0, calls, calls * 0.99).interval()[1] > 1 - part
    assert needed_seconds(0.99, 0.0, is_latency=True) == math.inf
    assert needed_seconds(0.99, 1.0, is_latency=True) == pytest.approx(389, abs=1)
    assert needed_seconds(0.99, 1000.0, is_latency=True) == pytest.approx(38.9, abs=0.1)
    assert needed_seconds(0.99, 1000.0, is_latency=False) == pytest.approx(0.389, abs=0.001)


def test_few_slow_calls_are_not_taken_for_independent():
    """None slow in half a minute does not show a p99: a stall of a tenth of a second may come."""
    latencies = np.full(30_000, 0.01)
    for seconds, is_shown in ((30.0, False), (42.0, True)):
        stall_calls = stall_calls_of(latencies, seconds)
        assert (estimate_slower(latencies, 0.02, stall_calls).interval()[1] < 0.01) is is_shown


@pytest.mark.parametrize(
    ("is_decided", "expected"),
    [
        (lambda times: times >= 7, 7.0),
        (lambda _: True, 1.0),
        (lambda _: False, None),
    ],
)
def test_the_smallest_factor_is_found(is_decided: Callable[[float], bool], expected: float | None):
    """Within a hundredth, or none."""
    found = times_until(is_decided, 1000.0)
    assert found == (expected if expected is None else pytest.approx(expected, rel=0.011))


def test_breaches_are_counted_with_what_they_are_worth():
    """Calls that break a promise in runs of ten are worth a tenth of as many; without any, or of no
    calls, each is worth one.
    """
    spread = np.arange(4000) % 20 == 0
    in_runs = np.arange(4000) % 200 < 10
    assert count_breaches(spread, 0.05) == (4000, 200, 1.0, 0.05)
    calls, broken, effect, _ = count_breaches(in_runs, 0.05)
    assert (calls, broken) == (4000, 200)
    assert effect == pytest.approx(9.0, rel=0.3)
    assert count_breaches(np.zeros(30, dtype=bool), 0.0) == (30, 0, 1.0, 0.0)
    assert count_breaches(np.zeros(0, dtype=bool), 0.1) == (0, 0, 1.0, 0.1)


@pytest.mark.full
@pytest.mark.slow
def test_intervals_contain_the_truth_as_often_as_they_say():
    """Of independent calls, 95 of 100; more are too wide, fewer are wrong."""
    server, inside = independent(), 0
    for seed in range(400):
        dice = np.random.default_rng(seed)
        latencies = server.draw(dice, np.sort(dice.random(6000)) * 60)
        _, low, high = estimate_percentile(latencies, 0.95, 60.0)
        inside += low <= server.percentile(0.95) <= high
    assert 0.93 <= inside / 400 <= 0.995
