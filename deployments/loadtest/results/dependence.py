"""Shares and percentiles of calls that depend on their neighbours, with confidence intervals.

Neighbouring calls wait in one queue and stand still in one garbage collection, so a thousand of
them tell less than a thousand independent ones would. How much less is measured, at the level that
is asked about, and an interval that is exact for independent calls is taken with as many as they
are worth:

- *Batch means*: the variance of the means of batches of 1, 2, 4, … neighbours, against what it
  would be of independent calls; the greatest ratio is the design effect. (Schmeiser, *Batch Size
  Effects in the Analysis of Simulation Output*, 1982: some twenty batches are enough, and more
  calls belong in longer batches; in powers of two as latte, ScyllaDB's load generator, does it.)
- *Exact binomial*: the interval of Clopper and Pearson with the calls divided by the design effect,
  and the degrees of freedom of its estimate accounted for (Korn and Graubard, *Confidence Intervals
  for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data*, 1998).
  Normal intervals are too short where few calls are slow, which is where a p99 is.
- *Skew*: where few long stalls make most of the slow calls, a run that met fewer of them shows a
  smaller share and a smaller variance at once. The upper end is moved as far as the skewness of the
  batches asks for (Hall, *On the Removal of Skewness by Transformation*, 1992).
- *Percentiles* by inversion (Woodruff, *Confidence Intervals for Medians and Other Position
  Measures*, 1952): the p95 is at most a limit when the share of slower calls is at most 5 %. So an
  interval is the limits that these calls do not decide, and it never contradicts a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Flags = npt.NDArray[np.bool_]
"""One flag a call, in the order in which the calls were intended."""

Seconds = npt.NDArray[np.float64]
"""Latencies in the same order; infinity for a call without a right answer."""

ERROR: Final = 0.02
"""Probability that the truth lies above an interval, and that it lies below. With 0.025 five of a
hundred verdicts were wrong on servers whose calls hang together for a second, since how far they do
is itself estimated of a minute.
"""

FEWEST_BATCHES: Final = 20
"""Of which a variance is estimated."""

STALL_S: Final = 0.1
"""Of latencies, it is taken as if one stall of this length had been met besides what was: a garbage
collection or a throttled core that no call has met yet would be met by all the calls of its time.
It counts only where few slow calls were seen.
"""

LONGEST_STALL_S: Final = 0.6
"""The same, where calls hang together for longer than ``STALL_S``."""

STALL_PARTS: Final = 8
"""Of a run, in each of which the slowest tenth of the calls is looked at."""


class Estimate(NamedTuple):
    """A value with its interval, in the unit of the value; ``high`` may be infinite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """A share of calls that are of some kind.

    Attributes:
        value: from 0 to 1.
        independent: how many independent calls it is worth, to say that the true share is not
            smaller; 0 where there are no calls.
        independent_above: the same, to say that it is not larger; at most as many.
    """

    value: float
    independent: float
    independent_above: float

    def interval(self, error: float = ERROR) -> tuple[float, float]:
        """Within which the true share lies; ``error`` is the probability on each side."""
        hits, others = self._counts(self.independent)
        low = float(special.betaincinv(hits, others + 1, error)) if hits > 0 else 0.0
        hits, others = self._counts(self.independent_above)
        high = float(special.betaincinv(hits + 1, others, 1 - error)) if others > 0 else 1.0
        return low, high

    def chance_of_more(self, limit: float) -> float:
        """The probability of so many calls, or more, if the true share were ``limit``."""
        hits, others = self._counts(self.independent)
        return float(special.betainc(hits, others + 1, limit)) if hits > 0 else 1.0

    def repeated(self, times: float) -> Share:
        """What it would be after so many times the calls."""
        return Share(self.value, self.independent * times, self.independent_above * times)

    def _counts(self, independent: float) -> tuple[float, float]:
        return self.value * independent, (1 - self.value) * independent


class Breaches(NamedTuple):
    """Calls that break a promise.

    Attributes:
        calls, broken: all, and those that do.
        effect: how many of them are worth one independent call, as the batches show it.
        allowed: the share that may.
    """

    calls: int
    broken: int
    effect: float
    allowed: float


def count_breaches(flags: Flags, allowed: float) -> Breaches:
    """The calls that have the flag."""
    broken = int(np.count_nonzero(flags))
    effect = design_effect(flags, broken)[0] if broken else 1.0
    return Breaches(len(flags), broken, effect, allowed)


def estimate_share(flags: Flags, stall_calls: float = 1.0) -> Share:
    """The share of calls that have the flag.

    Args:
        stall_calls: that one stall would give the flag to.
    """
    calls = len(flags)
    hits = int(np.count_nonzero(flags))
    if not calls:
        return Share(0.0, 0.0, 0.0)
    effect, batches = design_effect(flags, hits)
    if stall_calls > 1:
        # of stalls, as many as the calls show, and the one that they may not have met
        effect = max((hits + stall_calls) / (hits / effect + 1), 1.0)
    share = hits / calls
    independent = max(calls / effect * _trust(batches), 1.0)
    high = Share(share, independent, independent).interval()[1]
    skewed = _skewed_end(flags) if 0 < hits < calls else 0.0
    # about as many calls as have their upper end where the skewness wants it
    above = independent * ((high - share) / (skewed - share)) ** 2 if skewed > high else independent
    return Share(share, independent, max(above, min(independent, 1.0)))


