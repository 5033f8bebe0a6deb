"""When a function that is loaded can no longer be trusted to answer."""

from __future__ import annotations

import pytest

from runtime.batching.health.failure_detector import FAILING, RETEST_S, FailureDetector

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
