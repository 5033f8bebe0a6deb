"""``/v1/moderations``, in OpenAI's form: the task ``text-classification``, whose labels are the
categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any, Final

from runtime.errors import FunctionError
from runtime.http.catalogue.task_routes.forms import (
    Row,
    TaskCall,
    read_inputs,
    read_keys,
    read_model,
)
from runtime.system.messages import quote_names

KEYS: Final = ("model", "input")

FLAGGED_AT: Final = 0.5
"""A text has a category whose score is not below."""


def read_moderations(data: Any) -> TaskCall:
    """Return what a request asks for.

    Raises:
        RequestError: what is wrong with it, and where.
    """
    keys = read_keys(data, KEYS)
    texts, places = read_inputs(keys)

    def answer(name: str, request_id: str, answers: Sequence[Row]) -> dict[str, Any]:
        results = [
            _result(row["scores"], place) for row, place in zip(answers, places, strict=True)
        ]
        return {"id": request_id, "model": name, "results": results}

    return TaskCall(read_model(keys), [{"text": text} for text in texts], places, answer)


def _result(given: dict[str, Any], place: str) -> dict[str, Any]:
    """The scores of a text, and which of them flag it.

    Raises:
        FunctionError: one is NaN. It would flag nothing, as if the text were harmless.
    """
    scores = {label: float(score) for label, score in given.items()}
    if unknown := [label for label, score in scores.items() if isnan(score)]:
        raise FunctionError(
            f"{place}: the score of {quote_names(unknown[0])} is NaN, so whether the text is"
            " flagged is not known; see the function.",
            where=place,
        )
    categories = {label: score >= FLAGGED_AT for label, score in scores.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
    }
