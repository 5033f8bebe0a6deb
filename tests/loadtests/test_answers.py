"""What counts as a right answer."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

import numpy as np
import pytest

from loadtests import samples
from loadtests.answers import (
    FirstAnswers,
    WrongAnswer,
    check_classes,
    check_embedding,
    check_filetype,
    check_forecast,
    check_found,
    check_meaning,
    check_read,
    check_refused,
    check_score,
    safety_stock,
)

UNIT = np.eye(384)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([1.0] * 384, "norm 19.5959, not 1"),
        ([1.0] + [0.0] * 382, "shape [383], not [384]"),
        ([float("nan")] * 384, "norm nan"),
        ("text", "not a list of numbers"),
        (None, "shape [], not [384]"),
        ([[1.0, 0.0], [1.0]], "not a list of numbers"),
    ],
)
def test_only_a_unit_vector_of_384_numbers_is_an_embedding(numbers: Any, reason: str) -> None:
    """Each way to be wrong is named."""
    with pytest.raises(WrongAnswer, match=re.escape(reason)):
        check_embedding(numbers)


def test_a_unit_vector_is_taken_as_it_is() -> None:
    """Rounding of float32 does not make an embedding wrong."""
    vector = check_embedding((UNIT[0] * (1 + 1e-6)).tolist())
    assert vector.shape == (384,)


def test_the_first_answer_to_a_text_binds_the_later_ones() -> None:
    """Batch-mates may move a number by 1e-4 and no more; other texts are their own matter."""
    first = FirstAnswers()
    first.check("a", UNIT[0])
    first.check("b", UNIT[1])
    first.check("a", UNIT[0] + 5e-5)
    with pytest.raises(WrongAnswer, match=r"moved by 1 \(cosine 0\.00000\)"):
        first.check("a", UNIT[1])


def test_rows_in_the_wrong_order_are_found_by_their_meaning() -> None:
    """Two texts alike and one unlike give away a swapped row."""
    near = (UNIT[0] + 0.5 * UNIT[1]) / np.linalg.norm(UNIT[0] + 0.5 * UNIT[1])
    check_meaning([UNIT[0], near, UNIT[2]], (0, 1), (0, 2))
    with pytest.raises(WrongAnswer, match="rows are mixed up"):
        check_meaning([UNIT[0], UNIT[2], near], (0, 1), (0, 2))


def test_a_bad_row_must_be_refused_with_a_reason_and_a_code() -> None:
    """An embedding in place of an error object is wrong."""
    check_refused({"error": "'text' must be a string.", "code": "wrong_datatype", "where": "[1].text"})
    wrong: list[Any] = [{"embedding": []}, {"error": "", "code": "x"}, None]
    for answer in wrong:
        with pytest.raises(WrongAnswer, match="not refused"):
            check_refused(answer)


def forecast(item: samples.Item, **changed: Any) -> dict[str, Any]:
    """A right answer with something changed."""
    daily, safety = [30.25] * item.lead_time_days, safety_stock(item)
    order = max(0, math.ceil(sum(daily) + safety - item.stock_on_hand))
    reasoning = f"Because: order {order or 'nothing'}."
    right = {"daily_demand": daily, "expected_demand": sum(daily), "safety_stock": round(safety, 2), "reorder_quantity": order}
    return {**right, "reasoning": reasoning, **changed}


@pytest.mark.parametrize("item", samples.ITEMS)
def test_a_forecast_that_adds_up_is_right(item: samples.Item) -> None:
    """For much stock and none, whole histories and dead ones."""
    check_forecast(forecast(item), item)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"daily_demand": [30.25] * 2}, "over 3 days"),
        ({"daily_demand": [30.25, 60.5, -0.01]}, "over 3 days"),
        ({"expected_demand": 91.0}, "is not the sum of daily_demand, 90.75"),
        ({"safety_stock": 1.0}, "safety_stock 1.0 is not"),
        ({"reorder_quantity": 7}, "reorder_quantity 7 is not what is missing"),
        ({"reasoning": "Because."}, "the reasoning does not name the order"),
    ],
)
def test_a_forecast_that_does_not_add_up_is_wrong(changed: dict[str, Any], reason: str) -> None:
    """Each part is recomputed from the request and the other parts."""
    with pytest.raises(WrongAnswer, match=re.escape(reason)):
        check_forecast(forecast(samples.ITEMS[0], **changed), samples.ITEMS[0])


@pytest.mark.parametrize(
    ("score", "is_profane", "is_right"), [(0.999, True, True), (0.998, True, True), (0.9, True, False), (0.999, False, False)]
)
def test_a_score_is_the_known_one(score: float, is_profane: bool, is_right: bool) -> None:
    """And the verdict is what follows."""
    with contextlib.nullcontext() if is_right else pytest.raises(WrongAnswer):
        check_score({"score": score, "is_profane": is_profane}, 0.999)


def test_the_nearest_passage_comes_first() -> None:
    """And is the known one."""
    near, far = {"passage": "Salaries are paid", "cosine": 0.5}, {"passage": "Dogs stay outside", "cosine": 0.1}
    check_found({"results": [near, far]}, "Salaries")
    for results in ([far, near], [far], [{**near, "passage": "Bicycles"}]):
        with pytest.raises(WrongAnswer):
            check_found({"results": results}, "Salaries")


def test_a_file_is_what_it_is() -> None:
    """By its label."""
    check_filetype({"label": "wav"}, "wav")
    with pytest.raises(WrongAnswer, match="txt, not wav"):
        check_filetype({"label": "txt"}, "wav")


def test_a_page_is_read_as_it_was_written() -> None:
    """Every word, in order, surely."""
    first, second = ({"text": text, "box": [0, top, 9, top + 9], "confidence": 0.99} for text, top in (("a", 0), ("b", 20)))
    check_read({"lines": [first, second]}, ["a", "b"])
    for lines in ([first], [second, first], [first, {**second, "confidence": 0.5}], [first, {**second, "text": "B"}]):
        with pytest.raises(WrongAnswer):
            check_read({"lines": lines}, ["a", "b"])


def test_the_likeliest_class_comes_first() -> None:
    """Of five, and is the known one."""
    labels = [{"label": name, "probability": share} for name, share in zip("abcde", (0.5, 0.2, 0.1, 0.05, 0.01), strict=True)]
    check_classes({"labels": labels}, "a")
    for wrong in (labels[::-1], labels[:4], [{**labels[0], "probability": 0.9}, *labels[1:]]):
        with pytest.raises(WrongAnswer):
            check_classes({"labels": wrong}, "a")
