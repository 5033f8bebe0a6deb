"""Plots of text: a line of blocks, as high as the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from deployments.scaling.planning.traffic_plan import FunctionPlan
from deployments.scaling.planning.words import duration

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
GAP: Final = "·"
"""Where there is no value."""


def spark(values: Sequence[float | None], most: float) -> str:
    """A block for each value, from 0 to the most; whatever is above 0 shows."""
    return "".join(GAP if value is None else BLOCKS[_height(value, most)] for value in values)


def _height(value: float, most: float) -> int:
    if value <= 0 or most <= 0:
        return 0
    return min(len(BLOCKS) - 1, max(1, round(value / most * (len(BLOCKS) - 1))))


def chart(function: FunctionPlan) -> Iterator[tuple[str, str, str]]:
    """What a function did over time: the name of each line, its blocks, and their height."""
    moments = function.moments
    rates = [moment.rate for moment in moments]
    places = [moment.places for moment in moments]
    p95s = [moment.p95_s for moment in moments]
    warm = [moment.warm for moment in moments]
    most_p95_s = max([value for value in p95s if value is not None], default=0.0)
    yield "calls/s", spark(rates, max(rates)), f"{max(rates):.3g}"
    yield "replicas", spark(places, max(places)), f"{max(places):.3g}"
    yield "p95", spark(p95s, most_p95_s), duration(most_p95_s)
    yield "warm", spark(warm, 1.0), "100 %"
