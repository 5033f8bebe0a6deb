"""How seconds that were measured differ: in equal shares, and from round to round."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Final

SHARES: Final = 40
"""Of equal size, that runs are kept in: the last is the slowest fortieth."""


def shares_of(values: Sequence[float]) -> tuple[float, ...]:
    """Equal shares of some values from the smallest to the largest, each by its mean, so that the
    mean of all is kept and the slowest are seen; fewer shares of fewer values.
    """
    ordered = sorted(values)
    count = min(SHARES, len(ordered))
    cuts = [round(at * len(ordered) / count) for at in range(count + 1)]
    return tuple(statistics.fmean(ordered[low:high]) for low, high in itertools.pairwise(cuts))


def spreads_of(points: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """The seconds of each point over their median; a point with few runs has those of all together.

    Args:
        points: the seconds of each run.
    """
    ratios = [_over_median(seconds) for seconds in points]
    together = [ratio for own in ratios if len(own) > 2 for ratio in own] or [1.0]
    return [shares_of(own if len(own) >= SHARES else together) for own in ratios]


def _over_median(seconds: Sequence[float]) -> list[float]:
    middle = statistics.median(seconds)
    return [one / middle for one in seconds] if middle > 0 else [1.0]


def drift_of(rounds: Sequence[Sequence[float]]) -> float:
    """How far rounds lie from each other, as a share: of each point the largest distance of a round
    from the round in the middle; of these, the one in the middle.

    Args:
        rounds: of each point, the median of each round.
    """
    found = [
        max(abs(one / middle - 1) for one in medians)
        for medians in rounds
        if len(medians) > 1 and (middle := statistics.median(medians)) > 0
    ]
    return statistics.median(found) if found else 0.0
