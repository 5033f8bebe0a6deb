"""Admit or refuse, by what is in flight."""

from __future__ import annotations

import pytest

from runtime.admission import Capacity, Load, refusal

CAPACITY = Capacity(calls=4, rows=100, workers=2)


@pytest.mark.parametrize(
    ("load", "rows", "admitted"),
    [
        (Load(0, 0), 1, True),
        (Load(3, 3), 1, True),
        (Load(4, 4), 1, False),
        (Load(1, 99), 1, True),
        (Load(1, 99), 2, False),
        (Load(0, 0), 1000, True),
    ],
)
def test_a_call_is_admitted(load, rows, admitted):
    """By calls and by rows; a call alone is always admitted, its size is limited elsewhere."""
    assert (refusal(load, CAPACITY, rows, 0.0) is None) is admitted


def test_retry_after_is_the_time_the_queue_takes():
    """Rows in flight times seconds a row over the workers, one second at least."""
    error = refusal(Load(4, 80), CAPACITY, 1, 0.25)
    assert error is not None
    assert (error.status, error.retry_after_s) == (429, 10)
    quick = refusal(Load(4, 80), CAPACITY, 1, 0.0)
    assert quick is not None
    assert quick.retry_after_s == 1
