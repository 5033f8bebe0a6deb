"""What runs at several rates say of a capacity: as much as they know of it, and no more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.loadtest.results.capacity_fit import GRID, CapacityTrial, fit_capacity

CAPACITY = 100.0


def trial(
    rate: float,
    *,
    steepness: float = 10.0,
    seconds: float = 60.0,
    allowed: float = 0.05,
    noise: float = 0.0,
    effect: float = 1.0,
) -> CapacityTrial:
    """Of a server whose share of slow calls rises so steeply about its capacity; ``noise`` is of
    its log-odds.
    """
    odds = math.exp(steepness * math.log(rate / CAPACITY) + noise) * allowed / (1 - allowed)
    calls = round(rate * seconds)
    return CapacityTrial(rate, seconds, calls, round(calls * odds / (1 + odds)), effect, allowed)


@pytest.mark.parametrize(
    ("broken", "allowed", "is_above"),
    [(0, 0.001, False), (0, 0.0, False), (3, 0.0, True), (40, 0.05, False), (60, 0.05, True)],
)
def test_the_excess_is_above_nothing_where_more_than_may_break_the_promise(
    broken: int, allowed: float, *, is_above: bool
):
    """Finite at either end."""
    for calls in (1000, broken or 1):
        excess = CapacityTrial(10.0, 60.0, calls, broken, 1.0, allowed).excess
        assert (excess > 0) is (is_above or calls == broken)
        assert math.isfinite(excess)


@pytest.mark.parametrize("steepness", [2.0, 5.0, 12.0, 60.0])
@pytest.mark.parametrize("allowed", [0.5, 0.05, 0.01])
def test_the_capacity_and_the_steepness_are_found_together(steepness: float, allowed: float):
    """From rates on both sides, whichever they are."""
    rates = [CAPACITY * math.exp(step / steepness) for step in (-0.7, -0.5, -0.3, 0.2, 0.5, 0.7)]
    fit = fit_capacity([trial(rate, steepness=steepness, allowed=allowed) for rate in rates])
    assert fit.rate == pytest.approx(CAPACITY, rel=0.02)
    assert fit.low / GRID <= CAPACITY <= GRID * fit.high
    assert fit.steepness == pytest.approx(steepness, rel=0.3)
    assert fit.near == 6


def test_the_same_runs_say_less_where_calls_hang_together():
    """And where the share rises slowly: the interval is wider."""

    def width(effect: float, steepness: float = 10.0) -> float:
        rates = (93.0, 97.0, 101.0, 105.0)
        trials = [trial(rate, steepness=steepness, effect=effect) for rate in rates]
        return fit_capacity(trials).width

    assert width(1.0) < width(10.0) < width(40.0)
    assert width(10.0, steepness=10.0) < width(10.0, steepness=3.0)


def test_runs_that_scatter_by_more_than_they_show_say_less():
    """Something else changes from run to run."""
    rates = [94.0, 96.0, 98.0, 102.0, 104.0, 106.0]
    calm = fit_capacity([trial(rate) for rate in rates])
    signs = (1, -1, 1, -1, 1, -1)
    off = [trial(rate, noise=0.5 * sign) for rate, sign in zip(rates, signs, strict=True)]
    assert fit_capacity(off).width > 2 * calm.width


def test_one_run_that_fits_no_line_is_outvoted():
    """Wherever it is."""
    rates = [94.0, 96.0, 98.0, 100.0, 102.0, 104.0, 106.0]
    for index in range(len(rates)):
        trials = [trial(rate) for rate in rates]
        trials[index] = trial(rates[index], noise=5.0)
        assert fit_capacity(trials).rate == pytest.approx(CAPACITY, rel=0.03), index


def test_runs_far_away_say_only_on_which_side_they_are():
    """However many calls they have, and however far: the line does not hold there."""
    near = [trial(rate, seconds=120.0) for rate in (95.0, 98.0, 102.0, 105.0)]
    alone = fit_capacity(near)
    far = [trial(10.0, steepness=0.7, seconds=1e4), trial(400.0, steepness=2.0, seconds=1e4)]
    both = fit_capacity([*near, *far])
    assert both.rate == pytest.approx(alone.rate, rel=0.01)
    assert both.near == alone.near


def test_where_no_call_may_break_the_promise_a_run_holds_or_does_not():
    """The capacity lies between the two."""
    held = [CapacityTrial(rate, 20.0, 2000, 0, 1.0, 0.0) for rate in (40.0, 80.0, 95.0)]
    broken = [CapacityTrial(rate, 20.0, 2000, 3, 1.0, 0.0) for rate in (160.0, 105.0)]
    fit = fit_capacity([*held, *broken])
    assert 93 < fit.rate < 107
    assert 80 < fit.low < fit.high < 160


def draw(seed: int, count: int, effect: float = 20.0) -> Sequence[CapacityTrial]:
    """Runs of calls that come slow in bursts: a burst is as many calls as ``effect``."""
    dice = np.random.default_rng(seed)
    found = []
    for index in range(count):
        made = trial(96.0 if index % 2 else 104.0)
        bursts = dice.poisson(made.broken / effect)
        found.append(made._replace(broken=int(bursts * effect), effect=effect))
    return found


@pytest.mark.full
@pytest.mark.slow
def test_an_interval_has_the_truth_as_often_as_it_says():
    """Nine times of ten, or oftener."""
    drawn = [draw(seed, 12) for seed in range(300)]
    fits = [fit_capacity(of) for of in drawn if len({one.excess > 0 for one in of}) == 2]
    assert len(fits) > 280
    assert sum(fit.low <= CAPACITY <= fit.high for fit in fits) >= 0.88 * len(fits)
