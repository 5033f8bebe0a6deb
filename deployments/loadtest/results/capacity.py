"""The highest rate at which promises hold, by a search that is steered by what each step measured.

The pieces are those of *Load Testing for Machine Learning Model Serving Systems at Scale* (arXiv
2606.22013): damping, tolerance of single spikes, a test of convergence, warm-up by measurement.

- A step is a run at one rate. Of the promise that is nearest to being broken it gives the *excess*:
  the log-odds of the share of calls that break it, less those of the share that may. Below 0 the
  promise holds.
- The first steps double the rate (damping: never more than that at once), or halve it, until the
  capacity lies between two. Later ones lie a little above and below what is known of it
  (``capacity_fit``) in turn: two rates that differ tell how steeply the share rises, and so how far
  the capacity is from either; many steps at one rate do not. They last the longer the more is still
  needed.
- One step that met a spike of another's making is tried again, and does not end the search; so is
  one in which the generator was the limit. The time of both counts.
- It has converged when 90 % of what is known lies within ``RESOLUTION``. How long that takes is the
  server's: where 10 % more calls break the promise hardly oftener, as with heavy tails, half an
  hour is too short, and the search says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from deployments.loadtest.results.capacity_fit import CapacityFit, CapacityTrial, fit_capacity
from deployments.loadtest.results.records import Promise, Run
from deployments.loadtest.results.statistics import find_warm_up, seconds_of, without_ended
from deployments.loadtest.results.verdict import (
    PARTS,
    PromiseVerdict,
    Verdict,
    duration,
    judge,
    shortest_seconds,
)
from runtime.errors import DeclarationError, Problem

RESOLUTION: Final = 0.045
"""Of the interval that is found, as a part of the rate: then the highest and the lowest of five
searches differ by 3 %, and hardly ever by more than 5.
"""

MOST_STEPS: Final = 40

LONGEST_SEARCH_S: Final = 1800.0
"""Of all steps together, pauses apart, where no other time is given."""

LEAST_STEP_S: Final = 20.0
"""In less a queue that slowly grows cannot be told from one that is long."""

LONGEST_STEP_S: Final = 120.0
"""Of a step that no promise wants longer: after each is known better where the next one belongs."""

LEFT: Final = 3.0
"""A step is this part of what is still needed: what is needed is itself an estimate."""

FEWEST_NEAR: Final = 6
"""Steps near the capacity without which nothing has converged."""

LOWEST: Final = 1 / 64
"""Of the first rate: where promises do not hold there, they are not kept by a lower rate."""

SAME_RATE: Final = 1.02

SPIKE: Final = 2.0
"""The excess of a step that is tried again: near a rate that held chance alone hardly makes it."""

NEAR: Final = 0.85
"""How near below a rate that is clearly too high another must hold before the first is tried again.
"""

BESIDE: Final = 0.5
"""How far, in log-odds of the share."""

LEAST_BESIDE, MOST_BESIDE = 0.005, 0.04
"""The same in logarithms of the rate; at first a quarter of what is known, if that is more."""

GROWING: Final = 2.5
"""The excess of a step whose latency grew all along, at least: it would break every promise."""


class CapacityStep(NamedTuple):
    """One run of a search.

    Attributes:
        excess: log-odds by which the promise that is nearest to being broken is; below 0: it holds.
        trials: what it says of each promise, by function and name.
    """

    rate: float
    seconds: float
    excess: float
    trials: Mapping[tuple[str, str], CapacityTrial]
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

    Mutable state: ``_steps``; ``_fit``, what they say, None until the capacity lies between two;
    ``_most``, which falls where the generator was the limit twice, and ``_limit``, its words then;
    ``_again``, rate and limit of a run that is to be tried again; ``_limited_s``, of all such runs.
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
        self._fit: CapacityFit | None = None
        self._limit = ""
        self._again: tuple[float, str] | None = None
        self._limited_s = 0.0

    def __repr__(self) -> str:
        return f"<CapacitySearch: {len(self._steps)} steps, next {self.next_rate()}>"

    def next_rate(self) -> float | None:
        """Calls a second of the next step; None: the search has ended."""
        steps = self._steps
        if self._most < self._start * LOWEST or self._used_s >= self._longest_s:
            return None
        if self._again is not None:
            return self._again[0]
        if not steps:
            return min(self._start, self._most)
        if len(steps) >= MOST_STEPS:
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
        if self._fit is None:  # of the promise that was broken no call tells at the lower rates
            return math.sqrt(max(held) * broken[0])
        if has_converged(self._fit) or self._most < self._fit.low:
            return None
        return min(beside(self._fit), self._most, 2 * max(*held, self._fit.low))

    def next_seconds(self, promises: dict[str, Promise], rates: dict[str, float]) -> float:
        """How long the next step should last, at these rates by function: long enough for each
        promise, and for a part of what is still needed.
        """
        needed = [
            shortest_seconds(promise, rates.get(name, 0.0)) for name, promise in promises.items()
        ]
        finite = [seconds for seconds in needed if math.isfinite(seconds)]
        seconds = max(LEAST_STEP_S, 1.5 * max(finite, default=0.0))
        if self._fit is not None and self._fit.is_narrow:
            seconds = max(seconds, min(needed_more_s(self._fit) / LEFT, LONGEST_STEP_S))
        return min(seconds, max(self._longest_s - self._used_s, LEAST_STEP_S))

    def record(self, rate: float, run: Run) -> CapacityStep | None:
        """Takes the run at a rate; what it shows, or None where the generator was the limit.

        Raises:
            DeclarationError: nothing is promised.
        """
        is_again, self._again = self.is_again, None
        if run.was_limited:
            self._limited_s += run.seconds
            if not is_again:  # another program may have had the machine
                self._again = rate, run.was_limited
                return None
            below = [step.rate for step in self._steps if step.rate < rate]
            self._most, self._limit = max(below, default=rate / 2), run.was_limited
            return None
        run = without_ended(run)  # what is not known of sequences breaks no promise here
        run = replace(run, warm_up_s=max(run.warm_up_s, find_warm_up(run.calls).seconds))
        verdict = judge(run)
        trials = {
            (one.function, one.name): trial
            for one in verdict.promises
            if (trial := _trial(rate, run, one, verdict.is_growing)) is not None
        }
        if not trials:
            words = "nothing is promised of a function that was called. Add an `slo`."
            raise DeclarationError([Problem("capacity", 0, "", words)])
        excess = max(trial.excess for trial in trials.values())
        step = CapacityStep(rate, run.seconds, excess, trials, verdict)
        self._steps.append(step)
        self._fit = fit_steps(drop_spikes(self._steps))
        return step

    def result(self) -> Capacity:
        """What is known so far."""
        steps = tuple(self._steps)
        limit = self._limit or ("" if self._again is None else self._again[1])
        why = f": the generator was the limit, {limit}" if limit else ""
        if self._fit is not None:
            low, rate, high = self._fit[:3]
            is_converged = has_converged(self._fit)
            words = f"{rate:.4g} calls a second hold; between {low:.4g} and {high:.4g} at 90 %."
            if not is_converged:
                words += f" The search ended before it had converged{why or _advise(self._fit)}."
            return Capacity(rate, low, high, is_converged, steps, words)
        held = max((step.rate for step in steps if step.excess <= 0), default=0.0)
        if held:
            words = f"{held:.4g} calls a second hold, more were not tried{why}."
            return Capacity(held, held, math.inf, False, steps, words)
        lowest = min((step.rate for step in steps), default=0.0)
        words = (
            f"Not even {lowest:.4g} calls a second hold." if steps else f"Nothing was tried{why}."
        )
        return Capacity(0.0, 0.0, lowest, False, steps, words)

    @property
    def is_again(self) -> bool:
        """Whether the next step is that of before once more, since the generator was the limit."""
        return self._again is not None

    @property
    def _used_s(self) -> float:
        return self._limited_s + sum(step.seconds for step in self._steps)


def _trial(rate: float, run: Run, of: PromiseVerdict, is_growing: bool) -> CapacityTrial | None:
    """What a run says of a promise; None: no call tells."""
    calls, broken, effect, allowed = of.breaches
    if not calls:
        return None
    seconds = seconds_of(run, of.function)
    trial = CapacityTrial(rate, seconds, calls, broken, effect, allowed)
    if is_growing and of.name in PARTS and trial.excess < GROWING:
        odds = math.exp(GROWING) * allowed / (1 - allowed)
        return trial._replace(broken=math.ceil(calls * odds / (1 + odds)))
    return trial


def fit_steps(steps: Sequence[CapacityStep]) -> CapacityFit | None:
    """What steps say of the capacity: of each promise that one of them broke, and the lowest of
    these capacities counts; None: it does not lie between two steps yet.
    """
    if len({step.excess > 0 for step in steps}) < 2:
        return None
    by_promise: dict[tuple[str, str], list[CapacityTrial]] = {}
    for step in steps:
        for key, trial in step.trials.items():
            by_promise.setdefault(key, []).append(trial)
    fits = [
        fit_capacity(trials)
        for trials in by_promise.values()
        if len({trial.excess > 0 for trial in trials}) == 2
    ]
    if not fits:
        return None
    lowest = min(fits, key=lambda fit: fit.rate)
    return lowest._replace(low=min(fit.low for fit in fits), high=min(fit.high for fit in fits))


def has_converged(fit: CapacityFit | None) -> bool:
    """Whether it is known well enough."""
    return fit is not None and fit.near >= FEWEST_NEAR and fit.high <= fit.low * (1 + RESOLUTION)


def beside(fit: CapacityFit) -> float:
    """The rate of the next step: on the side of the capacity to which less load was sent."""
    most = max(MOST_BESIDE, fit.width / 4)
    distance = min(max(BESIDE / fit.steepness, LEAST_BESIDE), most)
    return fit.rate * math.exp(-distance if fit.lean > 0 else distance)


def needed_more_s(fit: CapacityFit) -> float:
    """How much longer steps near the capacity would probably have to be sent, in seconds."""
    return fit.near_s * max((fit.width / math.log1p(RESOLUTION)) ** 2 - 1, 0.0)


def _advise(fit: CapacityFit) -> str:
    """How much longer, in words; empty where that is not known."""
    if not fit.is_narrow or not (more := needed_more_s(fit)):
        return ""
    return f": {duration(more)} more would probably do (`--for` gives it longer)"


def drop_spikes(steps: Sequence[CapacityStep]) -> list[CapacityStep]:
    """The steps but those that were clearly too slow, and were not when they were repeated."""
    return [
        step
        for index, step in enumerate(steps)
        if step.excess <= SPIKE
        or not any(
            is_same_rate(step.rate, later.rate) and later.excess <= 0
            for later in steps[index + 1 :]
        )
    ]


def is_single(steps: Sequence[CapacityStep], rate: float) -> bool:
    """Whether one step alone says that a rate is too high, and says it clearly."""
    there = [step for step in steps if is_same_rate(step.rate, rate)]
    return len(there) == 1 and there[0].excess > SPIKE


def is_same_rate(one: float, other: float) -> bool:
    """Whether two rates are as good as one."""
    return max(one, other) <= SAME_RATE * min(one, other)
