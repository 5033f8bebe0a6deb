"""Which functions are unloaded, and when a failed load is tried again."""

from __future__ import annotations

import math

import pytest

from runtime.errors import NoRoom
from runtime.library.eviction_policy import (
    MB,
    LoadedFunction,
    backoff_s,
    choose_evictions,
    idle_functions,
    may_load_unknown,
    next_idle_deadline,
)
from tests.problems import expect_values

A, B, C = (
    LoadedFunction("a", 100, 1.0, False),
    LoadedFunction("b", 200, 2.0, False),
    LoadedFunction("c", 300, 3.0, True),
)


@pytest.mark.parametrize(
    ("wanted", "budget", "excess", "leave"),
    [
        (400, 1000, 0, ()),  # it fits next to all
        (401, 1000, 0, ("a",)),  # the longest idle
        (500, 1000, 0, ("a",)),
        (501, 1000, 0, ("a", "b")),
        (700, 1000, 0, ("a", "b")),  # to the last byte next to what is busy
        (400, 1000, 1, ("a",)),  # the process has grown beyond what is accounted for
        (400, 1000, 5000, ("a", "b")),  # which is no reason to refuse
        (0, 600, 0, ()),  # its size is not known
        (0, 599, 0, ("a",)),
    ],
)
def test_the_longest_idle_yields(wanted, budget, excess, leave):
    """As few as needed, in the order of their last use; never a busy one."""
    assert choose_evictions(wanted, budget, [B, C, A], excess=excess) == leave


@pytest.mark.parametrize(
    ("wanted", "held", "values"),
    [
        (2_000_000_000, [], ["f takes 2000 MB", "1000 MB"]),
        (
            600_000_000,
            [LoadedFunction("c", 500_000_000, 1, True), LoadedFunction("d", 400_000_000, 1, False)],
            ["f takes 600 MB", "500 MB of 1000 MB", "(c 500 MB)"],
        ),
        (
            500_000_000,
            [LoadedFunction(f"x{n}", n * 100_000_000, 1, True) for n in range(1, 4)],
            ["f takes 500 MB", "400 MB of 1000 MB", "(x3 300 MB, x2 200 MB, x1 100 MB)"],
        ),
    ],
)
def test_what_cannot_fit_has_the_arithmetic(wanted, held, values):
    """What is wanted, what there is, and which functions hold the rest."""
    found = refused(wanted, held)
    expect_values(found, *values, "WAKEFUL_MEMORY_MB")
    assert (found.status, found.code) == (503, "no_room")


def refused(wanted: int, held: list[LoadedFunction]) -> NoRoom:
    """The error of a function that does not fit into 1000 MB."""
    found = choose_evictions(wanted, 1_000_000_000, held, name="f")
    assert isinstance(found, NoRoom)
    return found


def test_a_function_idle_for_its_delay_is_unloaded():
    """At its delay, not before; a busy one is not."""
    delays = {"a": 10.0, "b": 5.0, "c": 0.0}
    assert idle_functions([A, B, C], delays, 6.9) == ()
    assert idle_functions([A, B, C], delays, 7.0) == ("b",)
    assert idle_functions([A, B, C], delays, 11.0) == ("a", "b")


def test_the_next_check_is_when_a_function_is_due():
    """A busy one is due its delay from now at the earliest; an empty set is never due."""
    delays = {"a": 10.0, "b": 5.0, "c": 4.0}
    assert next_idle_deadline([A, B], delays, 4.0) == 7.0
    assert next_idle_deadline([A, C], delays, 4.0) == 8.0
    assert next_idle_deadline([], delays, 4.0) == math.inf


def test_failed_loads_back_off():
    """Twice as long after each, to a minute."""
    assert [backoff_s(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 1000)] == [
        1,
        2,
        4,
        8,
        16,
        32,
        60,
        60,
    ]


@pytest.mark.parametrize(
    ("used", "loading", "largest", "may"),
    [
        (0, 0, None, True),  # by itself
        (5000, 0, 400, True),  # also where all is held: idle ones yield
        (0, 1, None, False),  # no size is known
        (0, 1, 0, True),
        (0, 1, 500, True),  # two of the largest fit
        (1, 1, 500, False),
        (0, 2, 400, False),
        (900, 1, 0, True),
        (937, 1, 0, False),  # one that is known to be small says little of the next
    ],
)
def test_functions_of_unknown_size_load_together_where_the_budget_clearly_holds_them(
    used, loading, largest, may
):
    """Each is taken to be as large as the largest that was measured, and to be a small model at
    least; of 1000 MB.
    """
    largest = None if largest is None else largest * MB
    assert may_load_unknown(used * MB, 1000 * MB, loading, largest) is may
