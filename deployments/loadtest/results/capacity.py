"""The highest rate at which promises hold, by a search that is steered by what each step measured.

The pieces are those of *Load Testing for Machine Learning Model Serving Systems at Scale* (arXiv
2606.22013): damping, tolerance of single spikes, a test of convergence, warm-up by measurement. The
estimate is that of an adaptive threshold in psychophysics (Watson and Pelli, *QUEST: A Bayesian
Adaptive Psychometric Method*, 1983), with graded answers:

- A step is a run at one rate. Of the promise that is nearest to being broken it gives the *excess*:
  the log-odds of the share of calls that break it, less those of the share that may. Below 0 the
  promise holds.
- Near the capacity the excess rises with the logarithm of the rate in a straight line, whose
  steepness is unknown; away from it less surely so. For each capacity and steepness the steps have
  a likelihood, which together is what is known of the capacity.
- The likelihood has heavy tails (Student's t), so one step that met a spike of another's making is
  outvoted by the others, and does not end the search.
- The first steps double the rate (damping: never more than that at once), or halve it, until the
  capacity lies between two; each later one is at the median of what is known, for longer the
  more is known. It has converged when 90 % of what is known lies within ``RESOLUTION``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from deployments.loadtest.results.records import Promise, Run
from deployments.loadtest.results.statistics import find_warm_up
from deployments.loadtest.results.verdict import Verdict, judge, shortest_seconds
from runtime.errors import DeclarationError, Problem

RESOLUTION: Final = 0.04
"""Of the interval that is found, as a part of the rate."""

MOST_STEPS: Final = 40

LONGEST_SEARCH_S: Final = 1800.0
"""Of all steps together, pauses apart."""

LEAST_STEP_S: Final = 20.0
"""In less a queue that slowly grows cannot be told from one that is long."""

LOWEST: Final = 1 / 64
"""Of the first rate: where promises do not hold there, they are not kept by a lower rate."""

GRID: Final = 1.0025
"""From one capacity that is considered to the next."""

STEEPNESS: Final = np.geomspace(2.0, 120.0, 12)
"""Log-odds by the logarithm of the rate. 2: a promise far above the latency of an idle server,
which is met and missed by chance; 120: a server that is overloaded within a per cent.
"""

MISFIT: Final = 0.25
"""Standard deviation of the log-odds about the line where it is best known, and by how much it
grows with the distance in logarithms of the rate.
"""

MISFIT_BY_DISTANCE: Final = 6.0

FREEDOM: Final = 3.0
"""Degrees of freedom of Student's t: a step that is five deviations off still happens."""

CLEAR: Final = 1.0
"""The excess from which on a step tells only on which side the capacity lies: beyond, the line no
longer holds.
"""

SAME_RATE: Final = 1.02

NEAR: Final = 0.85
"""How near below a rate that is clearly too high another must hold before the first is tried again.
"""

GROWING: Final = 1.5
"""The excess of a step whose latency grew all along, at least: it would break every promise."""


