"""Who sleeps, who yields, when a failed load is tried again."""

from __future__ import annotations

import math

import pytest

from runtime.errors import NoRoom
from runtime.lifecycle import Held, backoff_s, due, room, sleepy

A, B, C = Held("a", 100, 1.0, False), Held("b", 200, 2.0, False), Held("c", 300, 3.0, True)


@pytest.mark.parametrize(
    ("wanted", "budget", "excess", "leave"),
    [
        (400, 1000, 0, ()),  # it fits beside all
        (401, 1000, 0, ("a",)),  # the longest idle
        (500, 1000, 0, ("a",)),
        (501, 1000, 0, ("a", "b")),
        (700, 1000, 0, ("a", "b")),  # to the last byte beside what is busy
        (400, 1000, 1, ("a",)),  # the process has grown beyond what is accounted for
        (400, 1000, 5000, ("a", "b")),  # which is no reason to refuse
        (0, 600, 0, ()),  # nobody knows how large it is
        (0, 599, 0, ("a",)),
    ],
)
def test_the_longest_idle_yields(wanted, budget, excess, leave):
    """As few as needed, in the order of their last use; never a busy one."""
    assert room(wanted, budget, [B, C, A], excess=excess) == leave


@pytest.mark.parametrize(
    ("wanted", "held", "message"),
    [
        (2_000_000_000, [], "f takes 2000 MB and all functions together may hold 1000 MB."),
        (
            600_000_000,
            [Held("c", 500_000_000, 1, True), Held("d", 400_000_000, 1, False)],
            "f takes 600 MB, 500 MB of 1000 MB are not held by busy functions (c 500 MB).",
        ),
        (
            500_000_000,
            [Held(f"x{n}", n * 100_000_000, 1, True) for n in range(1, 4)],
            "f takes 500 MB, 400 MB of 1000 MB are not held by busy functions (x3 300 MB, x2 200 MB, x1 100 MB).",
        ),
    ],
)
def test_what_cannot_fit_has_the_arithmetic(wanted, held, message):
    """What is wanted, what there is, and who holds the rest."""
    found = room(wanted, 1_000_000_000, held, name="f")
    assert isinstance(found, NoRoom)
    assert found.message == f"{message} Call again later, or raise WAKEFUL_MEMORY_MB."
    assert (found.status, found.code) == (503, "no_room")


def test_who_is_idle_for_its_delay_sleeps():
    """At its delay, not before; who is busy does not."""
    delays = {"a": 10.0, "b": 5.0, "c": 0.0}
    assert sleepy([A, B, C], delays, 6.9) == ()
    assert sleepy([A, B, C], delays, 7.0) == ("b",)
    assert sleepy([A, B, C], delays, 11.0) == ("a", "b")


def test_the_next_look_is_when_somebody_is_due():
    """A busy one is due its delay from now at the earliest; nobody is never due."""
    delays = {"a": 10.0, "b": 5.0, "c": 4.0}
    assert due([A, B], delays, 4.0) == 7.0
    assert due([A, C], delays, 4.0) == 8.0
    assert due([], delays, 4.0) == math.inf


def test_failed_loads_back_off():
    """Twice as long after each, to a minute."""
    assert [backoff_s(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 1000)] == [1, 2, 4, 8, 16, 32, 60, 60]
