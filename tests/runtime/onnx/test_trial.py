"""What decides whether a prepared form is used, and how it is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.onnx.trial import Cost, RefusedError, choose, is_same

MB = 1_000_000


@pytest.mark.parametrize(
    ("original", "with_reuse", "without", "reuse"),
    [
        (Cost(0.100, 90 * MB), Cost(0.080, 50 * MB), Cost(0.020, 50 * MB), False),
        (Cost(0.100, 90 * MB), Cost(0.080, 50 * MB), Cost(0.020, 53 * MB), False),
        (Cost(0.100, 90 * MB), Cost(0.080, 50 * MB), Cost(0.020, 70 * MB), True),
        (Cost(0.100, 90 * MB), Cost(0.020, 50 * MB), Cost(0.080, 10 * MB), True),
        (Cost(0.001, 0), Cost(0.002, 0), Cost(0.0015, 900_000), False),
    ],
)
def test_the_faster_planning_is_taken_if_it_is_not_heavier(original: Cost, with_reuse: Cost, without: Cost, reuse: bool) -> None:
    """A measurement's spread is allowed for."""
    assert choose(original, with_reuse, without) is reuse


def test_a_form_that_loads_slower_is_refused() -> None:
    """With both times."""
    with pytest.raises(RefusedError, match=r"loads in 30\.0 ms, the original in 20\.0"):
        choose(Cost(0.020, 5), Cost(0.030, 5), Cost(0.010, 50 * MB))


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        (np.float32([1, np.nan]), np.float32([1, np.nan]), True),
        (np.float32([1]), np.float32([1.0000001]), True),
        (np.float32([1]), np.float32([1.0001]), False),
        (np.float32([1]), np.float64([1]), False),
        (np.float32([[1]]), np.float32([1]), False),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), True),
        (np.array(["a"], object), np.array(["b"], object), False),
    ],
)
def test_answers_are_the_same_up_to_rounding(wanted: Any, found: Any, same: bool) -> None:
    """Shape and type included."""
    assert is_same(wanted, found) is same
