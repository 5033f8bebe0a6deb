"""What the live table looks like."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from deployments.cli.operations.live.keyboard import Choice
from deployments.cli.operations.live.readings import STEPS, Line, ServerReading
from deployments.cli.operations.live.rows import rows_of
from deployments.cli.operations.live.table import (
    ASCII_BLOCKS,
    BLOCKS,
    COLUMNS,
    blocks_for,
    cut_head,
    fitting,
    foot_lines,
    head_lines,
    make_table,
    spark,
    window,
)
from tests.deployments.cli.operations.live.entries import entry

LONG = "a-name-that-is-rather-long-for-a-column"

READING = ServerReading(
    entries={
        "embed": entry(
            "embed",
            state="ready",
            tier="own",
            replicas=2,
            memory_bytes=123_456_789,
            last_wake={"total_s": 0.1234},
            errors={"overloaded": 7},
            last_minute={"p50_ms": 2.5, "p95_ms": 81.0},
            reason="a\nreason [with brackets]",
        ),
        LONG: entry(LONG),
    },
    lines={
        "embed": Line((None,) * 10 + (5.0, 10.0), (None,) * 11 + (2.5,), (None,) * 11 + (81.0,))
    },
    machines=[
        {
            "id": "m",
            "address": "10.0.0.1",
            "cpus": 8,
            "used_bytes": 420e6,
            "budget_bytes": 2048e6,
            "gpus": [
                {"id": 0, "shares": [{"function": "embed", "num_gpus": 0.5}]},
                {"id": 1, "shares": []},
            ],
        }
    ],
    lacks=[{"machine": "10.0.0.1", "name": "replay", "lost": "a call is lost"}],
)
ROWS = rows_of("http://h:1", READING)


def drawn(*parts: object, width: int) -> list[str]:
    """As a terminal of that width shows it."""
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(Group(*parts))  # type: ignore[arg-type]
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), ""),
        ((None, 0.0), ""),
        ((1.0, None, 8.0), "▁ █"),
        ((8.0, 4.0, 0.001, 0.0), "█▄▁ "),
    ],
)
def test_a_line_of_blocks(values, expected):
    """By its highest value; what is above nothing is seen."""
    assert spark(values) == expected


def test_blocks_of_terminals():
    """One that is not of UTF-8 has no blocks."""
    assert blocks_for("utf-8") == blocks_for("UTF8") == BLOCKS
    assert blocks_for("iso-8859-1") == ASCII_BLOCKS
    assert spark((1.0, 8.0), ASCII_BLOCKS) == ".@"
    assert len(BLOCKS) == len(ASCII_BLOCKS)


def test_a_wide_terminal_shows_all():
    """Each in its column; the one that rows are sorted by is marked."""
    head, embed, _ = drawn(make_table(ROWS, fitting(140), choice=Choice()), width=140)
    assert head.split() == [
        *("function", "state", "tier", "replicas", "MB", "calls/s↓"),
        *("p50", "p95", "errors", "last", "wake"),
    ]
    assert embed.split() == [
        *("embed", "ready", "own", "2", "123", "10", "▄█", "2.5", "ms", "81", "ms", "█"),
        *("7", "overloaded", "0.123", "s"),
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_a_narrow_terminal_shows_what_is_needed_most(width):
    """No row is broken; the state is the last to go, and long names are cut."""
    lines = drawn(make_table(ROWS, fitting(width), choice=Choice()), width=width)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    if width >= 40:
        assert "ready" in lines[1]
    assert fitting(10_000) == list(COLUMNS)


def test_the_head():
    """The functions in numbers, the server, its machine, what is off."""
    lines = head_lines({"http://h:1": ("wakeful up of f.yaml", READING)}, ROWS, "12:00:00")
    assert [line.plain for line in lines] == [
        "wakeful top  12:00:00  2 functions: 1 ready, 1 asleep, 10 calls/s, 7 errors in the last"
        " minute",
        "http://h:1  wakeful up of f.yaml",
        "  10.0.0.1  8 CPUs  420 of 2,048 MB  GPU 0: embed 0.5  GPU 1: free",
        "  off at 10.0.0.1: replay: a call is lost",
    ]
    stage = entry("embed.model", tier="own", part_of="embed", errors={"overloaded": 7})
    more = ServerReading({**READING.entries, "embed.model": stage}, READING.lines)
    more.lines["embed.model"] = READING.lines["embed"]
    every = rows_of("http://h:1", more)
    assert len(every) == 3
    # its calls are those of its function
    assert head_lines({}, every, "12:00:00") == lines[:1]
    gone = ServerReading(trouble="no answer")
    assert head_lines({"u": ("w", gone)}, [], "")[1].plain == "u  w: no answer"


def test_many_machines_leave_room():
    """A third of the screen is the head's; how much more there is, is said."""
    bare = {"id": "m", "address": "", "cpus": None, "used_bytes": None, "gpus": []}
    lines = head_lines({"u": ("w", ServerReading(machines=[bare] * 99))}, [], "")
    assert lines[2].plain == "  m"
    cut = cut_head(lines, 24)
    assert len(cut) == 8
    assert cut[-1].plain == "  and 94 lines more"
    assert cut_head(lines[:8], 24) == lines[:8]


def test_the_foot():
    """The selected function in words on one line; then what is typed, or the keys."""
    words, keys = foot_lines(Choice(), ROWS[0])
    assert words.plain == (
        "embed  /v2/models/embed  errors: overloaded 7  a reason [with brackets]"
    )
    assert keys.plain.startswith("q quit")
    assert "'ab'" in foot_lines(Choice(search="ab"), None)[1].plain
    assert foot_lines(Choice(search="ab", is_typing=True), None)[1].plain.startswith("/ab")


@pytest.mark.parametrize(
    ("count", "at", "height", "first", "expected"),
    [
        (5, 4, 10, 3, 0),  # all fit
        (100, 0, 10, 0, 0),
        (100, 9, 10, 0, 0),
        (100, 10, 10, 0, 1),
        (100, 50, 10, 45, 45),  # it stays where it is
        (100, 44, 10, 45, 44),
        (100, 99, 10, 0, 90),
        (0, 0, 10, 7, 0),
    ],
)
def test_which_rows_are_seen(count, at, height, first, expected):
    """The selected one is among them, and no more is moved than that takes."""
    assert window(count, at, height, first) == expected


def test_rows_of_a_pipe_are_whole():
    """No name is cut where a program reads it."""
    assert any(LONG in line for line in drawn(make_table(ROWS, COLUMNS), width=10_000))
    assert len(ROWS[0].line.p95_ms) == STEPS
