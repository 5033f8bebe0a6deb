"""What is called another answer; that no case has one in company is in ``test_in_process``."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.company import distance


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
