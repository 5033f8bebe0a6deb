"""What the log gets of rows that fail."""

from __future__ import annotations

import logging
import math
from typing import Any

from runtime.batching.bisection import run_bisecting, to_row_error
from runtime.batching.calls import Call
from runtime.batching.health.failure_log import MOST_PLACES, log_counts, log_failure
from runtime.errors import FunctionError
from wakeful.testing import serve

STAGE = """\
def stage(x: int) -> int:
    raise ValueError(f"no good {x}")
"""

FILE = """\
applications:
  - name: raises
    args: {graph: [{stage: s, python: "raises_in_a_test:stage"}]}
"""


def call_of(rows: int, request_id: str = "r") -> Call:
    return Call([{"n": n} for n in range(rows)], request_id=request_id, now=0.0, deadline=math.inf)


def raised(error: BaseException) -> BaseException:
    """With a traceback, as any that is caught."""
    try:
        raise error
    except BaseException as caught:
        return caught


def test_all_rows_of_a_call_that_fail_alike_are_one_traceback_and_a_count(caplog):
    """Whatever the rows say of themselves; the request is named in both."""
    call = call_of(1024)
    for row in call.rows:
        row.error = to_row_error(raised(ValueError(f"no good {row.index}")), row, "s")
    log_counts(call)
    first, count = caplog.records
    assert first.getMessage() == "request r, row 0: stage 's' failed"
    assert first.exc_info is not None
    assert count.getMessage().startswith(
        "request r: 1023 more rows failed: stage 's' failed: ValueError"
    )
    assert {type(row.error) for row in call.rows} == {FunctionError}


def test_a_batch_of_several_calls_names_each(caplog):
    """Also where it is run in halves."""
    calls = [call_of(3, name) for name in ("a", "b")]

    def run(rows: Any) -> None:
        raise ValueError("bad")

    run_bisecting([row for call in calls for row in call.rows], run, "s")
    for call in calls:
        log_counts(call)
    said = [record.getMessage().split(":")[0] for record in caplog.records]
    assert said == ["request a, row 0", "request b, row 0", "request a", "request b"]


def test_an_array_of_rows_that_all_fail_is_logged_once(tmp_path, monkeypatch, caplog):
    """From one end to the other, where 540 kB were written; each row still has its error."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raises_in_a_test.py").write_text(STAGE)
    (tmp_path / "serve_config.yaml").write_text(FILE)
    with serve(tmp_path / "serve_config.yaml") as app:
        answer = app.http.post("/v2/models/raises", json=[{"x": n} for n in range(1000)])
    assert [one["code"] for one in answer.json()] == ["function_failed"] * 1000
    records = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert sum(one.exc_info is not None for one in records) == 1
    assert ["999 more rows failed" in one.getMessage() for one in records] == [False, True]


def test_failures_of_different_kinds_have_a_record_each(caplog):
    """As far as there are few; what is beyond is counted."""
    call = call_of(MOST_PLACES + 5)
    for row in call.rows:
        log_failure(row, f"stage {row.index} failed", raised(KeyError(row.index)))
    log_counts(call)
    assert len(caplog.records) == MOST_PLACES + 1
    assert caplog.records[-1].getMessage() == "request r: 5 more rows failed: at other places"


def test_one_row_that_fails_needs_no_count(caplog):
    """As ever: the record with the traceback."""
    call = call_of(2)
    log_failure(call.rows[1], "stage 's' failed", raised(ValueError("x")))
    log_counts(call)
    log_counts(call_of(2))
    assert [record.getMessage() for record in caplog.records] == [
        "request r, row 1: stage 's' failed"
    ]


def test_what_the_error_says_is_the_record_where_that_is_all(caplog):
    """A stage that returns what it does not declare needs no traceback."""
    call = call_of(3)
    for row in call.rows:
        to_row_error(FunctionError("stage 's' returned None."), row, "s")
    log_counts(call)
    assert [(record.getMessage(), record.exc_info) for record in caplog.records][:1] == [
        ("request r, row 0: stage 's' returned None.", None)
    ]
    assert "2 more rows failed" in caplog.records[1].getMessage()
