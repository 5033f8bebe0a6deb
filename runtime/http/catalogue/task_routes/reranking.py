"""``/v1/rerank``, in the form that Jina and Cohere share: the task ``rerank``."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any, Final

from runtime.http.catalogue.task_routes.forms import (
    Row,
    TaskCall,
    count_tokens,
    read_count,
    read_flag,
    read_keys,
    read_model,
    read_text,
    read_texts,
    require,
)

KEYS: Final = ("model", "query", "documents", "top_n", "return_documents")


def read_rerank(data: Any) -> TaskCall:
    """Return what a request asks for. A document is a text, or an object with ``text``.

    Raises:
        RequestError: what is wrong with it, and where.
    """
    keys = read_keys(data, KEYS)
    query = read_text(require(keys, "query"), "query")
    texts = read_texts(require(keys, "documents"), "documents", _read_document)
    top_n = read_count(keys["top_n"], "top_n") if "top_n" in keys else len(texts)
    has_documents = read_flag(keys.get("return_documents", False), "return_documents")

    def answer(name: str, request_id: str, answers: Sequence[Row]) -> dict[str, Any]:
        scores = [float(row["score"]) for row in answers]
        best = rank(scores)[:top_n]
        return {
            "id": request_id,
            "model": name,
            "results": [
                {
                    "index": index,
                    "relevance_score": scores[index],
                    **({"document": {"text": texts[index]}} if has_documents else {}),
                }
                for index in best
            ],
            "usage": {"total_tokens": count_tokens([query + text for text in texts], answers)},
        }

    return TaskCall(
        read_model(keys),
        [{"query": query, "document": text} for text in texts],
        [f"documents[{index}]" for index in range(len(texts))],
        answer,
    )


def rank(scores: Sequence[float]) -> list[int]:
    """Return the indexes of scores, the highest first; of equal ones the earlier. NaN, of which
    nothing is known, is last: it is neither above nor below a number, and by itself it would leave
    the numbers around it in the order in which they came.
    """
    return sorted(range(len(scores)), key=lambda index: (isnan(scores[index]), -scores[index]))


def _read_document(value: Any, where: str) -> str:
    if isinstance(value, dict) and value.keys() == {"text"}:
        return read_text(value["text"], f"{where}.text")
    return read_text(value, where)
