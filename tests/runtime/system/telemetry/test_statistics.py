"""What processes tell of what they have counted, added up, and what of it is older than a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from runtime.system.telemetry.counters import MAX_CODES, OTHER_CODE, ProcessCounters
from runtime.system.telemetry.statistics import (
    ENDED_S,
    MOST_REMOVED,
    SILENT_FUNCTIONS,
    SILENT_PROCESSES,
    SILENT_S,
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
    has_earlier_counts,
    has_forgotten,
    surplus_of,
)


def report(age_s: float = 0.0, *, is_whole: bool = True, **calls: int) -> StatisticsReport:
    """What a process reports of its functions."""
    functions = {
        name: FunctionStatistics(succeeded=count).to_list() for name, count in calls.items()
    }
    return StatisticsReport(functions, age_s, is_whole)


class Received(NamedTuple):
    """A report of a process, at a time of its table, which begins at 0."""

    at: float
    process: str
    report: StatisticsReport


def reports_of_another(until: float) -> list[Received]:
    """A process that has counted nothing reports all the time."""
    return [Received(float(at), "other", report(at)) for at in (*range(3, int(until), 10), until)]


def keep_all(table: StatisticsTable, received: Sequence[Received]) -> None:
    """The table receives these."""
    for at, process, one in received:
        table.keep(process, one, at)


def later_calls(table: StatisticsTable) -> dict[str, int]:
    """Calls by function that are not earlier than the table's time, of those that had any."""
    earlier = table.earlier()
    found = {
        name: one.succeeded - earlier.get(name, FunctionStatistics()).succeeded
        for name, one in table.all().items()
    }
    return {name: calls for name, calls in found.items() if calls}


def test_what_ended_processes_counted_stays() -> None:
    """And what a process reports again takes the place of what it reported."""
    table = StatisticsTable(0.0)
    table.keep("a", report(f=1), 0.0)
    table.keep("a", report(f=2), 1.0)
    table.keep("b", report(f=4), 1.0)
    assert table.of("f").succeeded == 6
    keep_all(table, reports_of_another(2.0 + SILENT_S))
    assert table.of("f").succeeded == 6
    table.keep("c", report(f=1), 3.0 + SILENT_S)
    assert table.of("f").succeeded == 7
    assert table.all()["f"] == table.of("f")
    table.declare(["g"])
    assert table.all() == {}


@pytest.mark.parametrize(
    ("silent", "surplus"),
    [
        ([], 0),
        ([1] * SILENT_PROCESSES, 0),
        ([1] * (SILENT_PROCESSES + 3), 3),
        ([0] * (SILENT_PROCESSES + 1), 1),
        ([5000, SILENT_FUNCTIONS], 1),
        ([5000, SILENT_FUNCTIONS - 5000], 0),
        ([1, 1, SILENT_FUNCTIONS + 1], 3),
        ([1, SILENT_FUNCTIONS, 1], 2),
    ],
)
def test_what_is_kept_of_silent_processes_is_bounded(silent, surplus):
    """By their number, and that of their functions; the longest silent go first."""
    assert surplus_of(silent) == surplus


def test_processes_that_were_silent_have_not_counted_twice() -> None:
    """Up to a bound; what further ones have counted stays."""
    table = StatisticsTable(0.0)
    processes = [f"p{n}" for n in range(SILENT_PROCESSES + 3)]
    keep_all(table, [Received(1.0, one, report(1.0, f=2)) for one in processes])
    keep_all(table, reports_of_another(2.0 + SILENT_S))
    calls = 2 * len(processes)
    assert table.of("f").succeeded == calls
    for silent in processes[-SILENT_PROCESSES:]:
        table.keep(silent, report(4.0 + SILENT_S, f=3), 4.0 + SILENT_S)
    assert table.of("f").succeeded == calls + SILENT_PROCESSES


@pytest.mark.parametrize(
    ("others", "calls"),
    [
        (reports_of_another(ENDED_S - 1.0), 3 + 3),
        (reports_of_another(ENDED_S + 2.0), 2 + 3 + 2 + 3),
        ([one for one in reports_of_another(ENDED_S + 99.0) if not 100.0 < one.at < 120.0], 3 + 3),
    ],
    ids=["shorter", "an hour", "an hour, of which the table was stopped a part"],
)
def test_a_process_that_was_silent_for_an_hour_has_ended(others, calls):
    """However few they are: nothing but their counts is kept."""
    table = StatisticsTable(0.0)
    for process in ("a", "b"):
        table.keep(process, report(1.0, f=2), 0.5)
    keep_all(table, others)
    assert table.of("f").succeeded == 4
    for process in ("a", "b"):
        table.keep(process, report(9.0 + ENDED_S, f=3), others[-1].at)
    assert table.of("f").succeeded == calls


