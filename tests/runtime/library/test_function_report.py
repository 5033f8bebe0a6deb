"""Reports of several processes, as a policy reads them."""

from __future__ import annotations

import pytest

from runtime.library.function_report import FunctionReport, UsageSample, add_usage


@pytest.mark.parametrize(
    ("reports", "sample"),
    [
        ([FunctionReport()], UsageSample(5.0, 9.0, 90)),
        (
            [
                FunctionReport(busy_s=1.0, calls=3, in_flight=1, idle_s=2.0, p95_ms=10.0),
                FunctionReport(waiting_rows=4, idle_s=0.5, p95_ms=30.0, sequences=2),
            ],
            UsageSample(5.0, 9.0, 90, 1, 4, 0.5, 30.0, 2),
        ),
        (
            [FunctionReport(p95_ms=None), FunctionReport(p95_ms=7.0, sequences=1)],
            UsageSample(5.0, 9.0, 90, p95_ms=7.0, sequences=1),
        ),
    ],
)
def test_what_several_processes_report_is_added(reports, sample):
    """Load is summed; idle is what was used last, slow what is slowest; and what processes have
    counted that have ended comes from the reader.
    """
    assert add_usage(5.0, reports, busy_s=9.0, calls=90) == sample


def test_a_report_is_a_sample_of_the_same_fields():
    """A policy reads a report as it is."""
    assert set(UsageSample.__slots__) < set(dir(FunctionReport()))
    assert isinstance(FunctionReport(), UsageSample)
