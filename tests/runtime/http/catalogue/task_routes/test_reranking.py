"""The order of documents by their scores, and what a request for it may say."""

from __future__ import annotations

from itertools import permutations
from math import inf, nan

import pytest

from runtime.http.catalogue.task_routes.reranking import rank, read_rerank


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ([], []),
        ([1.0, 3.0, 2.0], [1, 2, 0]),
        ([2.0, 2.0, 3.0, 2.0], [2, 0, 1, 3]),
        ([1.0, nan, 3.0], [2, 0, 1]),
        ([3.0, nan, 2.0, 1.0, nan, 3.0], [0, 5, 2, 3, 1, 4]),
        ([nan, -inf, 0.0, inf], [3, 2, 1, 0]),
        ([nan, nan], [0, 1]),
        ([-0.0, 0.0], [0, 1]),
    ],
)
def test_the_best_score_is_first_and_none_last(scores: list[float], order: list[int]):
    """Of equal ones the earlier."""
    assert rank(scores) == order


def test_the_order_does_not_depend_on_where_documents_stand():
    """NaN among them, wherever it stands."""
    for scores in permutations([nan, 1.0, 2.0, inf, -inf]):
        assert [scores[index] for index in rank(scores)][:4] == [inf, 2.0, 1.0, -inf]


def test_only_so_many_are_answered_as_are_asked_for():
    """With what they scored; more than there are is all."""
    call = read_rerank({"query": "q", "documents": ["a", "b", "c"], "top_n": 2})
    answers = [{"score": nan}, {"score": 1.0}, {"score": 3.0}]
    results = call.answer("f", "id", answers)["results"]
    assert [(one["index"], one["relevance_score"]) for one in results] == [(2, 3.0), (1, 1.0)]
    call = read_rerank({"query": "q", "documents": ["a"], "top_n": 9})
    assert len(call.answer("f", "id", answers[:1])["results"]) == 1