def test_a_table_that_has_heard_of_none_takes_none_for_silent() -> None:
    """Its own process was stopped, or cut off: all of them report again, however many there are."""
    table = StatisticsTable(0.0)
    processes = [f"p{n}" for n in range(SILENT_PROCESSES + 100)]
    for pause in range(3):
        for n, one in enumerate(processes):
            at = 1.0 + pause * (SILENT_S + 1.0) + n / 1000
            table.keep(one, report(at, f=2), at)
    assert table.of("f").succeeded == 2 * len(processes)


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
    ("age_s", "since_s", "has_earlier"),
    [(10.0, 10.1, False), (10.0, 10.0, False), (10.1, 10.0, True), (math.inf, 10.0, True)],
)
def test_only_what_is_older_than_a_time_has_counted_before_it(age_s, since_s, has_earlier):
    """And one that does not say how old it is."""
    assert has_earlier_counts(age_s, since_s) is has_earlier


@pytest.mark.parametrize(
    ("age_s", "is_whole", "is_known"),
    [(9.0, False, True), (11.0, False, False), (11.0, True, True)],
)
def test_what_a_process_had_counted_is_known(age_s, is_whole, is_known):
    """Of one that is younger than the table, and of one that has reported all of it."""
    table = StatisticsTable(0.0)
    table.keep("a", report(age_s, is_whole=is_whole, f=1), 10.0)
    assert table.is_known("a") is is_known
    assert not table.is_known("b")


STORIES = {
    "a host that tells most often what was called lately": (
        [
            Received(0.5, "a", report(900.0, is_whole=False, f=51)),
            Received(1.5, "a", report(901.0, f=52, g=70, h=5)),
            Received(2.5, "a", report(902.0, is_whole=False, f=53, g=72)),
        ],
        {"f": 1, "g": 2},
    ),
    "one that does not tell the whole yet": (
        [
            Received(1.0, "a", report(900.0, is_whole=False, f=51)),
            Received(3.0, "a", report(902.0, is_whole=False, g=70, f=52)),
        ],
        {},
    ),
    "a function that was not called before": (
        [
            Received(1.0, "a", report(900.0, f=51)),
            Received(60.0, "a", report(959.0, is_whole=False, new=1)),
        ],
        {"new": 1},
    ),
    "a second host that is heard of much later": (
        [
            Received(1.0, "a", report(900.0, f=51)),
            Received(30.0, "b", report(900.0, is_whole=False, g=9)),
            Received(31.0, "b", report(901.0, f=700, g=10)),
            Received(32.0, "b", report(902.0, is_whole=False, f=703)),
        ],
        {"f": 3},
    ),
    "a process that began later": (
        [
            Received(1.0, "a", report(900.0, f=51)),
            Received(9.0, "b", report(9.0, is_whole=False, f=4)),
        ],
        {"f": 4},
    ),
    "one that was silent, and is not added up with those that are gone": (
        [
            Received(1.0, "a", report(900.0, f=51)),
            *reports_of_another(100.0),
            Received(101.0, "a", report(1000.0, is_whole=False, f=55)),
        ],
        {"f": 4},
    ),
    "a function that left its process, and counts from nothing when it comes back": (
        [
            Received(1.0, "a", report(900.0, f=500)),
            Received(2.0, "a", report(901.0, is_whole=False, f=520)),
            Received(60.0, "a", report(959.0, f=0)),
            Received(61.0, "a", report(960.0, is_whole=False, f=30)),
        ],
        {"f": 20 + 30},
    ),
    "one that leaves before its process has told the whole": (
        [
            Received(1.0, "a", report(900.0, is_whole=False, f=500)),
            Received(2.0, "a", report(901.0, is_whole=False, f=30)),
            Received(3.0, "a", report(902.0, f=31, g=9)),
        ],
        {},
    ),
    "another process's calls of it": (
        [
            Received(1.0, "a", report(900.0, f=500)),
            Received(2.0, "b", report(1.0, f=7)),
            Received(3.0, "a", report(902.0, f=0)),
        ],
        {"f": 7},
    ),
    "a process that began about when one was added up with those that are gone": (
        [
            *(Received(2.0, f"p{n}", report(1.0)) for n in range(SILENT_PROCESSES + 1)),
            *reports_of_another(3.0 + SILENT_S),
            Received(3.5 + SILENT_S, "new", report(1.0, is_whole=False, f=1)),
            Received(4.5 + SILENT_S, "new", report(2.0, f=3)),
        ],
        {"f": 3},
    ),
    "one that is added up after a time that is later than its last report": (
        [
            *(Received(2.0, f"p{n}", report(1.0, f=1)) for n in range(SILENT_PROCESSES)),
            Received(1.0, "first", report(0.5, f=1)),
            *reports_of_another(3.0 + SILENT_S),
        ],
        {"f": SILENT_PROCESSES + 1},
    ),
}


