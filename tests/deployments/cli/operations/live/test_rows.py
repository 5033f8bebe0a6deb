"""The rows of the live table: what they say, their order, what a search finds."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.cli.operations.live.readings import STEPS, Line, ServerReading
from deployments.cli.operations.live.rows import FunctionRow, arrange, count_states, rows_of
from tests.deployments.cli.operations.live.entries import entry

URL = "http://127.0.0.1:8000"


def rows(*entries: dict[str, Any], lines: dict[str, Line] | None = None) -> list[FunctionRow]:
    """Of one server."""
    known = {one["name"]: entry(**one) for one in entries}
    return rows_of(URL, ServerReading(entries=known, lines=lines or {}))


def line(*rates: float | None) -> Line:
    """Whose newest steps have these rates, in ms as many."""
    values = ((None,) * STEPS + rates)[-STEPS:]
    return Line(values, values, values)


def test_an_entry_as_a_row():
    """Of a cluster."""
    (row,) = rows(
        {
            "name": "a",
            "state": "ready",
            "tier": "own",
            "replicas": 3,
            "doing": "updating",
            "kept": True,
            "memory_bytes": 5_000_000,
            "last_wake": {"total_s": 0.25},
            "errors": {"overloaded": 2, "not_ready": 5, "bad_request": 0},
            "reason": "it waits",
            "last_decision": "promoted",
            "last_minute": {"p50_ms": 3.5, "p95_ms": 9.0},
        },
        lines={"a": line(4.0, None)},
    )
    assert (row.state, row.base_state, row.tier, row.replicas) == (
        "ready (updating, kept)",
        "ready",
        "own",
        3,
    )
    assert list(row.codes.items()) == [("not_ready", 5), ("overloaded", 2)]
    assert (row.errors, row.wake_s, row.path) == (7, 0.25, "/v2/models/a")
    assert row.notes == ("it waits", "promoted")
    # no call was in the newest step; latencies are those of the minute, and of no step
    assert (row.rate, row.p50_ms, row.p95_ms, row.is_part) == (0.0, 3.5, 9.0, False)


def test_an_entry_that_is_quarantined():
    """It counts as failed, and says more."""
    (row,) = rows({"name": "a", "state": "failed", "is_quarantined": True})
    assert (row.state, row.base_state, row.rate, row.p95_ms) == (
        "quarantined",
        "failed",
        None,
        None,
    )


def test_a_stage_has_a_row_where_it_is_deployed():
    """In a run it is a part of its function's process."""
    assert not rows({"name": "a.b", "part_of": "a"})
    assert rows({"name": "a.b", "part_of": "a", "tier": "own"})


@pytest.mark.parametrize(
    ("sort", "is_reversed", "expected"),
    [
        ("function", False, "abcd"),
        ("function", True, "dcba"),
        ("state", False, "cbad"),
        ("calls/s", False, "bacd"),  # what was not called comes last
        ("calls/s", True, "abcd"),
        ("MB", False, "dabc"),
        ("errors", False, "cabd"),
        ("last wake", False, "dabc"),
    ],
)
def test_rows_are_sorted(sort, is_reversed, expected):
    """The most, the newest and the worst first; names first of all that is equal."""
    found = rows(
        {"name": "d", "memory_bytes": 7, "last_wake": {"total_s": 1.0}},
        {"name": "c", "state": "failed", "errors": {"x": 1}},
        {"name": "b", "state": "waking"},
        {"name": "a", "state": "ready"},
        lines={"a": line(1.0), "b": line(2.0)},
    )
    names = [row.key.name for row in arrange(found, sort, is_reversed=is_reversed, search="")]
    assert "".join(names) == expected


@pytest.mark.parametrize(
    ("search", "expected"),
    [("", "ab"), ("B", "b"), ("asleep", "b"), ("ready run", "a"), ("ready asleep", ""), ("x", "")],
)
def test_a_search_finds_all_its_words(search, expected):
    """In the name, the state or the tier."""
    found = rows({"name": "a", "state": "ready"}, {"name": "b"})
    names = [r.key.name for r in arrange(found, "function", is_reversed=False, search=search)]
    assert "".join(names) == expected


def test_states_are_counted():
    """In the order in which they want a look."""
    found = rows({"name": "a", "state": "ready"}, {"name": "b"}, {"name": "c", "state": "failed"})
    assert count_states(found) == "3 functions: 1 failed, 1 ready, 1 asleep"
    assert count_states(found[:1]) == "1 function: 1 ready"
    assert count_states([]) == "0 functions"
