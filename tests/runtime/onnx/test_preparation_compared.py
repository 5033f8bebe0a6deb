"""What decides whether a prepared form is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.onnx.preparation import is_same


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
