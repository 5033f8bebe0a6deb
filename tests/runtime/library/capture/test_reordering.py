"""Lines leave in the order of arrival."""

from __future__ import annotations

import math
import random

from runtime.library.capture.reordering import ReorderBuffer, TimedLine


def lines(*times: float) -> list[TimedLine]:
    """One for each time, which says when it came."""
    return [TimedLine(at, f"{at}:{number}".encode()) for number, at in enumerate(times)]


def test_a_line_leaves_when_none_before_it_can_come():
    """After the window; what comes later than that leaves at once."""
    held = ReorderBuffer(2.0)
    held.add(lines(10.0, 9.5, 11.0))
    assert [one.at for one in held.take(11.4)] == []
    assert [one.at for one in held.take(12.0)] == [9.5, 10.0]
    held.add(lines(8.0))
    assert [one.at for one in held.take(12.0)] == [8.0]
    assert [one.at for one in held.take(math.inf)] == [11.0]
    assert not len(held)


def test_of_equal_times_the_first_leaves_first():
    """As they came."""
    held = ReorderBuffer(1.0)
    held.add(lines(5.0, 5.0, 5.0))
    assert [one.line for one in held.take(9.0)] == [b"5.0:0", b"5.0:1", b"5.0:2"]


def test_it_knows_how_much_it_holds():
    """So that all of a process together are bounded."""
    held = ReorderBuffer(60.0)
    held.add(lines(1.0, 2.0, 3.0))
    assert held.size == len(b"1.0:0") * 3
    held.take(math.inf)
    assert held.size == 0


def test_a_clock_that_was_set_back_holds_nothing_up():
    """What seems to be of the future leaves."""
    held = ReorderBuffer(2.0)
    held.add(lines(5000.0))
    assert [one.at for one in held.take(1000.0)] == [5000.0]


def test_within_the_window_any_order_becomes_one():
    """Generated: calls that end up to a window after they arrived."""
    dice = random.Random(7)
    held, left = ReorderBuffer(1.0), []
    arrivals = sorted(dice.uniform(0, 50) for _ in range(2000))
    ends = sorted((at + dice.uniform(0, 0.99), at) for at in arrivals)
    for now, at in ends:
        left += held.take(now)
        held.add([TimedLine(at, b"x")])
    left += held.take(math.inf)
    assert [one.at for one in left] == arrivals