@pytest.mark.parametrize(("received", "calls"), STORIES.values(), ids=STORIES)
def test_what_was_counted_before_is_not_counted_after(
    received: Sequence[Received], calls: dict[str, int]
):
    """Whenever a process tells it, and whatever it tells first."""
    table = StatisticsTable(0.0)
    keep_all(table, received)
    assert later_calls(table) == calls


def test_a_process_that_was_taken_for_one_that_is_gone_is_not_counted_twice():
    """Its counts are among those of the past already when it tells again; it began after the table,
    so all of them were calls once.
    """
    table = StatisticsTable(0.0)
    for n in range(SILENT_PROCESSES + 1):
        table.keep(f"p{n}", report(1.0, f=40), 2.0)
    keep_all(table, reports_of_another(3.0 + SILENT_S))
    calls = {"f": 40 * (SILENT_PROCESSES + 1)}
    assert later_calls(table) == calls
    table.keep("p0", report(3.0 + SILENT_S, is_whole=False, f=45), 4.0 + SILENT_S)
    assert later_calls(table) == calls
    assert not table.is_known("p0")
    table.keep("p0", report(4.0 + SILENT_S, f=46), 5.0 + SILENT_S)
    table.keep("p0", report(5.0 + SILENT_S, is_whole=False, f=47), 6.0 + SILENT_S)
    assert later_calls(table) == {"f": calls["f"] + 1}


def test_a_report_that_is_late_takes_nothing_back():
    """A question has overtaken it."""
    table = StatisticsTable(0.0)
    table.keep("a", report(9.5, f=100, g=1), 9.5)
    for late in (report(9.4, is_whole=False, f=60), report(9.0, f=50)):
        table.keep("a", late, 10.0)
        assert table.all()["f"].succeeded == table.of("f").succeeded == 100
    table.keep("a", report(9.5, f=100, g=1), 10.0)
    table.keep("a", report(11.0, f=110), 11.0)
    assert later_calls(table) == {"f": 110, "g": 1}


def test_a_process_whose_report_is_late_is_not_silent():
    """It was not cut off."""
    table = StatisticsTable(0.0)
    table.keep("a", report(9.0, f=1), 1.0)
    table.keep("b", report(9.0, f=1), 1.0)
    table.keep("a", report(8.0, f=1), 20.0)
    keep_all(table, reports_of_another(2.0 + SILENT_S))
    assert (table.is_known("a"), table.is_known("b")) == (True, False)


def test_what_is_older_stays_so_when_its_process_is_gone():
    """Its counts of before go the way of all its counts."""
    table = StatisticsTable(0.0)
    for n in range(SILENT_PROCESSES + 2):
        table.keep(f"p{n}", report(900.0, f=40), 2.0)
        table.keep(f"p{n}", report(901.0, is_whole=False, f=41), 3.0)
    keep_all(table, reports_of_another(4.0 + SILENT_S))
    assert table.of("f").succeeded == 41 * (SILENT_PROCESSES + 2)
    assert later_calls(table) == {"f": SILENT_PROCESSES + 2}


def test_a_time_that_begins_anew():
    """What was counted until then is earlier, of processes that are silent or gone, too; also of one
    that reports it later.
    """
    table = StatisticsTable(0.0)
    for n in range(SILENT_PROCESSES + 1):
        table.keep(f"p{n}", report(1.0, g=1), 1.0)
    keep_all(table, reports_of_another(80.0))
    table.keep("quiet", report(1.0, f=10), 90.0)
    table.keep("a", report(1.0, f=40), 90.0)
    assert later_calls(table) == {"f": 50, "g": SILENT_PROCESSES + 1}
    table.begin(100.0)
    assert later_calls(table) == {}
    table.keep("a", report(100.0, is_whole=False, f=43), 101.0)
    table.keep("a", report(101.0, f=44), 102.0)
    table.keep("quiet", report(120.0, f=500), 121.0)
    table.keep("quiet", report(121.0, f=501), 122.0)
    table.keep("new", report(3.0, f=2), 122.0)
    assert later_calls(table) == {"f": 3}


