"""What events of a server come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deployments.cli.operations.live.keyboard import Choice
from deployments.cli.operations.live.readings import (
    STEPS,
    EventDecoder,
    ServerEvent,
    ServerReading,
    says_moving,
)
from deployments.cli.operations.live.rows import rows_of
from deployments.cli.operations.live.table import foot_lines, head_lines
from tests.deployments.cli.operations.live.entries import entry


def event(name: str, data: Any) -> ServerEvent:
    """As a server writes it."""
    return ServerEvent(name, json.dumps(data))


def samples(start: float, **functions: list[float]) -> ServerEvent:
    """Calls a second of each step, with their latencies."""
    told = {
        name: {
            "calls_per_s": rates,
            "p50_ms": [rate or None for rate in rates],
            "p95_ms": [rate * 2 or None for rate in rates],
            "errors_per_s": [0.0] * len(rates),
        }
        for name, rates in functions.items()
    }
    steps = max(map(len, functions.values()), default=1)
    return event("samples", {"step_s": 5, "from": start, "steps": steps, "functions": told})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_whole_however_they_are_cut(size):
    """In pieces of any length; comments are no events, and what is not whole waits."""
    text = (
        b':\n\nevent: functions\ndata: {"a":\ndata: 1}\n\n:\n\nevent: closing\ndata:\n\n'
        b"data: x\xc3\xa9\n\nevent: cut\nda"
    )
    decoder = EventDecoder()
    found = [one for at in range(0, len(text), size) for one in decoder.feed(text[at : at + size])]
    assert found == [
        ServerEvent("functions", '{"a":\n1}'),
        ServerEvent("closing", ""),
        ServerEvent("", "xé"),
    ]


def test_an_event_without_an_end_is_bounded(monkeypatch):
    """What never ends is no event of a server of ours."""
    monkeypatch.setattr("deployments.cli.operations.live.readings.MOST_EVENT_BYTES", 100)
    decoder = EventDecoder()
    assert decoder.feed(b"data: " + b"x" * 94) == []
    with pytest.raises(ValueError, match="an event has more than"):
        decoder.feed(b"x")


def test_functions_are_the_first_ones_and_their_changes():
    """All at first; then what changed, and what is gone, with its line."""
    reading = ServerReading()
    reading.take(event("functions", {"all": True, "functions": [entry("a"), entry("b")]}))
    reading.take(samples(0, a=[1.0] * STEPS, b=[1.0] * STEPS))
    reading.take(
        event(
            "functions",
            {"all": False, "functions": [entry("b", state="ready")], "removed": ["a", "x"]},
        )
    )
    assert reading.entries == {"b": entry("b", state="ready")}
    assert set(reading.lines) == {"b"}
    reading.take(event("functions", {"all": True, "functions": [entry("c")], "removed": []}))
    assert list(reading.entries) == ["c"]


@pytest.mark.parametrize(
    ("start", "newest", "expected"),
    [
        # the next step
        (60, {"a": [7.0]}, [2.0] * 11 + [7.0]),
        # two steps were left out: none of their calls is known
        (70, {"a": [7.0]}, [2.0] * 9 + [None, None, 7.0]),
        # several steps at once
        (60, {"a": [7.0, 8.0]}, [2.0] * 10 + [7.0, 8.0]),
        # a step without a call is left out
        (60, {"b": [7.0]}, [2.0] * 11 + [None]),
        (60, {}, [2.0] * 11 + [None]),
        # a minute later nothing of the old line is left
        (120, {"b": [7.0]}, None),
        # a clock that was set back does not move it
        (0, {"a": [7.0]}, [2.0] * 11 + [7.0]),
    ],
)
def test_a_line_moves_with_time(start, newest, expected):
    """A minute of steps, the newest last; lines without a call are dropped."""
    reading = ServerReading()
    reading.take(samples(0, a=[2.0] * STEPS))
    reading.take(samples(start, **newest))
    line = reading.lines.get("a")
    assert (list(line.calls_per_s) if line else None) == expected


def test_a_step_that_is_told_once_more_takes_its_own_place():
    """Those before it stay where they are."""
    reading, rates = ServerReading(), [float(rate) for rate in range(1, STEPS + 1)]
    reading.take(samples(0, a=rates))
    reading.take(samples(55, a=[20.0]))
    assert list(reading.lines["a"].calls_per_s) == [*rates[:-1], 20.0]
    reading.take(samples(55, a=[21.0, 22.0]))
    assert list(reading.lines["a"].calls_per_s) == [*rates[1:-1], 21.0, 22.0]


def test_a_server_that_is_lost_is_read_anew():
    """What is known stays to be looked at; the first samples of the new stream replace the old."""
    reading = ServerReading()
    for one in (
        event("functions", {"all": True, "functions": [entry("a")]}),
        samples(0, a=[2.0] * STEPS),
        event("server", {"machines": [MACHINE], "lacks": None}),
    ):
        assert reading.take(one)
    assert reading.is_whole
    assert (reading.machines, reading.lacks) == ([MACHINE], [])
    reading.lose("it is gone")
    assert not reading.is_whole
    assert (set(reading.entries), reading.trouble) == ({"a"}, "it is gone")
    reading.take(samples(1000, a=[3.0] * STEPS))
    assert reading.trouble == ""
    assert set(reading.lines["a"].calls_per_s) == {3.0}


def test_a_stream_that_moves_is_no_trouble():
    """The next one of the same server begins with everything, and what is known stays meanwhile."""
    reading = ServerReading()
    reading.take(samples(0, a=[2.0] * STEPS))
    closing = event("closing", {"is_moving": True})
    assert says_moving(closing)
    for other in ({"is_moving": False}, {}, [], None):
        assert not says_moving(event("closing", other))
    assert not says_moving(ServerEvent("closing", ""))
    reading.begin_again()
    assert (set(reading.lines), reading.trouble, reading.is_whole) == ({"a"}, "", False)
    reading.take(samples(7, a=[3.0] * STEPS))
    assert set(reading.lines["a"].calls_per_s) == {3.0}


def test_no_text_of_a_server_commands_the_terminal():
    """Whatever it is of: a name, a reason, a code, a machine, or why there is nothing."""
    evil = "x\x1b]52;c;ZXZpbA==\x07\x9b2J\r\u202e"
    told = entry(evil, reason=evil, errors={evil: 1}, state=evil, url=evil)
    reading = ServerReading()
    reading.take(event("functions", {"all": True, "functions": [told]}))
    reading.take(samples(0, **{evil: [1.0]}))
    lack = {"machine": evil, "name": evil, "lost": evil}
    reading.take(event("server", {"machines": [{**MACHINE, "address": evil}], "lacks": [lack]}))
    reading.lose(f"it says {evil}\nand more")
    (row,) = rows_of("u", reading)
    shown = [*head_lines({"u": ("w", reading)}, [row], ""), *foot_lines(Choice(), row)]
    texts = [line.plain for line in shown] + [row.key.name, row.state, *row.codes]
    assert any("52;c;" in text for text in texts)
    assert all(text.isprintable() for text in texts), texts
    assert "and more" in reading.trouble


MACHINE = {
    "id": "m",
    "address": "10.0.0.1",
    "cpus": 2.0,
    "used_bytes": 1,
    "budget_bytes": None,
    "gpus": [{"id": "0", "shares": [{"function": "a", "num_gpus": 0.5}]}],
}

READ = (
    *("name", "state", "reason", "tier", "url", "part_of", "last_decision", "replicas"),
    *("memory_bytes", "errors", "last_minute", "last_wake", "doing", "is_quarantined"),
)
ENTRIES = [
    {"name": "a"},
    *({**entry("a"), key: [1]} for key in READ),
    entry("a", errors={"x": "1"}),
    entry("a", last_wake={"at": 1}),
    entry("a", last_minute={"p50_ms": "1"}),
]
MACHINES = [
    {"id": "m"},
    {**MACHINE, "cpus": "2"},
    {**MACHINE, "gpus": [{}]},
    {**MACHINE, "gpus": [{"id": "0", "shares": [{"function": "a", "num_gpus": None}]}]},
]
ODD = [
    *(("functions", {"all": True, "functions": [one]}) for one in ENTRIES),
    *(("server", {"machines": [one], "lacks": []}) for one in MACHINES),
    ("server", {"machines": [], "lacks": [{"name": "x"}]}),
]
"""Of which a table would make nothing."""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("functions", "[]"),
        ("functions", '{"all": true}'),
        ("functions", '{"all": true, "functions": [1]}'),
        ("samples", '{"step_s": 5}'),
        ("samples", '{"step_s": 5, "from": 0, "steps": 1, "functions": {"a": 3}}'),
        ("samples", '{"step_s": 5, "from": 0, "steps": "x", "functions": {}}'),
        ("server", "3"),
        ("server", "{"),
        *((name, json.dumps(data)) for name, data in ODD),
    ],
)
def test_an_event_of_another_form_is_refused(name, data):
    """The stream is opened again, and nothing else happens."""
    with pytest.raises(ValueError, match=f"the event '{name}' is otherwise than expected"):
        ServerReading().take(ServerEvent(name, data))


def test_events_of_other_pages_are_left_alone():
    """Those of one function, and what is written one day."""
    assert not ServerReading().take(ServerEvent("log", "x"))
