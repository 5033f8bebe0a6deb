"""A sample of the ONNX cases in random companies; all of them: `python -m
tests.conformance.company`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.conformance import cases
from tests.conformance.company import distance, examine_all

EVERY = 67


@pytest.mark.slow
def test_no_answer_of_a_sample_is_moved_by_its_batch_mates():
    """Of the cases that come as files and of the generated ones, one in so many; four companies
    each.
    """
    some = itertools.islice(itertools.chain(cases.shipped(), cases.generated()), 3, None, EVERY)
    tally = examine_all(some, 4, 1)
    assert tally.held >= 5
    assert tally.shared > 0
    assert not tally.moved, str(tally)


@pytest.mark.parametrize(
    ("alone", "found", "expected"),
    [
        ({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 2.5])}, 0.25),
        ({"y": np.array([0.1, np.nan, np.inf])}, {"y": np.array([0.2, np.nan, np.inf])}, 0.1),
        ({"y": np.array([1.0])}, {"y": np.array([np.nan])}, np.inf),
        ({"y": np.array([1.0])}, {"y": np.array([1.0, 0.0])}, np.inf),
        ({"y": np.array([1])}, {"y": np.array([2])}, np.inf),
        ({"y": "a"}, {"y": "a"}, 0.0),
        ("FunctionError", "FunctionError", 0.0),
        ("FunctionError", {"y": "a"}, np.inf),
    ],
)
def test_how_far_an_answer_moved(alone, found, expected):
    """Of the largest number of an output, where that is above 1; a shape, a text or an error is the
    same or is not.
    """
    assert distance(alone, found) == pytest.approx(expected)
