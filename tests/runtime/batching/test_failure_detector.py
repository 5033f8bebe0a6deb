"""When a function that is loaded can no longer be trusted to answer."""

from __future__ import annotations

import pytest

from runtime.batching.workers import FAILING, HUNG_S, RETEST_S, FailureDetector, is_hung

BAD = [False] * FAILING


@pytest.mark.parametrize(
    ("answered", "tests"),
    [
        (BAD, 1),
        (BAD[1:], 0),
        ([*BAD[1:], True, *BAD[1:]], 0),
        ([*BAD[1:], True, *BAD], 1),
        (BAD * 3, 1),
        ([True] * 50, 0),
    ],
)
def test_batches_in_a_row_without_an_answer_call_for_a_test(answered, tests):
    """One answer in between is enough to trust it, and no number of failures within seconds calls
    for two tests.
    """
    doubt = FailureDetector()
    assert sum(doubt.record_batch(one, 0.0) for one in answered) == tests


def test_a_test_is_repeated_after_a_while():
    """It keeps failing: every ten seconds it is tested again, however many batches fail in
    between.
    """
    doubt = FailureDetector()
    seen = [now for now in range(60) for _ in range(100) if doubt.record_batch(False, float(now))]
    assert seen == list(range(0, 60, int(RETEST_S)))


@pytest.mark.parametrize(
    ("took_s", "timeout_s", "expected"),
    [
        (HUNG_S - 1, 0.1, False),
        (HUNG_S + 1, 0.1, True),
        (HUNG_S + 1, 60.0, False),
        (119.0, 60.0, False),
        (121.0, 60.0, True),
        (1e9, float("inf"), False),
    ],
)
def test_a_worker_hangs_when_it_is_away_for_twice_the_longest_wait(took_s, timeout_s, expected):
    """By how long it has been in its batch and how long a caller of that function may wait; half a
    minute is never too long.
    """
    assert is_hung(1000.0, timeout_s, 1000.0 + took_s) is expected