def test_a_time_does_not_go_back_when_a_process_is_taken_for_one_that_is_gone():
    """It reported last before the time began anew."""
    table = StatisticsTable(0.0)
    for n in range(SILENT_PROCESSES + 1):
        table.keep(f"p{n}", report(1.0), 2.0)
    table.begin(20.0)
    keep_all(table, reports_of_another(3.0 + SILENT_S))
    table.keep("late", report(30.0, f=9), 45.0)  # began at 15
    assert later_calls(table) == {}


def test_a_function_that_is_gone_leaves_nothing_for_the_next_of_its_name():
    """A host that does not know yet reports of it once more."""
    table = StatisticsTable(0.0)
    table.declare(["f", "g"])
    table.keep("a", report(900.0, f=40, g=1), 2.0)
    table.keep("a", report(901.0, f=42, g=2), 3.0)
    table.declare(["g"])
    table.keep("a", report(902.0, f=43, g=2), 4.0)
    assert table.of("f").succeeded == 0
    table.declare(["f", "g"])
    assert later_calls(table) == {"g": 1}
    table.keep("a", report(909.0, is_whole=False, f=2), 10.0)
    assert later_calls(table) == {"f": 2, "g": 1}


def test_names_of_functions_that_are_gone_are_bounded():
    """The last ones are known."""
    table = StatisticsTable(0.0)
    for number in range(MOST_REMOVED + 2):
        table.declare([f"f{number}"])
    table.keep("a", report(1.0, f0=1, f1=1, f2=1), 2.0)
    assert [table.of(f"f{number}").succeeded for number in range(3)] == [1, 0, 0]


def test_a_new_function_is_counted_as_soon_as_a_host_has_it():
    """While `up` adds it the host is told of it, and asked for its statistics, before the table
    is."""
    table = StatisticsTable(0.0)
    table.declare(["f"])
    table.keep("a", report(1.0, f=1, g=3), 2.0)
    assert table.of("g").succeeded == 3
    table.declare(["f", "g"])
    assert later_calls(table) == {"f": 1, "g": 3}


def test_what_was_not_called_since_is_not_added_up_again(monkeypatch):
    """Hosts report all of hundreds of functions each five seconds; the time of the last call is
    another at each reading, by what two clocks differ.
    """
    table, sums = StatisticsTable(0.0), 0
    add = FunctionStatistics.__add__

    def count_sums(one: FunctionStatistics, other: FunctionStatistics) -> FunctionStatistics:
        nonlocal sums
        sums += 1
        return add(one, other)

    monkeypatch.setattr(FunctionStatistics, "__add__", count_sums)
    for n in range(3):
        counted = FunctionStatistics(succeeded=5, last_at=1000.0 + n / 1e7).to_list()
        table.keep("a", StatisticsReport({"f": counted, "g": counted}, 1.0, is_whole=True), n)
        assert table.all()["f"].succeeded == 5
        assert sums == 2
    for change in (
        lambda: table.keep("a", report(1.0, f=6), 3.0),
        lambda: table.keep("b", report(1.0, f=7, h=1), 3.0),
        lambda: table.declare(["f", "g"]),
        lambda: (table.keep("b", report(1.0, h=2, k=1), 4.0), table.declare(["f", "g"])),
    ):
        change()
        assert {name: table.of(name).succeeded for name in table.all()} == {
            name: one.succeeded for name, one in table.all().items()
        }
    assert {name: one.succeeded for name, one in table.all().items()} == {"f": 13, "g": 5}


def test_the_sum_of_earlier_counts_is_made_when_they_change(monkeypatch):
    """It is asked for at each look, and changes as a rule when a process is heard of first."""
    table, sums = StatisticsTable(0.0), 0

    def add(one: FunctionStatistics, other: FunctionStatistics) -> FunctionStatistics:
        nonlocal sums
        sums += 1
        return replace(one, succeeded=one.succeeded + other.succeeded)

    monkeypatch.setattr(FunctionStatistics, "__add__", add)
    table.keep("a", report(900.0, f=40), 1.0)
    table.keep("b", report(900.0, f=2), 1.0)
    assert table.earlier()["f"].succeeded == 42
    assert sums == 1
    table.keep("a", report(901.0, f=41), 2.0)
    assert table.earlier()["f"].succeeded == 42
    assert sums == 1
    for change, calls in (
        (lambda: table.keep("c", report(900.0, f=5), 3.0), 47),
        (lambda: table.begin(4.0), 48),
        (lambda: table.declare(["g"]), None),
    ):
        before = table.earlier()
        change()
        found = table.earlier().get("f")
        assert found is None if calls is None else found.succeeded == calls
        assert table.earlier() is not before


