"""What processes tell of what they have counted, added up, and what of it is older than a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.statistics import (
    ENDED_S,
    MOST_SILENT,
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
    find_baseline,
)


def told(age_s: float = 0.0, *, is_whole: bool = True, **calls: int) -> StatisticsReport:
    """What a process tells of its functions."""
    functions = {
        name: FunctionStatistics(succeeded=count).to_list() for name, count in calls.items()
    }
    return StatisticsReport(functions, age_s, is_whole)


def later_calls(table: StatisticsTable) -> dict[str, int]:
    """Calls by function that are not older than the table's time, of those that had any."""
    before = table.before()
    found = {
        name: one.succeeded - before.get(name, FunctionStatistics()).succeeded
        for name, one in table.all().items()
    }
    return {name: calls for name, calls in found.items() if calls}


def test_what_ended_processes_counted_stays() -> None:
    """And what a process tells again takes the place of what it told."""
    table = StatisticsTable(0.0)
    table.keep("a", told(f=1), 0.0)
    table.keep("a", told(f=2), 1.0)
    table.keep("b", told(f=4), 1.0)
    assert table.of("f").succeeded == 6
    table.keep("b", told(), 2.0 + ENDED_S)
    assert table.of("f").succeeded == 6
    table.keep("c", told(f=1), 3.0 + ENDED_S)
    assert table.of("f").succeeded == 7
    assert table.all()["f"] == table.of("f")
    table.declare(["g"])
    assert table.all() == {}


def test_a_process_that_was_silent_has_not_counted_twice() -> None:
    """Whatever others have ended meanwhile, up to a bound; what these have counted stays."""
    table = StatisticsTable(0.0)
    table.keep("a", told(f=2), 0.0)
    for n in range(MOST_SILENT + 3):
        table.keep(f"b{n}", told(f=1), 0.0)
    table.keep("c", told(), 1.0 + ENDED_S)
    assert table.of("f").succeeded == MOST_SILENT + 5
    table.keep(f"b{MOST_SILENT + 2}", told(f=4), 2.0 + ENDED_S)
    assert table.of("f").succeeded == MOST_SILENT + 8


def test_only_what_was_called_lately_is_told(clock) -> None:
    """A host has hundreds of functions, and reports every second."""
    counters = ProcessCounters()
    for name, answered_at in (("old", 5.0), ("new", 7.0)):
        counters.of(name).calls.record(200, "", 0.1, None)
        counters.of(name).calls.answered_at = answered_at
    clock.advance(3.0)
    some, every = StatisticsReport.of(counters, 6.0), StatisticsReport.of(counters)
    assert (list(some.functions), some.is_whole) == (["new"], False)
    assert (list(every.functions), every.is_whole) == (["old", "new"], True)
    assert 3.0 <= some.age_s <= every.age_s < 60.0


@pytest.mark.parametrize(
    ("age_s", "since_s", "is_whole", "has_past", "is_known"),
    [
        (10.0, 10.1, False, False, True),
        (10.0, 10.0, False, False, True),
        (10.1, 10.0, False, True, False),
        (10.1, 10.0, True, True, True),
        (math.inf, 10.0, False, True, False),
        (math.inf, 10.0, True, True, True),
    ],
)
def test_what_is_of_the_time_before(age_s, since_s, is_whole, has_past, is_known):
    """Nothing that a younger process tells; of an older one, all until it has told the whole."""
    assert find_baseline(age_s, since_s, is_whole=is_whole) == (has_past, is_known)


class Telling(NamedTuple):
    """Something that a process tells, at a time of its table, which begins at 0."""

    at: float
    process: str
    told: StatisticsReport


