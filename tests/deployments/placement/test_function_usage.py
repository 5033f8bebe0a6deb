"""What processes report of a function, and what of that is its work."""

from __future__ import annotations

import pytest

from deployments.placement.function_usage import MAX_SILENT, FunctionUsage
from runtime.library.function_report import FunctionReport


def done(busy_s: float) -> FunctionReport:
    """What a process has done since it loaded the function."""
    return FunctionReport(busy_s=busy_s, calls=int(busy_s))


def work(usage: FunctionUsage, now: float) -> tuple[float, int]:
    """All that was reported until now."""
    usage.take_sample(now, 0)
    return usage.samples[-1].busy_s, usage.samples[-1].calls


@pytest.mark.parametrize(
    ("then", "counts"),
    [
        (60.0, 60.0),  # it was cut off, and has done nothing
        (61.5, 61.5),
        (2.0, 62.0),  # it has loaded the function again
    ],
)
def test_a_process_that_was_silent_goes_on_where_it_was(then, counts):
    """Its work of hours is none of this moment."""
    usage = FunctionUsage()
    usage.receive("h", done(60.0), 0.0)
    assert work(usage, 0.0) == (60.0, 60)
    usage.drop_silent(5.0)
    assert not usage.by_process
    usage.receive("h", done(then), 6.0)
    assert work(usage, 6.0) == (counts, int(counts))
    usage.receive("h", done(then + 1), 7.0)
    assert work(usage, 7.0) == (counts + 1, int(counts + 1))


def test_a_process_that_has_it_no_more_begins_anew():
    """As its counters do, silent before or not."""
    usage = FunctionUsage()
    for silent_before in (-1.0, 5.0):
        usage.receive("h", done(60.0), 0.0)
        usage.drop_silent(silent_before)
        usage.drop("h")
        assert not usage.reports
    usage.receive("h", done(70.0), 6.0)
    assert work(usage, 6.0) == (190.0, 190)


def test_of_processes_that_have_ended_the_last_are_remembered():
    """Each replica has an id of its own, for as long as the cluster is up."""
    usage = FunctionUsage()
    for number in range(MAX_SILENT + 1):
        usage.receive(f"{number}", done(1.0), float(number))
        usage.drop_silent(number + 1.0)
    before = MAX_SILENT + 1
    usage.receive("1", done(1.0), 100.0)
    assert work(usage, 100.0) == (before, before)
    usage.receive("0", done(1.0), 100.0)
    assert work(usage, 100.0) == (before + 1, before + 1)
