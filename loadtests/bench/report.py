"""Numbers as a markdown table, put between two markers of a page and leaving the rest of it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.figures import Number

BEGIN, END = "<!-- bench: written by `make bench` -->", "<!-- bench: end -->"
MAKE = (BEGIN, END)
WAKE = ("<!-- bench wake: written by `wakeful bench wake` -->", "<!-- bench wake: end -->")
"""Where the table of each command stands."""

PAGES = {
    MAKE: f"""# Benchmarks

`make bench` measures Wakeful and the bare limit of the machine in the same run, in alternating rounds, and writes this table.
A number is the median of its rounds; a ratio is taken within each round.

{BEGIN}
{END}
""",
    WAKE: f"""# Benchmarks

`wakeful bench wake` measures how functions sleep, wake, share a host, move out of it and scale, and writes this table.
A number is the median of its rounds; where it is of many calls, the spread is theirs.

{WAKE[0]}
{WAKE[1]}
""",
}
"""A new page for each table; one page may hold both."""


def table(numbers: Sequence[Number]) -> str:
    """One line a number."""
    lines = ["| what | measured | rounds | target | verdict |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(line, numbers)])


def line(number: Number) -> str:
    """``| name (note) | value unit | lowest to highest | at least 0.8 | met |``."""
    target = f"{number.target.sense} {amount(number.target.limit, number.unit)}" if number.target else ""
    what = f"{number.name} ({number.note})" if number.note else number.name
    verdict = f"**void**: {cell(number.void)}" if number.void else number.verdict
    return f"| {cell(what)} | {amount(number.value, number.unit)} | {spread(number)} | {target} | {verdict} |"


def spread(number: Number) -> str:
    """``0.79 to 0.83 of 3``; empty for a single round."""
    if len(number.rounds) < 2:
        return ""
    return f"{amount(min(number.rounds), '')} to {amount(max(number.rounds), '')} of {len(number.rounds)}"


def amount(value: float, unit: str) -> str:
    """A value with as many digits as it deserves; a count, which is an integer without a unit, is written as one."""
    if math.isnan(value):
        return "-"
    if isinstance(value, int) and not unit:
        return f"{value:,}"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{text} {unit}".rstrip()


def cell(text: str, longest: int = 300) -> str:
    """Text that cannot end its cell."""
    return " ".join(text.replace("|", "/").split())[:longest]


def section(numbers: Sequence[Number], *, command: str, date: str, machine: str) -> str:
    """The table with what is needed to repeat it."""
    return f"`{command}`, {date}. {machine}.\n\n{table(numbers)}\n"


def write(page: Path, text: str, markers: tuple[str, str] = MAKE) -> None:
    """Replaces what stands between two markers of ``page``, which is made if it is not there; whole or not at all.

    Raises:
        ValueError: the page is there and has no markers.
    """
    before = page.read_text() if page.exists() else PAGES[markers]
    head, begin, rest = before.partition(markers[0])
    _, end, tail = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"{page} has no place for the table. Put the lines {markers[0]!r} and {markers[1]!r} where it belongs.")
    page.parent.mkdir(parents=True, exist_ok=True)
    new = page.with_suffix(".new")
    new.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}")
    new.replace(page)
