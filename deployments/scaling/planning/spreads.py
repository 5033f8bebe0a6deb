"""How seconds that were measured differ: in equal shares, from round to round, and with what they
rise.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Final, TypeVar

Value = TypeVar("Value")

SHARES: Final = 40
"""Of equal size, that runs are kept in: the last is the slowest fortieth."""


def shares_of(values: Sequence[float]) -> tuple[float, ...]:
    """Equal shares of some values from the smallest to the largest, each by its mean, so that the
    mean of all is kept and the slowest are seen; fewer shares of fewer values.
    """
    groups = groups_of(sorted(values), min(SHARES, len(values)))
    return tuple(statistics.fmean(group) for group in groups)


def groups_of(values: Sequence[Value], count: int) -> list[Sequence[Value]]:
    """Values in so many neighbouring groups of about the same size; none is empty where there are
    as many values.
    """
    cuts = [round(at * len(values) / count) for at in range(count + 1)]
    return [values[low:high] for low, high in itertools.pairwise(cuts)]


def never_falling(values: Sequence[float]) -> list[float]:
    """Values nearest to these, by squares, of which none is less than the one before it (isotonic
    regression): neighbours that fall have their mean.
    """
    levels: list[tuple[float, int]] = []
    for value in values:
        level, count = value, 1
        while levels and levels[-1][0] > level:
            before, there = levels.pop()
            level = (level * count + before * there) / (count + there)
            count += there
        levels.append((level, count))
    return [level for level, count in levels for _ in range(count)]


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