class CapacityStep(NamedTuple):
    """One run of a search.

    Attributes:
        excess: log-odds by which the promise that is nearest to being broken is; below 0: it holds.
        error: its standard error.
    """

    rate: float
    seconds: float
    excess: float
    error: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a search found.

    Attributes:
        rate: calls a second of all functions together at which the promises just hold; 0: not even
            at the lowest rate.
        low, high: 90 % of what is known of it; ``high`` is infinite where the highest rate that may
            be tried still holds.
        is_converged: they are as near to each other as was wanted.
        words: a sentence or two.
    """

    rate: float
    low: float
    high: float
    is_converged: bool
    steps: tuple[CapacityStep, ...]
    words: str


class CapacitySearch:
    """Asks for a rate, is told of the run at it, and so on, until ``next_rate`` is None.

    The server must have answered or dropped the calls of a step before the next begins.

    Mutable state: ``_steps``; ``_most``, which falls where the generator reached its limit, and
    ``_limit``, what it said.
    """

    def __init__(self, start: float, most: float, *, longest_s: float = LONGEST_SEARCH_S) -> None:
        """Args:
        start: calls a second to begin with.
        most: that may be tried.
        longest_s: of all steps together.
        """
        if not (0 < start < math.inf and start <= most):
            words = f"it begins at {start:g} calls a second and may try {most:g}: from more than 0"
            raise DeclarationError([Problem("capacity", 0, "rate", f"{words} up to that, finite.")])
        self._start, self._most, self._longest_s = start, most, longest_s
        self._steps: list[CapacityStep] = []
        self._limit = ""

    def __repr__(self) -> str:
        return f"<CapacitySearch: {len(self._steps)} steps, next {self.next_rate()}>"

    def next_rate(self) -> float | None:
        """Calls a second of the next step; None: the search has ended."""
        steps = self._steps
        if self._most < self._start * LOWEST:
            return None
        if not steps:
            return min(self._start, self._most)
        if len(steps) >= MOST_STEPS or sum(step.seconds for step in steps) >= self._longest_s:
            return None
        known = drop_spikes(steps)
        held = [step.rate for step in known if step.excess <= 0]
        broken = sorted(step.rate for step in known if step.excess > 0)
        if not broken:
            highest = max(held)
            return None if highest >= self._most else min(2 * highest, self._most)
        if not held:
            return None if broken[0] <= self._start * LOWEST else broken[0] / 2
        if max(held) >= NEAR * broken[0] and is_single(known, broken[0]):
            return broken[0]
        low, rate, high = self._interval()
        if self._is_converged(low, high):
            return None
        return min(rate, self._most, 2 * max(held))

    def next_seconds(self, promises: dict[str, Promise], rates: dict[str, float]) -> float:
        """How long the next step should last, at these rates by function: long enough for each
        promise, and the longer the more is known.
        """
        needed = [
            shortest_seconds(promise, rates.get(name, 0.0)) for name, promise in promises.items()
        ]
        finite = [seconds for seconds in needed if math.isfinite(seconds)]
        seconds = max(LEAST_STEP_S, 1.5 * max(finite, default=0.0))
        if self._is_bracketed:
            low, _, high = self._interval()
            seconds *= 1.0 if high > 1.25 * low else 2.0 if high > 1.1 * low else 3.0
        used = sum(step.seconds for step in self._steps)
        return min(seconds, max(self._longest_s - used, LEAST_STEP_S))

    def record(self, rate: float, run: Run) -> CapacityStep | None:
        """Takes the run at a rate; what it shows, or None where the generator was the limit.

        Raises:
            DeclarationError: nothing is promised.
        """
        if run.was_limited:
            below = [step.rate for step in self._steps if step.rate < rate]
            self._most, self._limit = max(below, default=rate / 2), run.was_limited
            return None
        warm_up = max(run.warm_up_s, find_warm_up(run.calls).seconds)
        verdict = judge(replace(run, warm_up_s=warm_up))
        excess = [one.excess for one in verdict.promises if one.excess is not None]
        if not excess:
            words = "nothing is promised of a function that was called. Add an `slo`."
            raise DeclarationError([Problem("capacity", 0, "", words)])
        value, error = max(excess)
        if verdict.is_growing:
            value, error = max(value, GROWING), max(error, 1.0)
        step = CapacityStep(rate, run.seconds, value, error, verdict)
        self._steps.append(step)
        return step

    def result(self) -> Capacity:
        """What is known so far."""
        steps = tuple(self._steps)
        if self._is_bracketed:
            low, rate, high = self._interval()
            is_converged = self._is_converged(low, high)
            words = f"{rate:.4g} calls a second hold; between {low:.4g} and {high:.4g} at 90 %."
            if not is_converged:
                words += " The search ended before it had converged."
            return Capacity(rate, low, high, is_converged, steps, words)
        held = max((step.rate for step in steps if step.excess <= 0), default=0.0)
        if held:
            why = f": the generator was the limit, {self._limit}." if self._limit else "."
            words = f"{held:.4g} calls a second hold, more were not tried{why}"
            return Capacity(held, held, math.inf, False, steps, words)
        lowest = min((step.rate for step in steps), default=0.0)
        words = f"Not even {lowest:.4g} calls a second hold." if steps else "Nothing was tried."
        return Capacity(0.0, 0.0, lowest, False, steps, words)

    @property
    def _is_bracketed(self) -> bool:
        """One rate held, and one did not."""
        return len({step.excess > 0 for step in drop_spikes(self._steps)}) == 2

    def _is_converged(self, low: float, high: float) -> bool:
        return high <= low * (1 + RESOLUTION)

    def _interval(self) -> tuple[float, float, float]:
        """The 5th, 50th and 95th percentile of what is known of the capacity."""
        steps = drop_spikes(self._steps)
        rates = [step.rate for step in steps]
        low, high = min(rates) / 2, 2 * max(rates)
        grid = np.geomspace(low, high, int(math.log(high / low) / math.log(GRID)) + 2)
        known = np.cumsum(weigh(steps, grid))
        places = np.searchsorted(known / known[-1], (0.05, 0.5, 0.95))
        one, middle, other = (float(grid[place]) for place in places)
        return one, middle, other


def drop_spikes(steps: Sequence[CapacityStep]) -> list[CapacityStep]:
    """The steps but those that were clearly too slow, and were not when they were repeated."""
    return [
        step
        for index, step in enumerate(steps)
        if step.excess <= CLEAR
        or not any(
            is_same_rate(step.rate, later.rate) and later.excess <= 0
            for later in steps[index + 1 :]
        )
    ]


def is_single(steps: Sequence[CapacityStep], rate: float) -> bool:
    """Whether one step alone says that a rate is too high, and says it clearly."""
    there = [step for step in steps if is_same_rate(step.rate, rate)]
    return len(there) == 1 and there[0].excess > CLEAR


def is_same_rate(one: float, other: float) -> bool:
    """Whether two rates are as good as one."""
    return max(one, other) <= SAME_RATE * min(one, other)


def weigh(
    steps: Sequence[CapacityStep], capacities: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How probable each capacity is, up to a factor: every steepness counts as much."""
    total = np.zeros((len(STEEPNESS), len(capacities)))
    for step in steps:
        distance = np.log(step.rate / capacities)
        off = step.excess - STEEPNESS[:, None] * distance
        deviation = np.hypot(step.error, MISFIT + MISFIT_BY_DISTANCE * np.abs(distance))
        if abs(step.excess) > CLEAR:
            # only on which side: any line that is as far off, or farther, is as good
            off = np.maximum(off, 0.0) if step.excess > 0 else np.minimum(off, 0.0)
        else:
            total -= np.log(deviation)
        total -= (FREEDOM + 1) / 2 * np.log1p((off / deviation) ** 2 / FREEDOM)
    weights: npt.NDArray[np.float64] = np.exp(total - total.max()).sum(axis=0)
    return weights