def test_codes_that_a_function_makes_up_are_bounded():
    """However many processes it fails in; none of them is counted by another one later."""
    table = StatisticsTable(0.0)
    table.declare(["f"])
    for n in range(40):
        errors = {"bad_request": 1, **{f"code-{n}-{i}": 1 for i in range(MAX_CODES - 1)}}
        counted = FunctionStatistics(failed=MAX_CODES, errors=errors).to_list()
        table.keep(f"p{n}", StatisticsReport({"f": counted}, 1.0, is_whole=True), 2.0 + n)
        before, found = (table.all()["f"].errors if n else {}), table.of("f").errors
        assert all(found[code] >= count for code, count in before.items())
    assert len(found) == MAX_CODES + 1
    assert sum(found.values()) == 40 * MAX_CODES
    assert (found["bad_request"], found[OTHER_CODE]) == (40, 39 * (MAX_CODES - 1))
    table.declare([])
    table.declare(["f"])
    named = FunctionStatistics(failed=1, errors={"another": 1}).to_list()
    table.keep("new", StatisticsReport({"f": named}, 1.0), 50.0)
    assert table.of("f").errors == {"another": 1}


COUNTED = FunctionStatistics(
    succeeded=500,
    failed=9,
    computed=400,
    rows=800,
    total_s=50.0,
    executions=150,
    batches={1: (100, 3.0), 8: (50, 9.0)},
    last_at=1000.0,
    wakes=2,
    seconds=(300, 200),
    errors={"bad_request": 6, "timeout": 3},
)


@pytest.mark.parametrize(
    ("now", "forgotten"),
    [
        (COUNTED, False),
        (COUNTED + COUNTED, False),
        (replace(COUNTED, last_at=999.0, batches={**COUNTED.batches, 4: (1, 1.0)}), False),
        (FunctionStatistics(), True),
        (replace(COUNTED, succeeded=499, rows=900), True),
        (replace(COUNTED, succeeded=600, failed=8), True),
        # of one that other functions call, and of one that was woken and never called
        (replace(COUNTED, rows=799), True),
        (replace(COUNTED, wakes=1), True),
        (replace(COUNTED, succeeded=600, executions=61), True),
        # and has been called more often since
        (replace(COUNTED, failed=10, errors={"bad_request": 5, "timeout": 5}), True),
        (replace(COUNTED, failed=10, errors={"bad_request": 10}), True),
        (replace(COUNTED, succeeded=600, seconds=(301, 199)), True),
        (replace(COUNTED, succeeded=600, seconds=()), True),
    ],
)
def test_whether_a_process_has_forgotten_a_function(now, forgotten):
    """It has counted less of whatever only grows."""
    assert has_forgotten(COUNTED, now) is forgotten


def test_what_a_process_has_forgotten_is_of_the_past():
    """No sum falls; and what was earlier stays so."""
    table = StatisticsTable(0.0)
    table.keep("other", report(1.0, f=100), 1.0)
    table.keep("a", StatisticsReport({"f": COUNTED.to_list()}, 900.0, is_whole=True), 1.0)
    again = replace(COUNTED, succeeded=30).to_list()
    for age_s in (901.0, 902.0):
        table.keep("a", StatisticsReport({"f": again}, age_s), age_s - 899.0)
        found = table.all()["f"]
        assert found == table.of("f")
        assert (found.succeeded, found.last_at) == (630, COUNTED.last_at)
        assert all(found.batches[rows] >= one for rows, one in COUNTED.batches.items())
        assert later_calls(table) == {"f": 130}
        assert table.earlier()["f"] == COUNTED


def test_what_a_report_of_all_functions_does_not_name_is_forgotten():
    """It may be called more often than before until it is heard of again."""
    table = StatisticsTable(0.0)
    table.keep("a", report(900.0, f=500, g=1), 1.0)
    table.keep("a", report(901.0, is_whole=False, f=520), 2.0)
    table.keep("a", report(902.0, is_whole=False), 3.0)
    assert later_calls(table) == {"f": 20}
    table.keep("a", report(903.0, g=1), 4.0)
    assert (table.of("f").succeeded, later_calls(table)) == (520, {"f": 20})
    table.keep("a", report(904.0, is_whole=False, f=600), 5.0)
    assert (table.of("f").succeeded, later_calls(table)) == (1120, {"f": 620})
