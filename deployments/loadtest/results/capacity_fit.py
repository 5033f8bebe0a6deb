"""At which rate a promise just holds, by what runs at several rates say of it.

The share of calls that break a promise rises with the rate: near the capacity its log-odds do so in
a straight line of the logarithm of the rate, whose steepness is unknown. With queues it may be
anything: where service times have a heavy tail 10 % more calls break the promise of a p95 hardly
oftener (steepness 2), where batches fill a worker 1 % more tells (100). So the capacity and the
steepness are estimated together, as a psychometric function is: for each pair the calls have a
likelihood, which is all that is known.

- *Quasi-binomial* (Wedderburn, *Quasi-likelihood Functions, Generalized Linear Models, and the
  Gauss-Newton Method*, 1974): the calls of a run depend on each other, so their deviance is divided
  by the design effect of ``dependence``, one for all runs near the capacity. Each run with its own
  would weigh by chance: the run that met no burst shows a small share and a small effect at once,
  and a search that trusts it most ends too high, and sure of it.
- Where the runs scatter about the line by more than that, the scatter counts (Birge, *The
  Calculation of Errors by the Method of Least Squares*, 1932).
- A run that the line puts far from the capacity tells only on which side it lies, and one that fits
  no line is outvoted by the others. Which is far the line says, and not the run's own share: runs
  above the capacity scatter more, and to leave out those that happened to be far would shift it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GRID: Final = 1.0025
"""From one capacity that is considered to the next."""

STEEPNESS: Final = np.geomspace(1.0, 150.0, 16)
"""Log-odds by the logarithm of the rate. 1: a promise far above the latency of an idle server, that
is met and missed by chance; 150: a server that is overloaded within a per cent. A steep line makes
a capacity look sure, so that each is taken for as improbable as it is steep.
"""

CLEAR: Final = 1.0
"""Log-odds from the capacity on which a run is far from it: there the line no longer holds."""

FARTHEST: Final = 6.0
"""Log-odds beyond which all is alike."""

MISFIT: Final = 0.15
"""By how much of its distance in log-odds a run may be off the line: real ones are curved."""

UNDERSTATED: Final = 1.3
"""A design effect is this much greater than what the batches of a short run show of it: waits that
are longer than the batches are not seen.
"""

OUTLIER: Final = 9.0
"""Deviance of a run, that of three deviations, from which on it grows by its logarithm alone."""

NARROW: Final = 1.25
"""From the low to the high end of what is known, where it begins to be known."""

PASSES: Final = 3
"""Which runs are near depends on the line, and the line on them."""

FEWEST_SCATTERED: Final = 5
"""Runs whose scatter is an estimate."""

LIKE_CHANCE: Final = 200
"""Calls that a run counts for where none may break the promise: it holds or it does not."""


class CapacityTrial(NamedTuple):
    """What a run at one rate says of a promise.

    Attributes:
        calls, broken: all, and those that break it.
        effect: how many of them are worth one independent call.
        allowed: the share that may break it.
    """

    rate: float
    seconds: float
    calls: int
    broken: int
    effect: float
    allowed: float

    @property
    def excess(self) -> float:
        """The log-odds of the share that broke it less those of the share that may: below 0 it
        seems to hold. As if half an independent call more had been of either kind.
        """
        if self.allowed <= 0:
            return 2 * CLEAR if self.broken else -2 * CLEAR
        broken = self.broken / self.effect + 0.5
        others = (self.calls - self.broken) / self.effect + 0.5
        odds = math.log(broken / others) - log_odds(self.allowed)
        return odds if self.broken else min(odds, -0.1)


class CapacityFit(NamedTuple):
    """What is known of a capacity.

    Attributes:
        low, rate, high: the 5th, 50th and 95th percentile.
        steepness: log-odds by the logarithm of the rate.
        near: runs near it.
        near_s: their seconds together.
        lean: mean logarithm of their rates by it, of these seconds: above 0, more load was sent
            above it than below.
    """

    low: float
    rate: float
    high: float
    steepness: float
    near: int
    near_s: float
    lean: float

    @property
    def is_narrow(self) -> bool:
        """The capacity is known so well that its line is of use there."""
        return self.high <= NARROW * self.low

    @property
    def width(self) -> float:
        """Of the interval, in logarithms."""
        return math.log(self.high / self.low)


def log_odds(share: float) -> float:
    """Of a share between 0 and 1, both excluded."""
    return math.log(share) - math.log1p(-share)


def fit_capacity(trials: Sequence[CapacityTrial]) -> CapacityFit:
    """What runs at several rates say of one promise; at least one broke it, and one held it."""
    allowed = trials[0].allowed
    if allowed <= 0:
        allowed, trials = 0.5, [_as_if_by_chance(trial) for trial in trials]
    runs = _Runs(trials, allowed)
    distance = np.clip([trial.excess for trial in trials], -FARTHEST, FARTHEST)
    scatter = 1.0
    for _ in range(PASSES):
        is_near = np.abs(distance) <= CLEAR
        deviance = runs.deviance(is_near, distance, scatter)
        weights = np.exp(-(deviance.sum(axis=0) - deviance.sum(axis=0).min()) / 2)
        weights /= STEEPNESS[:, None]
        weights /= weights.sum()
        known = np.cumsum(weights.sum(axis=0))
        low, rate, high = runs.capacities[np.searchsorted(known, (0.05, 0.5, 0.95))].tolist()
        steepness = math.exp(float(weights.sum(axis=1) @ np.log(STEEPNESS)))
        distance = np.clip(steepness * np.log(runs.rates / rate), -FARTHEST, FARTHEST)
        if np.count_nonzero(is_near) >= FEWEST_SCATTERED:
            place = np.unravel_index(np.argmax(weights), weights.shape)
            off = scatter * np.minimum(deviance[is_near, place[0], place[1]], OUTLIER).sum()
            scatter = max(1.0, float(off) / (np.count_nonzero(is_near) - 2))
    is_near = np.abs(distance) <= CLEAR
    near_s = float(runs.seconds[is_near].sum())
    lean = float((runs.seconds * np.log(runs.rates / rate))[is_near].sum())
    return CapacityFit(
        low,
        rate,
        high,
        steepness,
        int(np.count_nonzero(is_near)),
        near_s,
        lean / near_s if near_s else 0.0,
    )


def _as_if_by_chance(trial: CapacityTrial) -> CapacityTrial:
    """Where no call may break the promise, a run that broke it once has broken it."""
    return trial._replace(calls=LIKE_CHANCE, broken=LIKE_CHANCE if trial.broken else 0, effect=1.0)


class _Runs:
    """Trials of one promise as arrays; what is considered has the axes runs, steepness, capacity.

    Attributes:
        capacities: that are considered, ascending.
    """

    def __init__(self, trials: Sequence[CapacityTrial], allowed: float) -> None:
        self.rates = np.array([trial.rate for trial in trials])
        self.seconds = np.array([trial.seconds for trial in trials])
        self._calls = np.array([float(trial.calls) for trial in trials])
        self._effects = np.array([trial.effect for trial in trials])
        self._broken = np.array([float(trial.broken) for trial in trials])
        self._is_above = np.array([trial.excess > 0 for trial in trials])
        self._allowed = allowed
        self.capacities = self._considered()
        line = STEEPNESS[:, None] * np.log(self.rates[:, None, None] / self.capacities)
        odds = log_odds(allowed) + np.clip(line, -FARTHEST, FARTHEST)
        self._log_share = -np.logaddexp(0.0, -odds)
        self._log_rest = -np.logaddexp(0.0, odds)

    def _considered(self) -> Array:
        """From below the lower of the highest rate that held and the lowest that did not to above
        the other: steps in between may contradict each other.
        """
        held, broken = self.rates[~self._is_above].max(), self.rates[self._is_above].min()
        low, high = min(held, broken) / 2, 2 * max(held, broken)
        return np.geomspace(low, high, math.ceil(math.log(high / low) / math.log(GRID)) + 1)

    def deviance(self, is_near: npt.NDArray[np.bool_], distance: Array, scatter: float) -> Array:
        """Of each run, for each steepness and capacity.

        Args:
            distance: of each from the capacity in log-odds, as far as it is known.
            scatter: of near runs, by what is expected of independent ones.
        """
        shares = self._broken / self._calls
        # of a run that is far only the side counts: it held, or did not, clearly and no more
        bounded = np.where(
            self._is_above,
            np.minimum(shares, self._share_at(CLEAR)),
            np.maximum(shares, self._share_at(-CLEAR)),
        )
        shares = np.where(is_near, shares, bounded)
        found = self._calls[:, None, None] * (
            _entropy(shares)[:, None, None]
            - shares[:, None, None] * self._log_share
            - (1 - shares)[:, None, None] * self._log_rest
        )
        is_less = np.exp(self._log_share) < shares[:, None, None]
        is_against = np.where(self._is_above[:, None, None], is_less, ~is_less)
        counts = is_near[:, None, None] | is_against
        effect = self._effect(is_near, scatter)
        effect += self._calls * self._allowed * (1 - self._allowed) * (MISFIT * distance) ** 2
        scaled = np.where(counts, np.maximum(2 * found, 0.0), 0.0) / effect[:, None, None]
        beyond = np.maximum(scaled / OUTLIER, 1.0)
        return np.where(scaled > OUTLIER, OUTLIER * (1 + np.log(beyond)), scaled)

    def _effect(self, is_near: npt.NDArray[np.bool_], scatter: float) -> Array:
        """Calls that are worth an independent one: of near runs the same, by the calls of them that
        broke the promise.
        """
        weights = self._broken * is_near
        known = weights.sum()
        shared = (self._effects * weights).sum() / known if known else 1.0
        shared = max(UNDERSTATED * shared, 1.0)
        return np.where(is_near, shared * scatter, np.maximum(self._effects, shared))

    def _share_at(self, distance: float) -> float:
        """The share of calls that break the promise so far from the capacity, in log-odds."""
        return 1 / (1 + math.exp(-log_odds(self._allowed) - distance))


def _entropy(shares: Array) -> Array:
    """The log-likelihood of a call by the share itself, the greatest that there is."""
    inner = np.clip(shares, 1e-12, 1 - 1e-12)
    found: Array = inner * np.log(inner) + (1 - inner) * np.log1p(-inner)
    return found
