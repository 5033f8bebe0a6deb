"""How measured seconds differ."""

from __future__ import annotations

import statistics

import pytest

from deployments.scaling.planning.spreads import (
    SHARES,
    drift_of,
    groups_of,
    never_falling,
    shares_of,
    spreads_of,
)


@pytest.mark.parametrize("count", [1, 3, 39, 40, 41, 1000])
def test_shares_keep_the_mean_and_the_slowest(count):
    """Equal shares, each by its mean, from the smallest on."""
    values = [float(number * number) for number in range(count)]
    shares = shares_of(values[::-1])
    assert len(shares) == min(SHARES, count)
    assert list(shares) == sorted(shares)
    assert shares[-1] >= values[-1 - count // SHARES]
    assert statistics.fmean(shares) == pytest.approx(statistics.fmean(values), rel=0.1)


def test_few_runs_have_the_spread_of_all():
    """Two say nothing of their own; nothing that takes no time differs."""
    many = [1.0] * 60 + [3.0] * 20
    own, few, none = spreads_of([many, [0.5, 0.5], [0.0, 0.0]])
    assert own == few
    assert max(own) == 3.0
    assert none == own
    assert spreads_of([[2.0]]) == [(1.0,)]


@pytest.mark.parametrize(
    ("rounds", "drift"),
    [
        ([], 0.0),
        ([[1.0]], 0.0),
        ([[1.0, 1.0, 1.0]], 0.0),
        ([[1.0, 1.0, 1.1]], 0.1),
        ([[1.0, 1.0, 0.8], [1.0, 1.0, 1.0], [2.0, 2.0, 2.2]], 0.1),
        ([[0.0, 0.0, 1.0]], 0.0),
    ],
)
def test_drift_is_how_far_rounds_lie_apart(rounds, drift):
    """Of the point in the middle."""
    assert drift_of(rounds) == pytest.approx(drift)


@pytest.mark.parametrize(
    ("count", "groups"),
    [(1, ["abcdefg"]), (2, ["abcd", "efg"]), (3, ["ab", "cde", "fg"]), (7, list("abcdefg"))],
)
def test_groups_are_of_about_the_same_size(count, groups):
    """Neighbours, and none is left out."""
    assert groups_of("abcdefg", count) == groups


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ([], []),
        ([1, 2, 3], [1, 2, 3]),
        ([2, 1], [1.5, 1.5]),
        ([1, 3, 2, 4], [1, 2.5, 2.5, 4]),
        ([3, 1, 2], [2, 2, 2]),
        ([1, 4, 3, 2, 2.5], [1, 2.875, 2.875, 2.875, 2.875]),
    ],
)
def test_values_that_fall_by_chance_are_levelled(values, level):
    """Those that fall have the mean of all that they would cross."""
    assert never_falling(values) == pytest.approx(level)
