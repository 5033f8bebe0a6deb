"""A call that fails has a short line in the log, and a thousand of them have ten and their counts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from runtime.system.telemetry.counters import DISCONNECTED
from runtime.system.telemetry.failed_calls import (
    MOST_LINES,
    PERIOD_S,
    FailedCalls,
    LineBudget,
    describe_failure,
)


@dataclass
class Answered:
    """A call that is over."""

    status: int = 400
    code: str = "wrong_datatype"
    reason: str = "it is none."
    method: str = "POST"
    path: str = "/v2/models/f"
    id_bytes: bytes = b"id-1"
    began: float = 0.0
    sent_bytes: int = 0
    wake_s: float = 0.0
    body: Any = None
    call: Any = None
    trace: Any = None


@pytest.mark.parametrize(
    ("answered", "line"),
    [
        (Answered(), "POST /v2/models/f 400 wrong_datatype: it is none."),
        (
            Answered(500, "function_error", "stage 's' failed."),
            "POST /v2/models/f 500 function_error: stage 's' failed. (request id-1)",
        ),
        (Answered(404, "", "", "GET", "/x"), "GET /x 404"),
        (Answered(404, "", "", "GET", "/\x1b[2Jx"), "GET /?[2Jx 404"),
        (Answered(413, "too_large", "a" * 500), f"POST /v2/models/f 413 too_large: {'a' * 200}…"),
    ],
)
def test_a_line_says_what_failed_and_why(answered: Answered, line: str) -> None:
    """On one line, bounded, without what moves a terminal's cursor."""
    assert describe_failure(answered) == line


def test_a_period_has_so_many_lines_and_the_rest_is_counted() -> None:
    """By status and code; the next period begins when the counts were told."""
    budget = LineBudget()
    assert [budget.admit("400 a", 5.0) for _ in range(MOST_LINES + 2)] == [True] * 10 + [False] * 2
    assert not budget.admit("429 b", 5.0 + PERIOD_S)
    assert budget.take_counts() == "3 more calls failed: 2 x 400 a, 1 x 429 b."
    assert budget.take_counts() == ""
    assert budget.admit("400 a", 5.0 + PERIOD_S)


def test_calls_in_different_periods_have_a_line_each() -> None:
    """One a second is never counted away."""
    budget = LineBudget()
    assert all(budget.admit("400 a", second * PERIOD_S) for second in range(50))


def test_the_counts_come_when_the_second_is_over_or_the_process_ends(caplog) -> None:
    """And a client that left has no line."""

    async def fail() -> None:
        failed = FailedCalls(lambda: 1.0)
        failed("f", Answered(DISCONNECTED, "not_read"))
        for _ in range(MOST_LINES + 5):
            failed("f", Answered())
        failed.close()
        failed.close()

    with caplog.at_level(logging.WARNING, "wakeful.calls"):
        asyncio.run(fail())
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == MOST_LINES + 1
    assert messages[-1] == "5 more calls failed: 5 x 400 wrong_datatype."
