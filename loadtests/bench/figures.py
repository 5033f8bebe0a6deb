"""A measured number: its rounds, its unit, its target, and whether it meets it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["met", "missed", "void", ""]


@dataclass(frozen=True, slots=True)
class Target:
    """The bound a number has to keep."""

    sense: Literal["at least", "at most"]
    limit: float

    def is_met(self, value: float) -> bool:
        """Whether ``value`` keeps the bound; NaN never does."""
        return value >= self.limit if self.sense == "at least" else value <= self.limit


@dataclass(frozen=True, slots=True)
class Number:
    """One line of the report.

    Attributes:
        name: what was measured.
        rounds: the value of each round, in the order measured.
        unit: ``req/s``, ``ms``, ``s``, ``MB``; empty for a ratio.
        target: the bound it has to keep; None for a number that only informs.
        note: how it was measured, where the name does not say it.
        void: why the number means nothing, such as refused requests; empty when it is valid.
    """

    name: str
    rounds: tuple[float, ...]
    unit: str = ""
    target: Target | None = None
    note: str = ""
    void: str = ""

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds) if self.rounds else math.nan

    @property
    def verdict(self) -> Verdict:
        """``void`` above all; empty when nothing is asked of the number."""
        if self.void or not self.rounds:
            return "void"
        if self.target is None:
            return ""
        return "met" if self.target.is_met(self.value) else "missed"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0..1) of ``values`` do not exceed: an observed value, never a blend of two.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a percentile of.")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