def design_effect(flags: Flags, hits: int) -> tuple[float, int]:
    """How many calls are worth one independent call, at least 1; and of how many batches that was
    estimated, 0 where all calls are alike.
    """
    calls = len(flags)
    share = hits / calls
    if not 0 < hits < calls:
        return 1.0, 0
    greatest, count = 1.0, calls
    sums = np.concatenate(([0], np.cumsum(flags)))
    size = 2
    while calls // size >= FEWEST_BATCHES:
        batches = np.diff(sums[::size])
        effect = float(batches.var(ddof=1)) / (size * share * (1 - share))
        if effect > greatest:
            greatest, count = effect, len(batches)
        size *= 2
    return greatest, count


def _skewed_end(flags: Flags) -> float:
    """The upper end of an interval of the share, by Hall's cubic transformation of the means of the
    longest batches; 0 where they are too few or all alike.
    """
    size = max(2 ** int(math.log2(max(len(flags) / FEWEST_BATCHES, 1))), 1)
    means = np.diff(np.concatenate(([0], np.cumsum(flags)))[::size]) / size
    count = len(means)
    spread = float(means.std())
    if count < FEWEST_BATCHES or spread == 0:
        return 0.0
    skewness = float(((means - means.mean()) ** 3).mean()) / spread**3
    root = math.sqrt(count)
    quantile = -float(special.stdtrit(count - 1, 1 - ERROR))
    if abs(skewness) > 1e-6:
        cubed = 1 + skewness * (quantile - skewness / (6 * root)) / root
        quantile = 3 * root / skewness * (math.cbrt(cubed) - 1)
    return float(flags.mean()) - quantile * float(means.std(ddof=1)) / root


def stall_calls_of(latencies: Seconds, seconds: float) -> float:
    """How many calls one stall makes slow: those of ``STALL_S``, or as many as one of the slowest
    tenth has with it, where calls hang together for longer, ``LONGEST_STALL_S`` at most. The
    slowest are those of each part of the run, so that one that is slower by its shape is none.
    """
    calls = len(latencies)
    rate = calls / seconds if seconds > 0 else 0.0
    least, most = max(rate * STALL_S, 1.0), max(rate * LONGEST_STALL_S, 1.0)
    if calls < FEWEST_BATCHES:
        return least
    slow = np.concatenate(
        [
            part > np.quantile(part, 0.9, method="inverted_cdf")
            for part in np.array_split(latencies, STALL_PARTS)
        ]
    )
    return min(max(least, design_effect(slow, int(np.count_nonzero(slow)))[0]), most)


def estimate_slower(latencies: Seconds, limit_s: float, stall_calls: float) -> Share:
    """The share of calls that took longer than ``limit_s``; ``stall_calls`` as of
    ``stall_calls_of``.
    """
    return estimate_share(latencies > limit_s, stall_calls)


def estimate_percentile(latencies: Seconds, part: float, seconds: float) -> Estimate:
    """A percentile of latencies in seconds, ``part`` from 0 to 1; nan of no calls."""
    if not len(latencies):
        return Estimate(math.nan, 0.0, math.inf)
    ordered = np.sort(latencies)
    last = len(ordered) - 1
    stall_calls = stall_calls_of(latencies, seconds)
    middle = min(max(math.ceil(part * len(ordered)) - 1, 0), last)

    def is_above(rank: int) -> bool:
        """The percentile is surely above that of the ordered latencies."""
        slower = estimate_slower(latencies, ordered[rank], stall_calls)
        return slower.interval()[0] > 1 - part

    def is_below(rank: int) -> bool:
        slower = estimate_slower(latencies, ordered[rank], stall_calls)
        return slower.interval()[1] <= 1 - part

    low = _first_that(lambda rank: not is_above(rank), 0, middle)
    high = _first_that(is_below, middle, last + 1)
    return Estimate(
        float(ordered[middle]),
        float(ordered[low]),
        float(ordered[high]) if high <= last else math.inf,
    )


def needed_calls(part: float) -> float:
    """Independent calls, all of them inside, that show that a share of at least ``part`` is."""
    return math.log(ERROR) / math.log(part)


def needed_seconds(part: float, rate: float, *, is_latency: bool) -> float:
    """How long calls at a rate must go on until they can show that a share of ``part`` is inside,
    if all of them are; infinite without calls.
    """
    if rate <= 0:
        return math.inf
    return needed_calls(part) * (max(1 / rate, STALL_S) if is_latency else 1 / rate)


def _trust(batches: int) -> float:
    """The part of the calls that is left, since their design effect is an estimate itself."""
    if not batches:
        return 1.0
    return float((NormalDist().inv_cdf(1 - ERROR) / special.stdtrit(batches - 1, 1 - ERROR)) ** 2)


def _first_that(is_so: Callable[[int], bool], low: int, high: int) -> int:
    """The first of ``low`` to ``high`` - 1 for which it is so, or ``high``: by bisection, for what
    stays so.
    """
    while low < high:
        middle = (low + high) // 2
        if is_so(middle):
            high = middle
        else:
            low = middle + 1
    return low


def times_until(is_decided: Callable[[float], bool], most: float) -> float | None:
    """The smallest factor from 1 to ``most`` for which it is decided, within 1 %; None: none."""
    if not is_decided(most):
        return None
    low, high = 1.0, most
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_decided(middle) else (middle, high)
    return high


def as_array(values: Any) -> Seconds:
    """Numbers as an array of float64."""
    return np.fromiter(values, dtype=np.float64)
