"""Arrivals: read from a CSV file (``at_s,function`` and, where it is known, ``service_s``), or made
up at rates that are given.
"""

from __future__ import annotations

import csv
import heapq
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtime.errors import DeclarationError, Problem
from runtime.system.messages import did_you_mean, quote
from runtime.system.setting_values import to_number

COLUMNS: Final = ("at_s", "function", "service_s")

MOST_PROBLEMS: Final = 20
"""A file of another kind is wrong in every line; twenty are enough to show it."""

LONGEST_S: Final = 31 * 86400.0
"""Of a trace. A function that is awake is looked at five times a second of it, half a minute of
processor time a day; with times of the clock, such as 1732680000, a replay would never end.
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call of a trace.

    Attributes:
        at: seconds from the beginning of the trace.
        service_s: for how long it keeps a worker; None where the trace does not say.
        length: of its row, as of ``BatchCurve.length``; None where the trace does not say.
        index: of the recorded call that it is; None for one that is made up.
    """

    at: float
    function: str
    service_s: float | None = None
    length: float | None = None
    index: int | None = None


class RateCurve(NamedTuple):
    """How many calls a second come, by time.

    Attributes:
        rate_at: calls a second, of seconds from the beginning.
        highest: that ``rate_at`` ever gives.
    """

    rate_at: Callable[[float], float]
    highest: float


def read_arrivals(path: Path, known: Collection[str]) -> list[Arrival]:
    """The arrivals of a file, in the order of time.

    Args:
        known: names of functions that may be called.

    Raises:
        DeclarationError: with the problems, each with its line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True, strict=True)
            problems = _header(str(path), rows.fieldnames or ())
            arrivals = (
                []
                if problems
                else [_arrival(str(path), rows.line_num, row, known, problems) for row in rows]
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DeclarationError(
            [Problem(str(path), 1, "", f"it cannot be read: {error}")]
        ) from error
    if not problems and not arrivals:
        problems = [Problem(str(path), 1, "", "there are no arrivals in it.")]
    if problems:
        raise DeclarationError(problems[:MOST_PROBLEMS])
    return sorted(
        (arrival for arrival in arrivals if arrival is not None), key=lambda arrival: arrival.at
    )


def poisson_arrivals(rates: Mapping[str, float], seconds: float, seed: int = 0) -> list[Arrival]:
    """Random independent calls; ``rates`` by function, a second."""
    curves = {name: RateCurve(partial(_constant, rate), rate) for name, rate in rates.items()}
    return list(draw_arrivals(curves, seconds, seed))


def _constant(rate: float, _: float) -> float:
    return rate


def draw_arrivals(
    curves: Mapping[str, RateCurve], seconds: float, seed: int = 0
) -> Iterator[Arrival]:
    """Random independent calls at rates that change with time, in the order of time, each made when
    it is asked for. What a function gets does not depend on the other functions.

    An inhomogeneous Poisson process by thinning (Lewis and Shedler, *Simulation of nonhomogeneous
    Poisson processes by thinning*, 1979).
    """
    return heapq.merge(
        *(_thin(name, curve, seconds, seed) for name, curve in curves.items()),
        key=lambda arrival: arrival.at,
    )


def _thin(name: str, curve: RateCurve, seconds: float, seed: int) -> Iterator[Arrival]:
    dice, at = random.Random(f"{seed} {name}"), 0.0
    while curve.highest > 0 and (at := at + dice.expovariate(curve.highest)) < seconds:
        rate = curve.rate_at(at)
        if rate >= curve.highest or dice.random() * curve.highest < rate:
            yield Arrival(round(at, 6), name)


def _header(file: str, columns: Sequence[str]) -> list[Problem]:
    unknown = [name for name in columns if name not in COLUMNS]
    problems = [
        Problem(
            file,
            1,
            name,
            f"unknown column{did_you_mean(name, COLUMNS)}; known are {', '.join(COLUMNS)}.",
        )
        for name in unknown
    ]
    missing = [name for name in COLUMNS[:2] if name not in columns]
    return problems + [
        Problem(
            file, 1, "", f"the first line has no column {name!r}; it should be `at_s,function`."
        )
        for name in missing
    ]


def _arrival(
    file: str, line: int, row: Mapping[str, Any], known: Collection[str], problems: list[Problem]
) -> Arrival | None:
    """One line; its problems are added to ``problems``."""
    before = len(problems)
    at = _seconds(file, line, "at_s", row["at_s"], problems)
    if at > LONGEST_S:
        problems.append(
            Problem(
                file,
                line,
                "at_s",
                f"{at / 86400:.0f} days after the beginning; {LONGEST_S / 86400:.0f} at most are"
                " replayed. From times of the clock, take off that of the first call.",
            )
        )
    service_s = (
        _seconds(file, line, "service_s", row["service_s"], problems)
        if row.get("service_s")
        else None
    )
    name = str(row["function"])
    if name not in known:
        meant = did_you_mean(name, known) or "."
        problems.append(
            Problem(file, line, "function", f"there is no function {quote(name)}{meant}")
        )
    if None in row:
        problems.append(
            Problem(file, line, "", "it has more values than the first line has columns.")
        )
    return Arrival(at, row["function"], service_s) if len(problems) == before else None


def _seconds(file: str, line: int, column: str, text: str | None, problems: list[Problem]) -> float:
    seconds = to_number(text or "")
    if not (math.isfinite(seconds) and seconds >= 0):
        problems.append(
            Problem(
                file, line, column, f"{quote(text)} is given, a number of seconds from 0 is wanted."
            )
        )
    return seconds
