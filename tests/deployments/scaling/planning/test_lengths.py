"""Longer rows out of an example."""

from __future__ import annotations

import pytest

from deployments.scaling.planning.lengths import longer_rows, repeat, taken_by
from runtime.errors import RequestError


@pytest.mark.parametrize(
    ("value", "longer"),
    [
        ("a b", "a b a b"),
        ([1, 2], [1, 2, 1, 2]),
        ("", None),
        ([], None),
        (3, None),
        (None, None),
        ({"a": 1}, None),
        ("x" * (1 << 20), None),
    ],
)
def test_texts_and_lists_are_repeated(value, longer):
    """And nothing else, and not without end."""
    assert repeat(value, 2) == longer


def test_only_what_the_function_takes_is_made_longer():
    """A field that is refused stays as it is; a row that is refused ends it."""

    def validate(row):
        if row["kind"] != "short" or len(row["text"]) > 40:
            raise RequestError("no")

    row = {"text": "a word", "kind": "short", "count": 3}
    found = list(longer_rows(row, taken_by(validate)))
    assert [factor for factor, _ in found] == [2, 4]
    assert found[1][1] == {"text": "a word a word a word a word", "kind": "short", "count": 3}


def test_a_row_without_texts_and_lists_has_no_longer_one():
    """A picture is no longer when it is repeated."""
    assert list(longer_rows({"x": 1.5}, lambda row: True)) == []