STORIES = {
    "a host that tells most often what was called lately": (
        [
            Telling(0.5, "a", told(900.0, is_whole=False, f=51)),
            Telling(1.5, "a", told(901.0, f=52, g=70, h=5)),
            Telling(2.5, "a", told(902.0, is_whole=False, f=53, g=72)),
        ],
        {"f": 1, "g": 2},
    ),
    "one that does not tell the whole yet": (
        [
            Telling(1.0, "a", told(900.0, is_whole=False, f=51)),
            Telling(3.0, "a", told(902.0, is_whole=False, g=70, f=52)),
        ],
        {},
    ),
    "a function that was not called before": (
        [
            Telling(1.0, "a", told(900.0, f=51)),
            Telling(60.0, "a", told(959.0, is_whole=False, new=1)),
        ],
        {"new": 1},
    ),
    "a second host that is heard of much later": (
        [
            Telling(1.0, "a", told(900.0, f=51)),
            Telling(30.0, "b", told(900.0, is_whole=False, g=9)),
            Telling(31.0, "b", told(901.0, f=700, g=10)),
            Telling(32.0, "b", told(902.0, is_whole=False, f=703)),
        ],
        {"f": 3},
    ),
    "a process that began later": (
        [
            Telling(1.0, "a", told(900.0, f=51)),
            Telling(9.0, "b", told(9.0, is_whole=False, f=4)),
        ],
        {"f": 4},
    ),
    "one that was silent, and is not added up with those that are gone": (
        [
            Telling(1.0, "a", told(900.0, f=51)),
            Telling(100.0, "b", told(1.0)),
            Telling(101.0, "a", told(1000.0, is_whole=False, f=55)),
        ],
        {"f": 4},
    ),
}


@pytest.mark.parametrize(("tellings", "calls"), STORIES.values(), ids=STORIES)
def test_what_was_counted_before_is_not_counted_after(
    tellings: Sequence[Telling], calls: dict[str, int]
):
    """Whenever a process tells it, and whatever it tells first."""
    table = StatisticsTable(0.0)
    for at, process, one in tellings:
        table.keep(process, one, at)
    assert later_calls(table) == calls


def test_a_process_that_was_taken_for_one_that_is_gone_is_not_counted_twice():
    """Its counts are among those of the past already when it tells again; it began after the table,
    so all of them were calls once.
    """
    table = StatisticsTable(0.0)
    for n in range(MOST_SILENT + 1):
        table.keep(f"p{n}", told(1.0, f=40), 2.0)
    table.keep("other", told(1.0), 3.0 + ENDED_S)
    calls = {"f": 40 * (MOST_SILENT + 1)}
    assert later_calls(table) == calls
    table.keep("p0", told(3.0 + ENDED_S, is_whole=False, f=45), 4.0 + ENDED_S)
    assert later_calls(table) == calls
    assert not table.is_known("p0")
    table.keep("p0", told(4.0 + ENDED_S, f=46), 5.0 + ENDED_S)
    table.keep("p0", told(5.0 + ENDED_S, is_whole=False, f=47), 6.0 + ENDED_S)
    assert later_calls(table) == {"f": calls["f"] + 1}


def test_what_is_older_stays_so_when_its_process_is_gone():
    """Its counts of before go the way of all its counts."""
    table = StatisticsTable(0.0)
    for n in range(MOST_SILENT + 2):
        table.keep(f"p{n}", told(900.0, f=40), 2.0)
        table.keep(f"p{n}", told(901.0, is_whole=False, f=41), 3.0)
    table.keep("other", told(1.0), 4.0 + ENDED_S)
    assert table.of("f").succeeded == 41 * (MOST_SILENT + 2)
    assert later_calls(table) == {"f": MOST_SILENT + 2}


def test_a_time_that_begins_anew():
    """What was counted until then is older; also of a process that tells of it later."""
    table = StatisticsTable(0.0)
    table.keep("a", told(1.0, f=40), 2.0)
    table.keep("quiet", told(1.0, f=10), 2.0)
    table.begin(100.0)
    assert later_calls(table) == {}
    table.keep("a", told(100.0, is_whole=False, f=43), 101.0)
    table.keep("a", told(101.0, f=44), 102.0)
    table.keep("quiet", told(120.0, f=500), 121.0)
    table.keep("quiet", told(121.0, f=501), 122.0)
    table.keep("new", told(3.0, f=2), 122.0)
    assert later_calls(table) == {"f": 3}


def test_a_function_that_is_gone_leaves_nothing_for_the_next_of_its_name():
    """A host that does not know yet tells of it once more."""
    table = StatisticsTable(0.0)
    table.keep("a", told(1.0, f=40, g=1), 2.0)
    table.declare(["g"])
    table.keep("a", told(2.0, f=41, g=1), 3.0)
    table.declare(["f", "g"])
    assert later_calls(table) == {"g": 1}
    table.keep("a", told(9.0, is_whole=False, f=2), 10.0)
    assert later_calls(table) == {"f": 2, "g": 1}
