"""A text that says no number lies within no bounds, so that one comparison refuses it."""

from __future__ import annotations

import math

import pytest

from runtime.system.setting_values import to_number


@pytest.mark.parametrize(
    ("text", "number"), [("1.5", 1.5), (" 2 ", 2.0), ("1e3", 1000.0), ("inf", math.inf), (3.0, 3.0)]
)
def test_a_number_is_read(text: str | float, number: float) -> None:
    """As Python reads it, without bounds."""
    assert to_number(text) == number


@pytest.mark.parametrize("text", ["", "x", "nan", "1,5", "1 2", "0x10", "²"])
def test_what_is_no_number_lies_within_no_bounds(text: str) -> None:
    """Not even within infinite ones."""
    assert not -math.inf <= to_number(text) <= math.inf
