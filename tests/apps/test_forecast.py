"""Demand and reordering: the arithmetic, the words and the refusals."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest

from apps.forecast import DAYS, HORIZON, MOST, features, forecast_error, plan
from runtime.graph.python_stages import signature
from wakeful import RequestError

FLAT = np.ones(HORIZON, np.float32)
WEEKS = [8.0, 12.0] * 14  # a mean of 10, a standard deviation of 2.04


def order(sales=WEEKS, ratios=FLAT, **options):
    options = {"stock_on_hand": 0.0, "lead_time_days": 4, "service_level": 0.5, **options}
    return plan(ratios, sum(sales[-DAYS:]) / DAYS, sales, **options)


def test_features_have_no_scale():
    """Ten times the sales are the same features, and the weekday is a flag."""
    small, large = features(WEEKS, 2), features([10 * units for units in WEEKS], 2)
    assert np.allclose(small["features"], large["features"])
    assert (small["daily_mean"], large["daily_mean"]) == (10, 100)
    assert small["features"][DAYS:].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert features(WEEKS)["features"][DAYS:].tolist() == [0] * 7


def test_only_the_last_days_are_features():
    """A long history has the features of its end."""
    assert np.array_equal(features([999.0] * 50 + WEEKS)["features"], features(WEEKS)["features"])


@pytest.mark.parametrize("units", [-1.0, math.nan, math.inf, 1e13, 1e300])
def test_a_day_that_is_no_number_is_refused(units):
    """With its place."""
    with pytest.raises(RequestError) as refused:
        features([*WEEKS, units])
    assert refused.value.where == "daily_sales[28]"


def test_the_largest_numbers_that_are_taken_make_a_plan():
    """Nothing of it overflows."""
    most = [MOST, 0.0] * 14
    assert order(most, service_level=0.999, stock_on_hand=MOST)["reorder_quantity"] > 0
    assert np.isfinite(features(most)["features"]).all()


def test_an_even_chance_needs_no_safety_stock():
    """Demand of the lead time, less the stock, rounded up to whole units."""
    assert order()["expected_demand"] == 40
    assert order()["safety_stock"] == 0
    assert order(stock_on_hand=10.5)["reorder_quantity"] == 30
    assert order()["daily_demand"] == [10, 10, 10, 10]


def test_a_higher_service_level_orders_more():
    """1.645 standard deviations of the lead time's demand for 95 %."""
    assert order(service_level=0.95)["safety_stock"] == pytest.approx(
        1.645 * np.std(WEEKS, ddof=1) * 2, abs=0.01
    )


def test_enough_stock_orders_nothing():
    """And says how much is to spare."""
    answer = order(stock_on_hand=45.0)
    assert answer["reorder_quantity"] == 0
    assert "order nothing, 5.0 are to spare" in answer["reasoning"]


def test_nothing_sold_orders_nothing():
    """Zeros are a history too; a model's remainder below zero is none."""
    assert not features([0.0] * DAYS)["features"].any()
    assert order([0.0] * DAYS)["reorder_quantity"] == 0
    assert order(ratios=-FLAT)["expected_demand"] == 0


def test_a_long_history_knows_its_drifts():
    """Sales that halve every month were never forecast well by their mean, so the error is larger
    than their scatter.
    """
    falling = [1000 * 0.5 ** (day / 30) for day in range(120)]
    assert forecast_error(falling, 14) > 1.5 * forecast_error(falling[-DAYS:], 14)
    assert forecast_error([5.0] * 200, 14) == 0


def test_the_words_hold_the_numbers():
    """A reader can follow the sum."""
    assert order(service_level=0.9, stock_on_hand=3.0)["reasoning"] == (
        "About 40.0 units should sell in the 4 days until an order arrives; the last 28 days averaged 10.0 a day. Demand of such a time "
        "strays by 4.1, so 5.2 more keep the chance of lasting at 90.0%. With 3.0 in stock: order 43."
    )


def test_the_schema():
    """Fields that may be left out have a default."""
    fields = {
        param.name: param.is_required
        for stage in (features, plan)
        for param in signature.read_signature(stage).params
    }
    assert fields["daily_sales"]
    assert fields["lead_time_days"]
    assert not fields["service_level"]
    assert not fields["weekday_of_last_day"]


def test_the_model_answers_ratios(models):
    """float32 [rows, 14], near 1 for a history without a shape."""
    session = ort.InferenceSession(
        str(models / "forecast" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    rows = np.stack([features([7.0] * DAYS)["features"], features(WEEKS, 3)["features"]])
    (ratios,) = session.run(None, {"features": rows})
    assert ratios.shape == (2, HORIZON)
    assert np.abs(ratios[0] - 1).max() < 1e-5
    assert np.abs(ratios[1] - 1).max() < 0.2
