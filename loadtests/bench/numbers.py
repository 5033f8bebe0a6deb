"""Measured numbers: rounds, unit, bounds, verdict; each is a line of a table in the docs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtests.command import cell

HEAD = "| what | measured | rounds | target | verdict |\n|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Number:
    """One line of a table.

    Attributes:
        name: what was measured.
        rounds: the value of each round, in the order measured.
        unit: ``req/s``, ``ms``, ``s``, ``MB``; empty for a ratio or a count.
        note: how it was measured, where the name does not say it.
        void: why the number means nothing, such as refused requests; empty when it is valid.
        at_least, at_most: the bound it has to keep; infinite for a number that only informs.
    """

    name: str
    rounds: Sequence[float]
    unit: str = ""
    note: str = ""
    void: str = ""
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds) if self.rounds else math.nan

    @property
    def bound(self) -> str:
        """``at least 0.80``; empty when nothing is asked of the number."""
        bounds = {"at least": self.at_least, "at most": self.at_most}
        words = (
            f"{sense} {amount(b, self.unit)}" for sense, b in bounds.items() if math.isfinite(b)
        )
        return " and ".join(words)

    @property
    def verdict(self) -> Literal["met", "missed", "void", ""]:
        """``void`` above all; NaN keeps no bound."""
        if self.void or not self.rounds:
            return "void"
        if not self.bound:
            return ""
        return "met" if self.at_least <= self.value <= self.at_most else "missed"

    def __str__(self) -> str:
        """``| name (note) | value unit | lowest to highest | at least 0.8 | met |``."""
        what = f"{self.name} ({self.note})" if self.note else self.name
        spread = ""
        if len(self.rounds) > 1:
            low, high = amount(min(self.rounds)), amount(max(self.rounds))
            spread = f"{low} to {high} of {len(self.rounds)}"
        verdict = f"**void**: {cell(self.void)}" if self.void else self.verdict
        cells = (cell(what), amount(self.value, self.unit), spread, self.bound, verdict)
        return f"| {' | '.join(cells)} |"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0..1) of them do not exceed; NaN of none."""
    return float(np.quantile(values, share, method="inverted_cdf")) if values else math.nan


def amount(value: float, unit: str = "") -> str:
    """A value with as many digits as it deserves; an integer without a unit is a count."""
    if math.isnan(value):
        return "-"
    if isinstance(value, int) and not unit:
        return f"{value:,}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()
