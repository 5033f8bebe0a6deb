"""What counts as a right answer."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest

from deployments.loadtest.calls.answers import WrongAnswer, check_alike
from loadtests.samples import FirstAnswers, check_refused

FIRST = {"label": "wav", "score": 0.5, "rows": [{"box": [1, 2]}, {"box": [3, 4]}], "none": None}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"score": 0.505}, ""),
        ({"score": 0.52}, "0.52, not 0.5 as before"),
        ({"score": None}, "None, not 0.5 as before"),
        ({"score": float("nan")}, "nan, not 0.5"),
        ({"label": "txt"}, "txt, not wav"),
        ({"none": 0}, "0, not None"),
        ({"rows": [{"box": [3, 4]}, {"box": [1, 2]}]}, "3, not 1"),
        ({"rows": [{"box": [1, 2]}]}, "1 items, not 2"),
        ({"rows": {}}, "{}, not ["),
        ({"more": 1}, "has ['label', 'more', 'none', 'rows', 'score'], not ['label', 'none'"),
    ],
)
def test_later_answers_equal_the_first_but_for_rounding(
    changed: dict[str, Any], reason: str
) -> None:
    """Each way to differ is named; other rows are their own matter."""
    first = FirstAnswers(0.01)
    first.check("a", FIRST)
    first.check("b", "another")
    with pytest.raises(WrongAnswer, match=re.escape(reason)) if reason else nullcontext():
        first.check("a", {**FIRST, **changed})


def test_an_embedding_may_move_by_little() -> None:
    """Batch-mates and padding move a number by 1e-4 and no more; a row that got lost is none."""
    check_alike({"embedding": [0.50005, -0.5, 0]}, {"embedding": [0.5, -0.5, 0.0]})
    for wrong in ([0.5, -0.4998, 0.0], [0.5, -0.5], None, "text"):
        with pytest.raises(WrongAnswer):
            check_alike({"embedding": wrong}, {"embedding": [0.5, -0.5, 0.0]})


def test_a_bad_row_must_be_refused_with_a_reason_and_a_code() -> None:
    """An embedding in place of an error object is wrong."""
    check_refused(
        {"error": "'text' must be a string.", "code": "wrong_datatype", "where": "[1].text"}
    )
    wrong: list[Any] = [{"embedding": []}, {"error": "", "code": "x"}, None]
    for answer in wrong:
        with pytest.raises(WrongAnswer, match="not refused"):
            check_refused(answer)
