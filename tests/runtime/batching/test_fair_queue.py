"""The least served function goes first; none saves up time or has more than its share."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from runtime.batching.fair_queue import CREDIT_S, UNKNOWN_S, FairQueue, FunctionShare, fair_workers


@dataclass
class One:
    """A function with a share."""

    name: str
    share: FunctionShare


def names(turns: FairQueue, *waiting: One, is_spare: bool = False) -> str:
    """Which functions may run, in order."""
    return "".join(one.name for one in turns.order(waiting, is_spare=is_spare))


def run(turns: FairQueue, share: FunctionShare, seconds: float) -> None:
    """One turn, as long as expected."""
    turns.end(share, turns.begin(share, seconds, now=0.0), 0.0, now=seconds)


@pytest.mark.parametrize(
    ("a", "b", "is_spare", "order"),
    [
        (FunctionShare(2, virtual_time=1.0), FunctionShare(2, virtual_time=2.0), False, "ab"),
        (FunctionShare(2, virtual_time=2.0), FunctionShare(2, virtual_time=1.0), False, "ba"),
        (FunctionShare(2, virtual_time=1.0), FunctionShare(2, virtual_time=1.0), False, "ab"),
        (
            FunctionShare(2, virtual_time=1.0, active=2),
            FunctionShare(2, virtual_time=2.0),
            False,
            "b",
        ),
        (
            FunctionShare(2, virtual_time=1.0, active=1),
            FunctionShare(2, virtual_time=2.0),
            False,
            "ab",
        ),
        (
            FunctionShare(2, virtual_time=1.0, active=1),
            FunctionShare(2, virtual_time=2.0),
            True,
            "b",
        ),
        (
            FunctionShare(2, virtual_time=1.0, active=1),
            FunctionShare(2, virtual_time=2.0, active=1),
            True,
            "",
        ),
    ],
    ids=[
        "less first",
        "less first, whichever it is",
        "alike by arrival",
        "a full share",
        "part of a share",
        "spare",
        "spare without a task",
    ],
)
def test_order(a, b, is_spare, order):
    """Least virtual time first; a full share is passed over, and a spare worker passes over a
    function that has a worker.
    """
    assert names(FairQueue(), One("a", a), One("b", b), is_spare=is_spare) == order


def test_one_that_waits_alone_is_bound_by_its_share():
    """The short way for one function gives the same answers."""
    assert names(FairQueue(), One("a", FunctionShare(1))) == "a"
    assert names(FairQueue(), One("a", FunctionShare(1, active=1))) == ""
    assert names(FairQueue(), One("a", FunctionShare(2, active=1)), is_spare=True) == ""


def test_idle_time_is_not_saved_up():
    """One that comes back starts at the clock, however long the other has run alone."""
    turns, busy, rare = FairQueue(), FunctionShare(1), FunctionShare(1)
    for _ in range(100):
        run(turns, busy, 1.0)
    turns.join(rare)
    assert rare.virtual_time == turns.clock == 99.0
    assert names(turns, One("busy", busy), One("rare", rare)) == "rarebusy"


def test_a_turn_is_charged_when_it_begins():
    """A second worker that takes work during a long batch serves the other function; the true time is
    charged at the end.
    """
    turns, a, b = FairQueue(), FunctionShare(2), FunctionShare(2)
    charged = turns.begin(a, 0.5, now=10.0)
    assert names(turns, One("a", a), One("b", b)) == "ba"
    turns.end(a, charged, 10.0, now=10.25)
    assert (a.virtual_time, a.done_s, a.active) == (pytest.approx(0.25), 0.25, 0)
    assert turns.begin(b, 0.0, now=10.25) == UNKNOWN_S


def test_seconds_of_turns_under_way_count():
    """Two turns that overlap are two worker seconds a second, from their beginning on."""
    turns, share = FairQueue(), FunctionShare(2)
    first, second = turns.begin(share, 0.0, now=10.0), turns.begin(share, 0.0, now=11.0)
    assert [share.busy_s(now) for now in (11.0, 12.0)] == [1.0, 3.0]
    turns.end(share, first, 10.0, now=12.0)
    assert [share.busy_s(now) for now in (12.0, 13.0)] == [3.0, 4.0]
    turns.end(share, second, 11.0, now=13.0)
    assert [share.busy_s(now) for now in (13.0, 99.0)] == [4.0, 4.0]


def test_falling_behind_by_a_small_share_is_forgotten():
    """A function held back by its share is owed a second at most when others compete with it."""
    turns, small, large = FairQueue(), FunctionShare(1), FunctionShare(4)
    for _ in range(100):
        run(turns, small, 1.0)
        for _ in range(4):
            run(turns, large, 1.0)
    run(turns, small, 0.0)
    assert small.virtual_time >= turns.clock - CREDIT_S


@pytest.mark.parametrize(
    ("count", "most", "others", "workers"),
    [
        (4, 4, [], 4.0),
        (4, 2, [], 2.0),
        (4, 4, [4], 2.0),
        (4, 4, [1], 3.0),
        (4, 4, [1, 1, 1], 1.0),
        (4, 4, [4, 4, 4, 4], 0.8),
        (4, 1, [4, 4], 1.0),
        (6, 4, [1, 4], 2.5),
        (2, 2, [1, 1], 2 / 3),
    ],
)
def test_a_function_has_what_others_leave(count, most, others, workers):
    """An equal part, and more where others may have less than theirs."""
    assert fair_workers(count, most, others) == pytest.approx(workers)
