"""Two runs of one load compared: what changed, and whether it got worse.

A change is named where it is too large for chance, with all the values that are compared taken
together: Holm's procedure (*A Simple Sequentially Rejective Multiple Test Procedure*, 1979), so
that of twenty comparisons of a server with itself one at most names anything. And where it is large
enough to matter, ``LEAST``: two runs of one server on one machine differ by some per cent for
reasons outside of either (temperature, where memory lies, neighbours), which no run can see in
itself.

The standard error of a percentile is of its interval, which knows that neighbouring calls depend on
each other (``dependence``); of a logarithm, since latencies change by factors.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np

from deployments.loadtest.results.dependence import (
    ERROR,
    Estimate,
    Flags,
    Share,
    estimate_percentile,
    estimate_share,
)
from deployments.loadtest.results.records import Run
from deployments.loadtest.results.statistics import (
    PERCENTILES,
    CallColumns,
    call_columns,
    function_names,
    seconds_of,
    without_ended,
)

Direction = Literal["better", "worse"]

FALSE_ALARM: Final = 0.05
"""Probability that anything is named of a server that did not change."""

LEAST: Final[Mapping[str, float]] = {"latency": 0.05, "share": 0.001}
"""A smaller change is not named: of a latency as a part of it, of a share as it is."""

LOAD_AVERAGE: Final = "load average"
"""Of a run's ``machine``: programs that wanted a processor when the run had ended."""

STEADY: Final = "steady"
"""The shape of which a part is like the whole."""

MOST_RATE_CHANGE: Final = 0.02
"""Of the rate that was intended; loads that differ by more are not compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of one function in two runs.

    Attributes:
        name: ``p50``, ``p95``, ``p99``, ``success``, ``warm``.
        before, after: latencies in seconds of right answers, or shares; with their intervals.
        probability: of a difference as large as this where nothing changed.
        direction: of a change that is named; None: none is.
    """

    function: str
    name: str
    before: Estimate
    after: Estimate
    probability: float
    direction: Direction | None

    @property
    def words(self) -> str:
        """A sentence: ``embed: p95 was 48 ms, is 61 ms (27 % slower).``"""
        before, after = self.before.value, self.after.value
        if self.name in SHARE_NAMES:
            how = "" if self.direction else ", no change that counts"
            kind = "right answers" if self.name == "success" else "calls found it warm"
            was, now = f"{100 * before:.4g} %", f"{100 * after:.4g} %"
            return f"{self.function}: {was} {kind} before, {now} now{how}."
        change = after / before - 1
        how = f"{100 * abs(change):.0f} % {'slower' if change > 0 else 'faster'}"
        if not self.direction:
            how += ", no change that counts"
        return f"{self.function}: {self.name} was {_ms(before)}, is {_ms(after)} ({how})."


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two runs.

    Attributes:
        differences: every value that was compared, also those without a change.
        other_load: why they cannot be compared; empty when they can.
        cautions: what else differs: the machine, the warm-up, the seed.
    """

    differences: Sequence[Difference]
    other_load: str
    cautions: Sequence[str]

    @property
    def changes(self) -> list[Difference]:
        """Those that are named."""
        return [one for one in self.differences if one.direction]

    @property
    def has_regression(self) -> bool:
        """Something got worse."""
        return any(one.direction == "worse" for one in self.differences)

    @property
    def count(self) -> str:
        """How many values changed: ``2 of 5 values got worse, 1 of 5 values got better``; empty:
        none did.
        """
        directions = Counter(one.direction for one in self.changes)
        return ", ".join(
            f"{directions[direction]} of {len(self.differences)} values got {direction}"
            for direction in ("worse", "better")
            if directions[direction]
        )

    @property
    def words(self) -> str:
        """In some sentences."""
        if self.other_load:
            return f"The runs cannot be compared: {self.other_load}"
        if not self.changes:
            return "No change that counts."
        return " ".join(one.words for one in self.changes)


SHARE_NAMES: Final = ("success", "warm")


def compare(before: Run, after: Run) -> Comparison:
    """What changed from one run to another of the same load."""
    if other_load := _other_load(before, after):
        return Comparison([], other_load, [])
    found = [
        difference
        for name in function_names(before)
        for difference in _differences(name, before, after)
    ]
    surely = _significant([one.probability for one in found])
    differences = [_name_change(one) if index in surely else one for index, one in enumerate(found)]
    return Comparison(differences, "", _cautions(before, after))


def _other_load(before: Run, after: Run) -> str:
    if function_names(before) != function_names(after):
        one, other = (", ".join(function_names(run)) or "none" for run in (before, after))
        return f"other functions were called, {one} before and {other} now."
    shapes = [run.shape.split()[0] if run.shape else "" for run in (before, after)]
    if shapes[0] != shapes[1]:
        return f"the shape of the load was {shapes[0]} before and is {shapes[1]} now."
    for name, rate in before.rates.items():
        now = after.rates.get(name, 0.0)
        if abs(now - rate) > MOST_RATE_CHANGE * max(rate, now):
            return f"{name} was called {rate:g} times a second before and {now:g} times now."
    for name, sent in before.sent.items():
        if after.sent.get(name, sent) != sent:
            return f"other calls were sent to {name}."
    for run, when in ((before, "first"), (after, "second")):
        if run.is_partial and shapes[0] != STEADY:
            return f"the {when} run was ended before its time, and its rate changes meanwhile."
        if run.was_limited:
            return f"in the {when} run the generator was the limit: {run.was_limited}"
    return ""


def _cautions(before: Run, after: Run) -> list[str]:
    was, now = (
        {**run.machine, "seed": f"{run.seed}", "seconds of warm-up": f"{run.warm_up_s:g}"}
        for run in (before, after)
    )
    return [
        f"{key} was {was.get(key, 'unknown')} and is {now.get(key, 'unknown')}"
        for key in sorted({*was, *now})
        if _is_other(key, was.get(key), now.get(key))
    ]


def _is_other(key: str, was: str | None, now: str | None) -> bool:
    """The load average is never the same; it is told where other programs may have had a core."""
    if key != LOAD_AVERAGE or was is None or now is None:
        return was != now
    try:
        return abs(float(was) - float(now)) >= 1
    except ValueError:
        return True


def _differences(name: str, before: Run, after: Run) -> list[Difference]:
    columns = [call_columns(without_ended(run), name) for run in (before, after)]
    seconds = [seconds_of(run, name) for run in (before, after)]
    found = []
    if all(column.is_right.any() for column in columns):
        right = [column.latency_s[column.is_right] for column in columns]
        for part in PERCENTILES:
            one, other = (
                estimate_percentile(latencies, part, long)
                for latencies, long in zip(right, seconds, strict=True)
            )
            chance = _latency_probability(one, other)
            found.append(Difference(name, f"p{100 * part:g}", one, other, chance, None))
    of_share: Sequence[tuple[str, Callable[[CallColumns], Flags]]] = (
        ("success", lambda column: column.is_right),
        ("warm", lambda column: column.is_warm),
    )
    for kind, flags_of in of_share:
        flags = [flags_of(column) for column in columns]
        if all(len(one) for one in flags):
            shares = [estimate_share(~one) for one in flags]
            chance = _share_probability(*shares)
            one, other = map(_turned, shares)
            found.append(Difference(name, kind, one, other, chance, None))
    return found


def _turned(share: Share) -> Estimate:
    """The share of the calls without the flag."""
    low, high = share.interval()
    return Estimate(1 - share.value, 1 - high, 1 - low)


def _latency_probability(before: Estimate, after: Estimate) -> float:
    """Of two percentiles so far apart where both are of one server; 1 where an interval has no
    end: too few calls.
    """
    errors = [_log_error(before), _log_error(after)]
    if not all(math.isfinite(error) for error in errors):
        return 1.0
    distance = abs(math.log(after.value / before.value))
    return _two_sided(distance, math.hypot(*errors))


def _log_error(estimate: Estimate) -> float:
    """The standard error of the logarithm, of the interval's wider side."""
    value, low, high = estimate
    if not (math.isfinite(high) and low > 0):
        return math.inf
    width = max(math.log(high / value), math.log(value / low))
    return width / NormalDist().inv_cdf(1 - ERROR)


