"""How large a batch may be after memory had no room for a larger one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from runtime.batching.ceiling import HOLD_S, Ceiling, below
from runtime.batching.policy import BatchLimits


@dataclass
class Row:
    """A waiting row."""

    length: tuple[int, ...] = ()
    cost: int = 0
    since: float = 0.0
    alone: bool = False


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([Row()] * 32, Ceiling(16, None, 5.0)),
        ([Row()] * 3, Ceiling(1, None, 5.0)),
        ([Row()] * 2, Ceiling(1, None, 5.0)),
        ([Row((10,), 10), Row((30,), 30)], Ceiling(None, 30, 5.0)),
        ([Row((2, 9), 18), Row((4, 3), 12)], Ceiling(None, 36, 5.0)),
    ],
)
def test_half_of_what_was_too_large_is_kept_to(rows, expected):
    """Rows of fixed shape are counted; ragged ones are weighed with their padding, since 32 short ones fit where 16 long ones do not."""
    assert below(rows, 5.0) == expected


@pytest.mark.parametrize(
    ("ceiling", "after_s", "rows", "cost"),
    [
        (Ceiling(4, None, 0.0), 0.0, 4, None),
        (Ceiling(4, None, 0.0), HOLD_S - 1, 4, None),
        (Ceiling(4, None, 0.0), HOLD_S, 8, None),
        (Ceiling(4, None, 0.0), 2.5 * HOLD_S, 16, None),
        (Ceiling(4, None, 0.0), 3 * HOLD_S, 32, None),
        (Ceiling(4, None, 0.0), 1000 * HOLD_S, 32, None),
        (Ceiling(None, 500, 0.0), 0.0, 32, 500),
        (Ceiling(None, 500, 0.0), HOLD_S, 32, 1000),
        (Ceiling(None, 500, 0.0), 100 * HOLD_S, 32, None),
        (Ceiling(4, 500, 0.0), 0.0, 4, 500),
    ],
)
def test_a_limit_holds_for_a_minute_and_then_twice_as_much_is_tried(ceiling, after_s, rows, cost):
    """By the time since memory ran out: what is left of the limit, until nothing is."""
    limits = BatchLimits(max_batch_size=32)
    cut = ceiling.cut(limits, after_s)
    assert (cut.max_batch_size, cut.max_batch_cost) == (rows, cost)
    assert (cut is limits) == ((rows, cost) == (32, None))


def test_a_declared_limit_is_never_raised():
    """A ceiling above it changes nothing."""
    limits = BatchLimits(max_batch_size=2, max_batch_cost=100)
    assert Ceiling(16, 4000, 0.0).cut(limits, 0.0) is limits


@pytest.mark.parametrize(
    ("found", "earlier", "expected"),
    [
        (Ceiling(8, None, 9.0), None, Ceiling(8, None, 9.0)),
        (Ceiling(8, None, 9.0), Ceiling(2, None, 0.0), Ceiling(2, None, 9.0)),
        (Ceiling(8, None, HOLD_S), Ceiling(2, None, 0.0), Ceiling(4, None, HOLD_S)),
        (Ceiling(8, None, 9.0), Ceiling(None, 70, 0.0), Ceiling(8, 70, 9.0)),
    ],
)
def test_of_two_limits_the_lower_holds(found, earlier, expected):
    """A batch that left before the limit was found may fail after it: that does not lift the limit."""
    assert found.lowered(earlier, found.since) == expected
