"""What the forms of all task routes have in common."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import RequestError, TooLarge, WakefulError
from runtime.http.catalogue.task_routes.forms import (
    MAX_INPUTS,
    count_tokens,
    raise_first_error,
    read_inputs,
    read_keys,
)


def test_as_many_texts_as_are_promised():
    """And one more is refused."""
    texts, places = read_inputs({"input": ["a"] * MAX_INPUTS})
    assert (len(texts), places[-1]) == (MAX_INPUTS, f"input[{MAX_INPUTS - 1}]")
    with pytest.raises(TooLarge):
        read_inputs({"input": ["a"] * (MAX_INPUTS + 1)})


@pytest.mark.parametrize(
    ("texts", "answers", "tokens"),
    [
        ([], [], 0),
        (["a", "b"], [{"tokens": 3}, {"tokens": 4}], 7),
        (["abcd", "efghi"], [{"tokens": 9}, {}], 1 + 2),
        (["abcd", ""], [{}, {}], 1),
        (["日本"], [{}], 2),
        (["\ud800"], [{}], 1),
    ],
)
def test_tokens_are_counted(texts: list[str], answers: list[dict[str, Any]], tokens: int):
    """By the function where it says those of each text; else by four bytes of UTF-8."""
    assert count_tokens(texts, answers) == tokens


def test_a_key_without_a_value_is_as_if_it_were_not_there():
    """As OpenAI's clients send it; one that is not known is refused with its beginning."""
    assert read_keys({"a": None, "b": False}, ("a", "b")) == {"b": False}
    with pytest.raises(RequestError) as refused:
        read_keys({"x" * 100: None}, ("a",))
    assert refused.value.where == "x" * 64


def test_the_first_error_is_told_with_its_place():
    """And how many more there are; the row's own error stays as it is."""
    error = RequestError("no", where="text")
    places = ["input[0]", "input[1]", "input[2]", "input[3]"]
    raise_first_error(places, [{}, {}])
    for others, more in (([{}], ""), ([error, {}], ""), ([error, WakefulError("x")], "1 more")):
        with pytest.raises(RequestError) as raised:
            raise_first_error(places, [{}, error, *others[1:]])
        assert raised.value.where == "input[1]"
        assert raised.value.message.startswith("input[1]: no")
        assert more in raised.value.message
    assert (error.where, error.message) == ("text", "no")
