from __future__ import annotations

import time

import pytest

from runtime.system.messages import (
    closest_match,
    did_you_mean_path,
    expected_message,
    quote,
    unknown_key_message,
)
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("prot", "port"),
        ("max-batch-size", "max_batch_size"),
        ("PORT", "port"),
        ("roots", "root"),
        ("elephant", None),
    ],
)
def test_a_misspelt_word_finds_the_known_one(word: str, meant: str | None) -> None:
    """Case, hyphens and swapped letters do not hide it."""
    assert closest_match(word, ["root", "port", "max_batch_size"]) == meant


MANY = [f"function-{n:04}" for n in range(3000)]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("function-1234x", "function-1234"),
        ("fnction-1234", "function-1234"),
        ("functoin-1234", "function-1234"),
        ("f", None),
    ],
)
def test_among_thousands_of_words_the_nearest_is_found_at_once(
    word: str, meant: str | None
) -> None:
    """Not by comparing all of them, which took 150 ms, nor all of an endless one."""
    began = time.process_time()
    assert closest_match(word, MANY) == meant
    assert closest_match("x" * 60_000, MANY) is None
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("below", ["", "/infer", "/versions/1/infer", "/a" * 30_000])
def test_a_path_is_compared_without_what_is_below_it(below: str) -> None:
    """However long that is."""
    expect_values(
        did_you_mean_path(
            f"/v2/models/functoin-1234{below}", [f"/v2/models/{name}" for name in MANY]
        ),
        "'/v2/models/function-1234'?",
    )


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v2/models/embde", "/v2/models/embed"),
        ("/v2/model/embed", "/v2/models/embed"),
        ("/v2/embed", "/v2/models/embed"),
        ("/v2/models/leaf", ""),
        ("/v2/models/x/infer", ""),
        ("/v2/models/", ""),
        ("/", ""),
    ],
)
def test_a_path_that_shares_its_beginning_alone_is_not_the_one_that_was_meant(path, meant) -> None:
    """All functions share `/v2/models`."""
    known = ["/v2/models/c", "/v2/models/embed", "/v2/models/search"]
    assert did_you_mean_path(path, known) == (f", did you mean {meant!r}?" if meant else "")


def test_an_unknown_word_far_from_all_lists_them() -> None:
    """So that the reader need not look them up."""
    expect_values(unknown_key_message("elephant", ["root", "port"]), "key", "root, port")


def test_a_part_of_several_words_names_them_all() -> None:
    """The nearest one by its letters may mean something else."""
    known = ["item_timeout_s", "request_timeout_s", "max_rows"]
    message = unknown_key_message("timeout", known)
    expect_values(message, "key", "item_timeout_s or request_timeout_s?")
    assert "max_rows" not in message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("a\nb", "'a\\nb'"),
        ("x" * 99, "'" + "x" * 38 + "…"),
    ],
)
def test_a_value_is_shown_on_one_short_line(value: object, text: str) -> None:
    """As YAML would write it."""
    assert quote(value) == text


@pytest.mark.parametrize(
    ("value", "wanted", "values"),
    [
        ("thirty-two", "an integer", ["'thirty-two'", "a string"]),
        (1.0, "a string", ["1.0", "a number", "quotes"]),
        (None, "a list", ["nothing"]),
        ({"a": 1}, "a list", ["a mapping"]),
        ("image/png", "a list", ["'image/png'", "a string", "Write ['image/png']"]),
    ],
)
def test_a_wrong_kind_is_a_sentence(value: object, wanted: str, values: list[str]) -> None:
    """What is there, what should be."""
    expect_values(expected_message(value, wanted), *values, wanted)
