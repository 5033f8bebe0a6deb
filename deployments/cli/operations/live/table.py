"""What the live table looks like: head, rows, foot, as lines of ``rich``, for a terminal of some
width and height. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from deployments.cli.operations.live.keyboard import Choice
from deployments.cli.operations.live.readings import STEPS, ServerReading, Values
from deployments.cli.operations.live.rows import SORT_KEYS, FunctionRow, RowKey, count_states

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
"""Of lines; the first stands for nothing."""

ASCII_BLOCKS: Final = " .:-=+*#@"
"""Where a terminal has no others."""

NAME_WIDTH: Final = 14
"""Least characters of a function's name."""

MOST_HEAD: Final = 3
"""The head has at most one line in so many of the screen."""

STATE_STYLES: Final[Mapping[str, str]] = {
    "ready": "green",
    "waking": "yellow",
    "draining": "yellow",
    "failed": "bold red",
    "asleep": "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        sort: of ``SORT_KEYS``; empty: it belongs to the one before it.
        width: characters.
        need: columns of a lower one go first where the terminal is narrow.
        cell: of a row; the second argument is the blocks of lines.
        is_text: it stands at the left.
    """

    sort: str
    width: int
    need: int
    cell: Callable[[FunctionRow, str], str]
    is_text: bool = False


def blocks_for(encoding: str) -> str:
    """Return what lines are drawn with."""
    return BLOCKS if encoding.lower().replace("-", "").startswith("utf") else ASCII_BLOCKS


def spark(values: Values, blocks: str = BLOCKS) -> str:
    """Return a line of blocks, the highest at the highest value; nothing where there is none."""
    highest = max((value for value in values if value), default=0.0)
    if not highest:
        return ""
    most = len(blocks) - 1
    return "".join(
        blocks[max(1, round(value / highest * most))] if value else blocks[0] for value in values
    )


def _rate(row: FunctionRow, blocks: str) -> str:
    if row.rate is None:
        return ""
    return f"{row.rate:.0f}" if row.rate >= 10 else f"{row.rate:.2g}"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 10_000:
        return f"{value / 1000:.0f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _errors(row: FunctionRow, blocks: str) -> str:
    if not row.errors:
        return ""
    return f"{row.errors} {next(iter(row.codes))}"


COLUMNS: Final = (
    Column("state", 16, 9, lambda row, _: row.state, is_text=True),
    Column("tier", 4, 4, lambda row, _: row.tier, is_text=True),
    Column("replicas", 9, 3, lambda row, _: str(row.replicas or "")),
    Column("MB", 6, 6, lambda row, _: f"{row.memory_bytes / 1e6:.0f}" if row.memory_bytes else ""),
    Column("calls/s", 8, 8, _rate),
    Column("", STEPS, 5, lambda row, blocks: spark(row.line.calls_per_s, blocks)),
    Column("p50", 7, 3, lambda row, _: _ms(row.p50_ms)),
    Column("p95", 7, 7, lambda row, _: _ms(row.p95_ms)),
    Column("", STEPS, 2, lambda row, blocks: spark(row.line.p95_ms, blocks)),
    Column("errors", 14, 6, _errors, is_text=True),
    Column("last wake", 10, 1, lambda row, _: "" if row.wake_s is None else f"{row.wake_s:.3f} s"),
)
"""Behind the name of the function."""


def fitting(width: int) -> list[Column]:
    """Return the columns that fit beside the names: the most needed ones, in their order."""
    columns = list(COLUMNS)
    while columns and NAME_WIDTH + sum(column.width + 1 for column in columns) > width:
        columns.remove(min(columns, key=lambda column: column.need))
    return columns


def make_table(
    rows: Sequence[FunctionRow],
    columns: Sequence[Column],
    *,
    blocks: str = BLOCKS,
    choice: Choice | None = None,
    selected: RowKey | None = None,
) -> Table:
    """Return the rows as a table.

    Args:
        choice: by which they are sorted, which the head shows; None: it does not.
        selected: the row that is marked.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=choice is not None)
    limits: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"} if choice else {}
    table.add_column(_head("function", choice), ratio=1 if choice else None, **limits)
    for column in columns:
        table.add_column(
            _head(column.sort, choice),
            width=column.width if choice else None,
            justify="left" if column.is_text or not column.sort else "right",
            **(limits or {"no_wrap": True}),
        )
    for row in rows:
        cells = [Text(row.key.name)]
        for column in columns:
            style = STATE_STYLES.get(row.base_state, "") if column.sort == "state" else ""
            style = "red" if column.sort == "errors" else style
            cells.append(Text(column.cell(row, blocks), style))
        style = "reverse " if row.key == selected else ""
        table.add_row(*cells, style=f"{style}{'dim' if row.is_stale else ''}".strip())
    return table


