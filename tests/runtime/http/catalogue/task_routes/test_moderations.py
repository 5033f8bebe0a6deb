"""Which scores flag a text."""

from __future__ import annotations

from math import inf, nan

import pytest

from runtime.errors import FunctionError
from runtime.http.catalogue.task_routes.moderations import read_moderations
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("scores", "flagged"),
    [
        ({}, []),
        ({"rude": 0.5}, ["rude"]),
        ({"rude": 0.4999999}, []),
        ({"rude": 0.1, "loud": 0.6, "sad": 1}, ["loud", "sad"]),
        ({"rude": inf, "loud": -inf}, ["rude"]),
    ],
)
def test_a_score_of_half_and_more_flags(scores: dict[str, float], flagged: list[str]):
    """Each category by itself, and the text by any."""
    (result,) = read_moderations({"input": "a"}).answer("f", "id", [{"scores": scores}])["results"]
    assert [label for label, is_flagged in result["categories"].items() if is_flagged] == flagged
    assert result["flagged"] is bool(flagged)
    assert result["category_scores"] == scores


def test_a_score_that_is_none_is_not_harmless():
    """The place of the text is said, and the label."""
    call = read_moderations({"input": ["a", "b"]})
    with pytest.raises(FunctionError) as refused:
        call.answer("f", "id", [{"scores": {"rude": 0.0}}, {"scores": {"loud": 0.9, "rude": nan}}])
    assert (refused.value.where, refused.value.status) == ("input[1]", 500)
    expect_values(refused.value, "'rude'")
