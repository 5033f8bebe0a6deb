"""How large a batch may be after there was no memory for a larger one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from runtime.batching.bisection import HOLD_S, BatchSizeCap, cap_after_oom
from runtime.batching.policy import BatchLimits


@dataclass
class Row:
    """A waiting row."""

    shapes: tuple[tuple[int, ...], ...] = ()
    padded_size: int = 0
    key: str = ""
    since: float = 0.0
    run_solo: bool = False


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([Row()] * 32, BatchSizeCap(16, None, 5.0)),
        ([Row()] * 3, BatchSizeCap(1, None, 5.0)),
        ([Row()] * 2, BatchSizeCap(1, None, 5.0)),
        ([Row(((10,),), 10), Row(((30,),), 30)], BatchSizeCap(None, 30, 5.0)),
        ([Row(((2, 9),), 18), Row(((4, 3),), 12)], BatchSizeCap(None, 36, 5.0)),
        ([Row(((10,), (7,)), 10), Row(((30,), (50,)), 50)], BatchSizeCap(None, 50, 5.0)),
    ],
)
def test_half_of_what_was_too_large_is_kept_to(rows, expected):
    """Rows of fixed shape are counted; ragged ones are weighed with their padding, since 32 short
    ones fit where 16 long ones do not.
    """
    assert cap_after_oom(rows, 5.0) == expected


@pytest.mark.parametrize(
    ("cap", "after_s", "rows", "cost"),
    [
        (BatchSizeCap(4, None, 0.0), 0.0, 4, None),
        (BatchSizeCap(4, None, 0.0), HOLD_S - 1, 4, None),
        (BatchSizeCap(4, None, 0.0), HOLD_S, 8, None),
        (BatchSizeCap(4, None, 0.0), 2.5 * HOLD_S, 16, None),
        (BatchSizeCap(4, None, 0.0), 3 * HOLD_S, 32, None),
        (BatchSizeCap(4, None, 0.0), 1000 * HOLD_S, 32, None),
        (BatchSizeCap(None, 500, 0.0), 0.0, 32, 500),
        (BatchSizeCap(None, 500, 0.0), HOLD_S, 32, 1000),
        (BatchSizeCap(None, 500, 0.0), 100 * HOLD_S, 32, None),
        (BatchSizeCap(4, 500, 0.0), 0.0, 4, 500),
    ],
)
def test_a_limit_holds_for_a_minute_and_then_twice_as_much_is_tried(cap, after_s, rows, cost):
    """By the time since memory ran out: what is left of the limit, until nothing is."""
    limits = BatchLimits(max_batch_size=32)
    cut = cap.cut(limits, after_s)
    assert (cut.max_batch_size, cut.max_batch_cost) == (rows, cost)
    assert (cut is limits) == ((rows, cost) == (32, None))


def test_a_declared_limit_is_never_raised():
    """A cap above the declared limits changes nothing."""
    limits = BatchLimits(max_batch_size=2, max_batch_cost=100)
    assert BatchSizeCap(16, 4000, 0.0).cut(limits, 0.0) is limits


@pytest.mark.parametrize(
    ("found", "earlier", "expected"),
    [
        (BatchSizeCap(8, None, 9.0), None, BatchSizeCap(8, None, 9.0)),
        (BatchSizeCap(8, None, 9.0), BatchSizeCap(2, None, 0.0), BatchSizeCap(2, None, 9.0)),
        (BatchSizeCap(8, None, HOLD_S), BatchSizeCap(2, None, 0.0), BatchSizeCap(4, None, HOLD_S)),
        (BatchSizeCap(8, None, 9.0), BatchSizeCap(None, 70, 0.0), BatchSizeCap(8, 70, 9.0)),
    ],
)
def test_of_two_limits_the_lower_holds(found, earlier, expected):
    """A batch that left before the limit was found may fail after it: that does not lift the
    cap.
    """
    assert found.min_with(earlier, found.since) == expected
