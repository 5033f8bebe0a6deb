"""What a process has grown by is a function's where its code alone ran meanwhile."""

from __future__ import annotations

import pytest

from runtime.library.measurements import Activity, Look, growth_between

QUIET = Activity(5, 0, 1.0)
CALLED = Activity(6, 0, 1.0)
RUNS = Activity(5, 1, 1.0)
WORKED = Activity(5, 0, 1.5)


def look(used: int, loads: int = 1, **functions: Activity) -> Look:
    """A look at a process."""
    return Look(used, functions, loads)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (look(10, f=QUIET), look(50, f=QUIET), ("f", 40)),
        (look(50, f=QUIET), look(10, f=CALLED), ("f", -40)),
        (look(10, f=QUIET, g=QUIET), look(50, f=CALLED, g=QUIET), ("f", 40)),
        (look(10, f=QUIET, g=QUIET), look(50, f=QUIET, g=WORKED), ("g", 40)),
        (look(10, f=RUNS, g=QUIET), look(50, f=QUIET, g=QUIET), ("f", 40)),
        (look(10, f=QUIET, g=QUIET), look(50, f=CALLED, g=RUNS), ("", 0)),
        (look(10, f=QUIET, g=QUIET), look(50, f=QUIET, g=QUIET), ("", 0)),
        (look(10, f=QUIET), look(50, f=CALLED, loads=2), ("", 0)),
        (look(10), look(50, f=CALLED), ("", 0)),
        (look(10), look(50), ("", 0)),
    ],
)
def test_growth_belongs_to_the_only_one_that_ran(before, after, found) -> None:
    """Of several that ran, of none among several, and across a load, it is none's."""
    assert growth_between(before, after) == found
