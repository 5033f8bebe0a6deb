"""What is assumed of another program is looked at, and what is otherwise is told."""

from __future__ import annotations

import pytest

from runtime.system.assumptions import Assumption, faults, require


def nothing() -> None:
    """As it is assumed."""


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (nothing, ""),
        (lambda: require(True, "never said"), ""),
        (lambda: require(False, "it is 3, not 2"), "a.b: it is 3, not 2"),
        (lambda: object().gone, "a.b: AttributeError: 'object' object has no attribute 'gone'"),
        (lambda: int("x", base=1), "a.b: ValueError: int() base must be >= 2 and <= 36, or 0"),
    ],
)
def test_what_is_otherwise_is_a_sentence_that_begins_with_the_name(check, fault):
    """Whatever a check raises; one that raises nothing holds."""
    one = Assumption("a.b", "a reason.", "", check)
    assert one.fault() == fault
    assert faults([one, Assumption("c", "a reason.", "", nothing)]) == [fault] * bool(fault)
