"""What `${NAME}` means in a value of `with:`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runtime.declaration.function_spec import StageSpec
from runtime.system.secrets import fill_references, find_references
from tests.problems import expect_values

VALUES = {"KEY": "k-1", "_user2": "ann", "EMPTY": ""}


@pytest.mark.parametrize(
    ("value", "names", "comes_to"),
    [
        ("${KEY}", ["KEY"], "k-1"),
        ("https://${_user2}:${KEY}@db", ["_user2", "KEY"], "https://ann:k-1@db"),
        (
            {"a": ["${KEY}", 1, None], "${KEY}": True},
            ["KEY"],
            {"a": ["k-1", 1, None], "${KEY}": True},
        ),
        ("$KEY $ {KEY} $$ }", [], "$KEY $ {KEY} $$ }"),
        ("$${KEY}", [], "${KEY}"),
        ("$$${KEY}", [], "$${KEY}"),
        (3, [], 3),
    ],
)
def test_a_name_is_replaced_by_its_text(value: Any, names: list[str], comes_to: Any) -> None:
    """In whole or in part of a text, at any depth, never in a key; `$${` is no name."""
    assert [name for _, name in find_references(value)] == names
    assert fill_references(value, VALUES.__getitem__) == comes_to


def test_what_comes_in_is_not_looked_at_again() -> None:
    """A value that looks like a name is a value."""
    assert fill_references("${A}", {"A": "${B}"}.__getitem__) == "${B}"


def test_the_place_of_a_name_is_that_of_its_text() -> None:
    """For the line that a message names."""
    assert list(find_references({"headers": [{"auth": "Bearer ${KEY}"}]}, ("with",))) == [
        (("with", "headers", 0, "auth"), "KEY")
    ]


@pytest.mark.parametrize("text", ["${}", "${KEY", "${1A}", "${A-B}", "${A:-default}", "x ${ KEY }"])
def test_what_names_nothing_is_refused(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValidationError) as caught:
        StageSpec.model_validate(
            {"stage": "s", "python": "m:C", "with": {"a": {"b": text}}},
            by_alias=True,
            by_name=False,
        )
    expect_values(caught.value, "with", "Write ${NAME}")
