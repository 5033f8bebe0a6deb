"""Admit or refuse, by what is in flight."""

from __future__ import annotations

import pytest

from runtime.execution.in_flight import (
    AdmissionLimits,
    AdmissionLoad,
    bytes_rejection,
    is_admitted,
    overloaded_error,
    retry_after_s,
)

CAPACITY = AdmissionLimits(calls=4, rows=100, workers=2, bytes=1000)


@pytest.mark.parametrize(
    ("load", "rows", "admitted"),
    [
        (AdmissionLoad(0, 0), 1, True),
        (AdmissionLoad(3, 3), 1, True),
        (AdmissionLoad(4, 4), 1, False),
        (AdmissionLoad(1, 99), 1, True),
        (AdmissionLoad(1, 99), 2, False),
        (AdmissionLoad(0, 0), 1000, True),
    ],
)
def test_a_call_is_admitted(load, rows, admitted):
    """By calls and by rows; a call alone is always admitted, its size is limited elsewhere."""
    assert is_admitted(load, CAPACITY, rows) is admitted


def test_retry_after_is_the_time_the_queue_takes():
    """Rows in flight times seconds a row over the workers, one second at least."""
    assert (retry_after_s(80, 0.25, 2), retry_after_s(80, 0.0, 2)) == (10, 1)
    error = overloaded_error(AdmissionLoad(4, 80), CAPACITY, 10)
    assert (error.status, error.retry_after_s) == (429, 10)


@pytest.mark.parametrize(
    ("held", "own", "more", "admitted"),
    [
        (0, 0, 100, True),
        (0, 0, 5000, True),
        (900, 0, 100, True),
        (900, 0, 101, False),
        (1, 0, 1000, False),
        (900, 900, 5000, True),
        (901, 900, 100, False),
    ],
)
def test_bytes_are_admitted(held, own, more, admitted):
    """Up to what the budget holds; a body alone in it is taken whatever its size, at once or as it
    grows.
    """
    error = bytes_rejection(held, own, more, CAPACITY.bytes, 3)
    assert (error is None) is admitted
    if error is not None:
        assert (error.status, error.retry_after_s) == (429, 3)
        assert str(held) in error.message
        assert "max_ongoing_bytes" in error.message