def _share_probability(before: Share, after: Share) -> float:
    """Of two shares so far apart where both are of one server (score test, with the calls that
    either is worth, and Yates's correction for small counts).
    """
    calls = before.independent + after.independent
    pooled = (before.value * before.independent + after.value * after.independent) / calls
    ends = 1 / before.independent + 1 / after.independent
    distance = max(abs(after.value - before.value) - ends / 2, 0.0)
    return _two_sided(distance, math.sqrt(pooled * (1 - pooled) * ends))


def _two_sided(distance: float, error: float) -> float:
    if error == 0:
        return 0.0 if distance else 1.0
    return 2 * NormalDist().cdf(-distance / error)


def _significant(probabilities: Sequence[float]) -> set[int]:
    """Places of those too improbable for chance, all taken together."""
    order = np.argsort(probabilities, kind="stable")
    found: set[int] = set()
    for rank, index in enumerate(order.tolist()):
        if probabilities[index] > FALSE_ALARM / (len(probabilities) - rank):
            break
        found.add(index)
    return found


def _name_change(one: Difference) -> Difference:
    """With its direction, where it is large enough to matter."""
    before, after = one.before.value, one.after.value
    if one.name in SHARE_NAMES:
        size, is_worse = abs(after - before) / LEAST["share"], after < before
    else:
        size, is_worse = abs(after / before - 1) / LEAST["latency"], after > before
    if size < 1:
        return one
    direction: Direction = "worse" if is_worse else "better"
    return Difference(one.function, one.name, one.before, one.after, one.probability, direction)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"
