"""The rows of the live table: one a function of each server, in an order, as a search finds them.

Pure: readings and a choice in, rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from deployments.cli.operations.live.readings import (
    NO_LINE,
    Entry,
    Line,
    ServerReading,
)
from deployments.cli.status import state_text


class RowKey(NamedTuple):
    """Which row; two servers may have functions of one name."""

    server: str
    name: str


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A function as it is shown.

    Attributes:
        key: its server's address and its name.
        state: in words, as of ``state_text``.
        base_state: the state alone.
        is_part: it is a stage of another row's function, whose calls its own are part of.
        rate: of the newest step; None: the last minute had no call.
        p50_ms, p95_ms: of the last minute; None: likewise, or it is not known.
        errors: of the last minute.
        codes: these by code, the most first.
        wake_s: how long its last cold start took; None: there was none.
        notes: what is said of it in words: why it is in that state, what was decided last.
        is_stale: its server does not answer, and this is what was known before.
    """

    key: RowKey
    state: str
    base_state: str
    is_part: bool
    tier: str
    replicas: int
    memory_bytes: int
    rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    line: Line
    errors: int
    codes: Mapping[str, int]
    wake_s: float | None
    path: str
    notes: tuple[str, ...]
    is_stale: bool


def rows_of(server: str, reading: ServerReading) -> list[FunctionRow]:
    """Return the rows of a server, in its order. Stages that are split off are among them where
    they have deployments.

    Args:
        server: its address.
    """
    return [
        _row(
            RowKey(server, name),
            entry,
            reading.lines.get(name, NO_LINE),
            is_stale=bool(reading.trouble),
        )
        for name, entry in reading.entries.items()
        if entry["tier"] != "run" or not entry["part_of"]
    ]


def _row(key: RowKey, entry: Entry, line: Line, *, is_stale: bool) -> FunctionRow:
    wake, codes, minute = entry["last_wake"], _codes(entry["errors"]), entry["last_minute"]
    return FunctionRow(
        key,
        state="quarantined" if entry["is_quarantined"] else state_text(entry),
        base_state=entry["state"],
        is_part=bool(entry["part_of"]),
        tier=entry["tier"],
        replicas=entry["replicas"],
        memory_bytes=entry["memory_bytes"],
        rate=None if line.is_blank else line.calls_per_s[-1] or 0.0,
        p50_ms=minute.get("p50_ms"),
        p95_ms=minute.get("p95_ms"),
        line=line,
        errors=sum(codes.values()),
        codes=codes,
        wake_s=wake["total_s"] if wake else None,
        path=entry["url"],
        notes=tuple(filter(None, (entry["reason"], entry["last_decision"]))),
        is_stale=is_stale,
    )


def _codes(told: Mapping[str, int]) -> Mapping[str, int]:
    counts = {code: count for code, count in told.items() if count}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


_STATES: Final = ("failed", "waking", "draining", "ready", "asleep")
"""What wants a look first."""


def _rank(row: FunctionRow) -> int:
    return _STATES.index(row.base_state) if row.base_state in _STATES else 0


class SortKey(NamedTuple):
    """What rows are sorted by.

    Attributes:
        value: of a row; None: it has none, and comes last in either direction.
        is_descending: unless it is reversed.
    """

    value: Callable[[FunctionRow], Any]
    is_descending: bool = True


SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "function": SortKey(lambda row: row.key.name, is_descending=False),
    "state": SortKey(_rank, is_descending=False),
    "tier": SortKey(lambda row: row.tier, is_descending=False),
    "replicas": SortKey(lambda row: row.replicas),
    "MB": SortKey(lambda row: row.memory_bytes),
    "calls/s": SortKey(lambda row: row.rate),
    "p50": SortKey(lambda row: row.p50_ms),
    "p95": SortKey(lambda row: row.p95_ms),
    "errors": SortKey(lambda row: row.errors),
    "last wake": SortKey(lambda row: row.wake_s),
}
"""By the names of columns, in their order."""


def arrange(
    rows: Iterable[FunctionRow], sort: str, *, is_reversed: bool, search: str
) -> list[FunctionRow]:
    """Return the rows that a search finds, in order; equal ones by name.

    Args:
        sort: of ``SORT_KEYS``.
        search: words, each of which is in the name, the state or the tier of a row that is found.
    """
    words = search.lower().split()
    found = [row for row in rows if all(word in _searched(row) for word in words)]
    found.sort(key=lambda row: (row.key.name, row.key.server))
    key = SORT_KEYS[sort]
    known = [row for row in found if key.value(row) is not None]
    unknown = [row for row in found if key.value(row) is None]
    known.sort(key=key.value, reverse=key.is_descending is not is_reversed)
    return known + unknown


def _searched(row: FunctionRow) -> str:
    return f"{row.key.name} {row.state} {row.tier}".lower()


def count_states(rows: Sequence[FunctionRow]) -> str:
    """In words: ``12 functions: 3 ready, 9 asleep``."""
    states = [row.base_state for row in rows]
    parts = [f"{states.count(state)} {state}" for state in _STATES if state in states]
    return f"{len(rows)} function{'' if len(rows) == 1 else 's'}" + (
        f": {', '.join(parts)}" if parts else ""
    )