def _head(sort: str, choice: Choice | None) -> Text:
    from rich.text import Text

    if choice is None or sort != choice.sort:
        return Text(sort, "bold")
    is_down = SORT_KEYS[sort].is_descending is not choice.is_reversed
    return Text(f"{sort}{'↓' if is_down else '↑'}", "bold underline")


def head_lines(
    servers: Mapping[str, tuple[str, ServerReading]], rows: Sequence[FunctionRow], clock: str
) -> list[Text]:
    """Return the lines above the table: the functions in numbers, without their stages that are
    split off, each server, its machines, which promises are off.

    Args:
        servers: the words for each, and its reading, by address.
        clock: the time of day.
    """
    from rich.text import Text

    whole = [row for row in rows if not row.is_part]
    rate = sum(row.rate or 0.0 for row in whole)
    errors = sum(row.errors for row in whole)
    numbers = f"{count_states(whole)}, {rate:.0f} calls/s, {errors} errors in the last minute"
    lines = [Text.assemble(("wakeful top", "bold"), f"  {clock}  {numbers}")]
    for url, (words, reading) in servers.items():
        lines.append(Text(f"{url}  {words}"))
        if reading.trouble:
            lines[-1].append(f": {reading.trouble}", "bold yellow")
        lines += map(_machine_line, reading.machines)
        lines += [
            Text(f"  off at {lack['machine']}: {lack['name']}: {lack['lost']}", "yellow")
            for lack in reading.lacks
        ]
    return lines


def _machine_line(machine: Mapping[str, Any]) -> Text:
    from rich.text import Text

    line = Text(f"  {machine['address'] or machine['id']}")
    if (cpus := machine["cpus"]) is not None:
        line.append(f"  {cpus:g} CPUs")
    if (used := machine["used_bytes"]) is not None:
        budget = machine["budget_bytes"]
        most = "" if budget is None else f" of {budget / 1e6:,.0f}"
        line.append(f"  {used / 1e6:,.0f}{most} MB")
    for gpu in machine["gpus"]:
        shares = ", ".join(f"{of['function']} {of['num_gpus']:g}" for of in gpu["shares"])
        line.append(f"  GPU {gpu['id']}: {shares or 'free'}")
    return line


def cut_head(lines: Sequence[Text], height: int) -> list[Text]:
    """Return as many lines of the head as leave room for the table."""
    from rich.text import Text

    most = max(2, height // MOST_HEAD)
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], Text(f"  and {len(lines) - most + 1} lines more", "dim")]


def foot_lines(choice: Choice, selected: FunctionRow | None) -> list[Text]:
    """Return the lines below the table: the row that is selected in words, and the keys."""
    from rich.text import Text

    words = ""
    if selected is not None:
        codes = ", ".join(f"{code} {count}" for code, count in selected.codes.items())
        parts = [selected.path, f"errors: {codes}" if codes else "", *selected.notes]
        words = " ".join("  ".join((selected.key.name, *filter(None, parts))).splitlines())
    if choice.is_typing:
        keys = Text.assemble(("/", "bold"), choice.search, ("█", "blink"), "  Enter, Esc")
    else:
        found = f"  found: {choice.search!r} (Esc: all)" if choice.search else ""
        keys = Text(f"q quit  / search  ← → sort  r reverse  ↑ ↓ select{found}", "dim")
    return [Text(words), keys]


def window(count: int, at: int, height: int, first: int) -> int:
    """Return which row is the first on the screen, so that the selected one is among them.

    Args:
        count: of all rows.
        at: the selected one.
        height: rows that fit.
        first: the first one before.
    """
    last = max(0, count - height)
    return max(0, min(last, max(min(first, at), at - height + 1)))
