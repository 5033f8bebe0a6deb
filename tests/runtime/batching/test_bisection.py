"""A batch that fails, run again in halves."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.bisection import BatchSizeCap, run_bisecting
from runtime.batching.calls import Call, Row
from runtime.errors import (
    DeadlineExceeded,
    DeviceLost,
    FunctionError,
    RequestError,
    RowTooLarge,
    UpstreamError,
)


def rows_of(count: int) -> list[Row]:
    """One call's rows, numbered."""
    return Call([{"n": n} for n in range(count)], request_id="r", now=0.0, deadline=math.inf).rows


class Doubles:
    """A run over all rows at once, which fails as a whole where one of them is bad, and counts
    itself.
    """

    def __init__(self, bad: Callable[[Sequence[Row]], BaseException | None]) -> None:
        self.bad = bad
        self.runs = 0

    def __call__(self, rows: Sequence[Row]) -> None:
        self.runs += 1
        error = self.bad(rows)
        if error is not None:
            raise error
        for row in rows:
            row.values["y"] = 2 * row.values["n"]


def poisoned(
    *numbers: int, error: type[BaseException] = ValueError
) -> Callable[[Sequence[Row]], BaseException | None]:
    """These rows fail whatever run they are in."""
    return lambda rows: error("bad") if any(row.index in numbers for row in rows) else None


def answers(rows: Sequence[Row]) -> list[int | None]:
    """By row: what it was answered, None where it failed."""
    return [None if row.error is not None else row.values["y"] for row in rows]


def test_one_bad_row_fails_alone_within_the_promised_runs(caplog):
    """For every batch to 64 rows and every place in it: all others are answered, in at most 2
    ceil(log2 n) + 1 more runs than one.
    """
    caplog.set_level(logging.CRITICAL, "wakeful.function")  # two thousand tracebacks
    most: dict[int, int] = {}
    for count in range(1, 65):
        for place in range(count):
            rows, run = rows_of(count), Doubles(poisoned(place))
            assert run_bisecting(rows, run, "s") is None
            assert answers(rows) == [None if n == place else 2 * n for n in range(count)]
            assert type(rows[place].error) is FunctionError
            assert run.runs - 1 <= 2 * math.ceil(math.log2(count)) + 1
            most[count] = max(most.get(count, 0), run.runs - 1)
    assert (most[1], most[2], most[8], most[32], most[64]) == (0, 2, 6, 10, 12)


@given(
    st.integers(1, 64).flatmap(
        lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1)))
    )
)
def test_any_bad_rows_fail_and_all_others_are_answered(drawn):
    """However many are bad and wherever they are; each of them costs no more than one does."""
    count, bad = drawn
    rows, run = rows_of(count), Doubles(poisoned(*bad))
    run_bisecting(rows, run, "s")
    assert answers(rows) == [None if n in bad else 2 * n for n in range(count)]
    assert run.runs - 1 <= max(1, len(bad)) * (2 * math.ceil(math.log2(count)) + 1)


@pytest.mark.parametrize("error", [SystemExit, RecursionError, KeyError])
def test_whatever_is_raised_is_one_rows_fate(error):
    """sys.exit in a stage too."""
    rows = rows_of(4)
    run_bisecting(rows, Doubles(poisoned(2, error=error)), "s")
    assert answers(rows) == [0, 2, None, 6]


def test_a_refusal_is_for_the_client():
    """A RequestError of a stage that takes all rows reaches the row that caused it as it is."""
    rows = rows_of(4)
    run_bisecting(
        rows,
        Doubles(
            lambda some: (
                RequestError("3 is not wanted.") if any(row.index == 3 for row in some) else None
            )
        ),
        "s",
    )
    assert [row.error and row.error.message for row in rows] == [
        None,
        None,
        None,
        "3 is not wanted.",
    ]


def test_rows_that_have_failed_are_not_run_again():
    """A batch keeps its failed rows until it leaves; no stage sees them."""
    rows, run = rows_of(3), Doubles(poisoned(1))
    rows[1].error = FunctionError("earlier")
    run_bisecting(rows, run, "s")
    assert (answers(rows), run.runs) == ([0, None, 4], 1)


@pytest.mark.parametrize(
    ("most_rows", "expected"),
    [
        (32, None),
        (31, BatchSizeCap(16, None, 0.0)),
        (16, BatchSizeCap(16, None, 0.0)),
        (15, BatchSizeCap(8, None, 0.0)),
        (1, BatchSizeCap(1, None, 0.0)),
    ],
)
def test_a_batch_beyond_memory_is_halved_until_it_fits(most_rows, expected):
    """All 32 rows are answered, and half of the smallest batch that did not fit is what comes
    back.
    """
    rows = rows_of(32)
    found = run_bisecting(
        rows, Doubles(lambda some: MemoryError() if len(some) > most_rows else None), "s"
    )
    assert answers(rows) == [2 * n for n in range(32)]
    assert (found and (found.rows, found.padded_size)) == (
        expected and (expected.rows, expected.padded_size)
    )


def test_a_row_that_is_too_large_by_itself_is_no_reason_to_make_batches_small():
    """It gets an error that says so; the others are answered, and no limit is found."""
    rows = rows_of(32)
    assert run_bisecting(rows, Doubles(poisoned(7, error=MemoryError)), "s") is None
    assert answers(rows) == [None if n == 7 else 2 * n for n in range(32)]
    assert isinstance(rows[7].error, RowTooLarge)
    assert "not enough memory for this row" in rows[7].error.message


def test_a_row_whose_client_left_is_not_run_again():
    """While a batch of eight fails, two callers' time is over: no half of it computes their
    rows.
    """
    rows = [Call([{"n": n}], request_id="r", now=0.0, deadline=math.inf).rows[0] for n in range(8)]
    seen: list[set[int]] = []

    def run(some: Sequence[Row]) -> None:
        seen.append({row.values["n"] for row in some})
        rows[1].call.is_abandoned, rows[6].call.deadline = True, 0.0
        if 3 in seen[-1]:
            raise ValueError("bad")

    run_bisecting(rows, run, "s")
    assert not any(seen[at] & {1, 6} for at in range(1, len(seen)))
    assert [type(row.error) for row in rows if row.error is not None] == [
        DeadlineExceeded,
        FunctionError,
        DeadlineExceeded,
    ]


def test_a_lost_device_is_tried_once():
    """No half can run on it either: one run, and all rows get the same error."""
    rows, run = rows_of(32), Doubles(lambda some: DeviceLost("CUDA error 700"))
    assert run_bisecting(rows, run, "s") is None
    assert run.runs == 1
    assert all(isinstance(row.error, DeviceLost) for row in rows)


def test_an_upstream_that_does_not_answer_is_called_once():
    """Halves would ask it again, up to 2n times a batch: one run, and all rows get the stage's own
    error.
    """
    rows, run = rows_of(32), Doubles(lambda some: UpstreamError("the price list does not answer."))
    assert run_bisecting(rows, run, "s") is None
    assert run.runs == 1
    assert {row.error and row.error.message for row in rows} == {"the price list does not answer."}
