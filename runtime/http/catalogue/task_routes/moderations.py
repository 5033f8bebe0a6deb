"""``/v1/moderations``, in OpenAI's form: the task ``text-classification``, whose labels are the
categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runtime.http.catalogue.task_routes.forms import (
    Row,
    TaskCall,
    read_inputs,
    read_keys,
    read_model,
)

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
    return TaskCall(read_model(keys), [{"text": text} for text in texts], places, _answer)


def _answer(name: str, request_id: str, answers: Sequence[Row]) -> dict[str, Any]:
    return {"id": request_id, "model": name, "results": [_result(row["scores"]) for row in answers]}


def _result(given: dict[str, Any]) -> dict[str, Any]:
    scores = {label: float(score) for label, score in given.items()}
    categories = {label: score >= FLAGGED_AT for label, score in scores.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
    }
