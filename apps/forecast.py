"""How much of an item to reorder: demand of the next days from the last 28, a safety stock for the
service level, and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import RequestError, Shape

DAYS, HORIZON = 28, 14

MOST = 1e12
"""Units a day, or in stock: more than are sold of anything, and their squares are numbers still."""

Sales = Annotated[
    list[float],
    Field(
        min_length=DAYS,
        max_length=3660,
        description="Units sold a day, oldest first, no day left out.",
    ),
]
Weekday = Annotated[
    int,
    Field(ge=0, le=6, description="Weekday of the last day, Monday is 0; leave it out if unknown."),
]
Stock = Annotated[
    float,
    Field(ge=0, le=MOST, allow_inf_nan=False, description="Units on the shelf and in the back."),
]
LeadTime = Annotated[
    int, Field(ge=1, le=HORIZON, description="Days until an order placed now is on the shelf.")
]
ServiceLevel = Annotated[
    float, Field(ge=0.5, le=0.999, description="Wanted chance that the stock lasts until then.")
]
Features = Annotated[NDArray[np.float32], Shape(DAYS + 7)]
Ratios = Annotated[NDArray[np.float32], Shape(HORIZON)]


class History(TypedDict):
    """The model's input, and the mean that its answer is a multiple of, in units a day."""

    features: Features
    daily_mean: float


class Plan(TypedDict):
    """What the caller gets, in units of the item."""

    expected_demand: float
    safety_stock: float
    reorder_quantity: int
    daily_demand: list[float]
    reasoning: str


def lag_features(
    last: Sequence[float] | NDArray[np.float64], weekday: int | None
) -> NDArray[np.float32]:
    """float32 [35]: the last 28 days over their mean, so that one model serves items of any volume,
    and the weekday as 0 and 1.
    """
    flags = [float(day == weekday) for day in range(7)]
    return np.concatenate([np.asarray(last) / (np.mean(last) or 1.0), flags]).astype(np.float32)


def forecast_error(sales: Sequence[float], days: int) -> float:
    """How far the demand of that many days strays from what 28 days' mean expects: one standard
    deviation, in units.

    The scatter of the last 28 days says it if days are independent. A history that can be forecast
    28 times from its own past also knows drifts and seasons; the larger of the two is taken.
    """
    scatter = float(np.std(sales[-DAYS:], ddof=1)) * math.sqrt(days)
    ends = np.arange(DAYS, len(sales) - days + 1)
    if len(ends) < DAYS:
        return scatter
    total = np.concatenate([[0.0], np.cumsum(sales)])
    errors = total[ends + days] - total[ends] - (total[ends] - total[ends - DAYS]) * days / DAYS
    return max(scatter, float(np.sqrt(np.mean(errors**2))))


def features(daily_sales: Sales, weekday_of_last_day: Weekday | None = None) -> History:
    """Checks the history and turns its last 28 days into what the model takes."""
    for day, units in enumerate(daily_sales):
        if not 0 <= units <= MOST:
            raise RequestError(
                f"is no number of units from 0 to {MOST:g}; send 0 for a day without sales.",
                where=f"daily_sales[{day}]",
            )
    last = daily_sales[-DAYS:]
    return {"features": lag_features(last, weekday_of_last_day), "daily_mean": sum(last) / DAYS}


def plan(
    ratios: Ratios,
    daily_mean: float,
    daily_sales: Sales,
    stock_on_hand: Stock,
    lead_time_days: LeadTime,
    service_level: ServiceLevel = 0.95,
) -> Plan:
    """Demand over the lead time, plus what its uncertainty asks for, less what is there."""
    daily = np.maximum(ratios[:lead_time_days].astype(np.float64) * daily_mean, 0)
    expected, error = float(daily.sum()), forecast_error(daily_sales, lead_time_days)
    safety = NormalDist().inv_cdf(service_level) * error
    missing = expected + safety - stock_on_hand
    quantity = max(0, math.ceil(missing))
    order = f"order {quantity}" if quantity else f"order nothing, {-missing:.1f} are to spare"
    return {
        "expected_demand": round(expected, 2),
        "safety_stock": round(safety, 2),
        "reorder_quantity": quantity,
        "daily_demand": [round(float(units), 2) for units in daily],
        "reasoning": (
            f"About {expected:.1f} units should sell in the {lead_time_days} days until an "
            f"order arrives; the last {DAYS} days averaged "
            f"{daily_mean:.1f} a day. Demand of such a time strays by {error:.1f}, so "
            f"{safety:.1f} more keep the chance of lasting at "
            f"{service_level:.1%}. With {stock_on_hand:.1f} in stock: {order}."
        ),
    }
