"""Numbers as they are said: few digits, their unit, no rounding to what is not true."""

from __future__ import annotations

import math

import pytest

from deployments.loadtest.report import numbers

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("say", "value", "text"),
    [
        (numbers.format_number, 0, "0"),
        (numbers.format_number, 0.012345, "0.0123"),
        (numbers.format_number, 12.345, "12.3"),
        (numbers.format_number, 120, "120"),
        (numbers.format_number, 1e6, "1,000,000"),
        (numbers.format_number, -12.345, "-12.3"),
        (numbers.format_number, 1e-9, "0"),
        (numbers.format_number, NAN, "–"),
        (numbers.format_ms, 0.35, "0.35 ms"),
        (numbers.format_ms, 35.04, "35 ms"),
        (numbers.format_ms, 999.4, "999 ms"),
        (numbers.format_ms, 999.6, "1 s"),
        (numbers.format_ms, 3512, "3.51 s"),
        (numbers.format_ms, INF, "–"),
        (numbers.format_share, 0, "0 %"),
        (numbers.format_share, 1, "100 %"),
        (numbers.format_share, 0.99, "99 %"),
        (numbers.format_share, 0.9995, "99.95 %"),
        (numbers.format_share, 0.99999, "99.999 %"),
        (numbers.format_share, 0.00001, "0.001 %"),
        (numbers.format_share, 0.421, "42.1 %"),
        (numbers.format_share, NAN, "–"),
        (numbers.format_seconds, 0.5, "0.5 s"),
        (numbers.format_seconds, 90, "90 s"),
        (numbers.format_seconds, 750, "12 min"),
        (numbers.format_seconds, 12000, "3 h 20 min"),
        (numbers.format_seconds, 10800, "3 h"),
    ],
)
def test_a_number_is_said(say, value, text):
    """Three digits that count; a share that is not whole is never 0 or 100 %."""
    assert say(value) == text


@pytest.mark.parametrize(
    ("value", "whole_s", "text"),
    [
        (20, 60, "20 s"),
        (2.5, 60, "2.5 s"),
        (80, 600, "1:20"),
        (3900, 7200, "1:05"),
        (3930, 7200, "1:05:30"),
    ],
)
def test_a_moment_is_said_as_its_run_is_long(value, whole_s, text):
    """Seconds, then minutes, then hours."""
    assert numbers.format_clock(value, whole_s) == text
