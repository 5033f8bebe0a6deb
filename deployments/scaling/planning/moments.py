"""What a function did in each part of the time, for plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.scaling.simulation import Summary, quantile

COLUMNS: Final = 60
"""Into which the time is cut."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A part of the time.

    Attributes:
        at: seconds of the traffic, where it begins.
        rate: answered calls a second, of those that came in it.
        places: that serve: replicas, or 1 in the host, on average.
        p95_s: of these calls; None: there were none.
        warm: share of them that found it loaded; None: there were none.
    """

    at: float
    rate: float
    places: float
    p95_s: float | None
    warm: float | None


def moments_of(summary: Summary, since: float, until: float) -> tuple[Moment, ...]:
    """The time in ``COLUMNS`` parts."""
    width = (until - since) / COLUMNS
    latencies: list[list[float]] = [[] for _ in range(COLUMNS)]
    for at, latency_s in summary.answers:
        if since <= at < until:
            latencies[min(COLUMNS - 1, int((at - since) / width))].append(latency_s)
    cold = _counts(summary.cold_at, since, width)
    places = _mean_places(summary.places, since, width)
    return tuple(
        Moment(
            round(since + index * width, 3),
            len(found) / width,
            places[index],
            quantile(sorted(found), 0.95) if found else None,
            max(0.0, 1 - cold[index] / len(found)) if found else None,
        )
        for index, found in enumerate(latencies)
    )


def _counts(times: Iterable[float], since: float, width: float) -> list[int]:
    """How many of some times lie in each part."""
    counts = [0] * COLUMNS
    for at in times:
        if 0 <= (index := int((at - since) // width)) < COLUMNS:
            counts[index] += 1
    return counts


def _mean_places(changes: Sequence[tuple[float, int]], since: float, width: float) -> list[float]:
    """Of each part of the time, out of when the number changed and to what."""
    held = [0.0] * COLUMNS
    until = since + COLUMNS * width
    ends = [at for at, _ in changes[1:]] + [until]
    for (began, places), ended in zip(changes, ends, strict=True):
        first, last = int((began - since) // width), int((ended - since) // width)
        for index in range(max(0, first), min(COLUMNS - 1, last) + 1):
            start = since + index * width
            held[index] += places * max(0.0, min(ended, start + width) - max(began, start))
    return [places_s / width for places_s in held]
