"""Sample requests of the shipped functions.

(Not called `requests`: Locust puts this folder first on the import path, and imports the library of that name.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

EMBED = "/v2/models/embed"
FORECAST = "/v2/models/forecast"
MODERATE = "/v2/models/moderate"
FILETYPE = "/v2/models/filetype"
SEARCH = "/v2/models/search"
LISTEN = "/v2/models/listen"
OCR = "/v2/models/ocr"
CLASSIFY = "/v2/models/classify"

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


SCORES = {"You are a wonderful person": 0.025, "go to hell, you scum": 0.999, "I will ship the parcel on Monday": 0.081, "": 0.036}
"""Texts and how profane they are."""

FILES = {
    "python": b"from __future__ import annotations\n\nimport sys\n\n\ndef main() -> int:\n    print(sys.argv)\n    return 0\n",
    "json": b'{"name": "wakeful", "versions": ["1", "2"], "inputs": [{"name": "text", "shape": [-1]}]}\n',
    "wav": b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\0\x08\0\0" + bytes(2048),
    "empty": b"",
}
"""Small files, by what they are."""

QUESTIONS = {
    "When is payday?": "Salaries",
    "Where do I leave my bike?": "Bicycles",
    "When will I get my money back for something I returned?": "Money",
}
"""Questions, and the first word of the nearest passage."""


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
