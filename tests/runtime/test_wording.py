from __future__ import annotations

import pytest

from runtime.wording import near, shown, unknown, unwanted


@pytest.mark.parametrize(
    ("word", "meant"),
    [("prot", "port"), ("max-batch-size", "max_batch_size"), ("PORT", "port"), ("roots", "root"), ("elephant", None)],
)
def test_a_misspelt_word_finds_the_known_one(word: str, meant: str | None) -> None:
    """Case, hyphens and swapped letters do not hide it."""
    assert near(word, ["root", "port", "max_batch_size"]) == meant


def test_an_unknown_word_far_from_all_lists_them() -> None:
    """So that the reader need not look them up."""
    assert unknown("key", "elephant", ["root", "port"]) == "unknown key; known here: root, port."


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (1.5, "1.5"), ("a\nb", "'a\\nb'"), ("x" * 99, "'" + "x" * 38 + "…")],
)
def test_a_value_is_shown_on_one_short_line(value: object, text: str) -> None:
    """As YAML would write it."""
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "wanted", "sentence"),
    [
        ("thirty-two", "an integer", "'thirty-two' is a string, an integer is wanted."),
        (1.0, "a string", "1.0 is a number, a string is wanted. Put it in quotes."),
        (None, "a list", "nothing stands here, a list is wanted."),
        ({"a": 1}, "a list", "this is a mapping, a list is wanted."),
    ],
)
def test_a_wrong_kind_is_a_sentence(value: object, wanted: str, sentence: str) -> None:
    """What is there, what should be."""
    assert unwanted(value, wanted) == sentence
