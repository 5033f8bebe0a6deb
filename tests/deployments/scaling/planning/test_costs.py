"""Prices, and what comes of them."""

from __future__ import annotations

import pytest

from deployments.scaling.planning.costs import (
    MONTH_S,
    Costs,
    Prices,
    cost_of,
    parse_prices,
    sum_costs,
)
from runtime.errors import RequestError
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("text", "prices"),
    [
        ("", Prices()),
        ("cpu=0.04", Prices(cpu=0.04)),
        (" cpu=0.04, gpu=1.2 ,memory=0", Prices(0.04, 1.2, 0.0)),
    ],
)
def test_prices_are_by_the_hour(text, prices):
    """Of a core, a GPU, a GB."""
    assert parse_prices(text) == prices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("disk=3", ["'disk'", "cpu", "memory"]),
        ("cpu", ["'cpu'", "cpu=0.04"]),
        ("cpu=-1", ["'cpu=-1'"]),
        ("cpu=nan", ["'cpu=nan'"]),
        ("cpu=inf", ["'cpu=inf'"]),
        ("gpu=1e300", ["'gpu=1e300'"]),
        ("cpu=1,cpu=2", ["'cpu'", "two prices"]),
    ],
)
def test_what_is_no_price_is_refused(text, words):
    """With the units that there are."""
    with pytest.raises(RequestError) as refused:
        parse_prices(text)
    assert refused.value.where == "--price"
    expect_values(refused.value, *words)


def test_a_cost_is_of_an_hour_of_each():
    """Two cores, half a GPU and 3 GB for a tenth of an hour, in which 500 calls came."""
    prices = Prices(cpu=1.0, gpu=10.0, memory=0.1)
    found = cost_of(prices, 2 * 360.0, 0.5 * 360.0, 3 * 360.0, calls=500, seconds=360.0)
    assert found.per_1000 == pytest.approx(2 * (0.2 + 0.5 + 0.03))
    assert found.month == pytest.approx(730 * (2 + 5 + 0.3))
    assert found.gpu_month == pytest.approx(730 * 5)


def test_without_a_price_nothing_has_a_cost():
    """And what has no calls has none by the call."""
    assert cost_of(Prices(), 1.0, 1.0, 1.0, calls=1, seconds=1.0) is None
    assert cost_of(Prices(cpu=1.0), 1.0, 0.0, 0.0, calls=0, seconds=1.0).per_1000 is None
    assert sum_costs([(None, 5)], 1.0) is None


def test_costs_add_up():
    """By the calls of each."""
    one, other = Costs(1.0, MONTH_S, 0.0), Costs(None, MONTH_S, MONTH_S)
    found = sum_costs([(one, 1000), (other, 0)], 1.0)
    assert (found.per_1000, found.month, found.gpu_month) == (2.0, 2 * MONTH_S, MONTH_S)
