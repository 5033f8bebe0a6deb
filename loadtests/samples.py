"""Sample requests of the shipped functions.

(Not called `requests`: Locust puts this folder first on the import path, and imports the library of that name.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

EMBED = "/v2/models/embed"
FORECAST = "/v2/models/forecast"

TEXTS = (
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell sharply on Monday.",
    "Running low on bottled water; reorder before the weekend.",
    "Restock drinks in the depot.",
    "ok",
    "Le café est fermé aujourd'hui.",
    "Delivery of forty crates of apples, twelve of pears and six of plums is expected between seven and eight in the morning at the "
    "northern warehouse; the driver needs the gate code, a signature, and a fork lift, since three of the pallets are heavier than usual.",
)
"""Short and long ones, some alike in meaning, one of a single token."""

ALIKE, UNLIKE = (0, 1), (0, 2)
"""Pairs of ``TEXTS`` that mean nearly the same, and nothing of the kind."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a shop, as `forecast` is asked about it.

    Attributes:
        daily_sales: units a day, oldest first.
        lead_time_days: until an order arrives.
    """

    daily_sales: tuple[float, ...]
    stock_on_hand: float
    lead_time_days: int
    service_level: float


def weekly(base: float, weekend: float, days: int) -> tuple[float, ...]:
    """Sales that swing with the week and a little beyond it."""
    return tuple(round(base + (weekend if day % 7 > 4 else 0) + base * 0.2 * ((day * 37) % 11 - 5) / 5, 1) for day in range(days))


ITEMS = (
    Item(weekly(40, 25, 28), stock_on_hand=120, lead_time_days=3, service_level=0.95),
    Item(weekly(40, 25, 90), stock_on_hand=0, lead_time_days=14, service_level=0.99),
    Item(weekly(3, 1, 35), stock_on_hand=500, lead_time_days=7, service_level=0.9),
    Item((0.0,) * 28, stock_on_hand=0, lead_time_days=1, service_level=0.5),
    Item(weekly(2500, 1500, 28), stock_on_hand=9000, lead_time_days=5, service_level=0.999),
)
"""A little and a lot of stock, slow and fast movers, and one that nobody buys."""


def embed_json(index: int) -> dict[str, Any]:
    """One text."""
    return {"text": TEXTS[index % len(TEXTS)]}


def forecast_json(index: int) -> dict[str, Any]:
    """One item."""
    return asdict(ITEMS[index % len(ITEMS)])
