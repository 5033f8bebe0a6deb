from __future__ import annotations

import random
from difflib import SequenceMatcher

import pytest

from runtime.system.messages import (
    MOST_COMPARED,
    KnownNames,
    KnownPaths,
    closest_match,
    did_you_mean_path,
    expected_message,
    known_names,
    path_hint,
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


MANY = KnownNames(f"function-{n:04}" for n in range(3000))


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("function-1234x", "function-1234"),
        ("fnction-1234", "function-1234"),
        ("functoin-1234", "function-1234"),
        ("FUNCTION-1234", "function-1234"),
        ("unction-1234", "function-1234"),
        ("function_1234x", "function-1234"),
        ("f", None),
    ],
)
def test_among_thousands_of_words_the_nearest_is_found_at_once(
    word: str, meant: str | None
) -> None:
    """Not by comparing all of them, which took 150 ms, nor all of an endless one."""
    assert closest_match(word, MANY) == meant
    assert closest_match("x" * 60_000, MANY) is None


def test_few_names_are_looked_at_however_many_there_are() -> None:
    """Of any unknown one: an attacker sends another each time."""
    draw = random.Random(4)
    for _ in range(500):
        word = "".join(draw.choices("function-0123", k=draw.randrange(1, 30)))
        assert len(MANY.candidates(word)) <= MOST_COMPARED


def test_a_slip_of_the_pen_finds_a_name_that_is_one_slip_away() -> None:
    """Among hundreds with the same beginnings and ends, wherever the slip is."""
    draw = random.Random(5)
    names = [
        f"{team}-{n:03}-{what}" for team in ("red", "blue") for n in range(200) for what in "ab"
    ]
    known = KnownNames(names)
    for _ in range(500):
        name = draw.choice(names)
        place = draw.randrange(len(name))
        slip = draw.choice(("x", "", name[place] * 2))
        word = name[:place] + slip + name[place + 1 :]
        meant = name if word in known else closest_match(word, known)
        assert meant is not None
        assert SequenceMatcher(None, word, meant).ratio() > 0.7, (word, meant)


def test_names_that_stay_the_same_are_sorted_once() -> None:
    """A server's own, which a client misses again and again."""
    names = {"a": 1, "b": 2}
    assert known_names(names) is known_names(list(names))
    assert known_names({**names, "c": 3}) is not known_names(names)
    assert (list(known_names(names)), len(known_names(names)), "a" in known_names(names)) == (
        ["a", "b"],
        2,
        True,
    )


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/predictions/function-0007", ["/v2/models/function-0007."]),
        ("/predictions/nothing", ["/v2/models/NAME."]),
        ("/v2/models/functoin-0007/infer", ["'/v2/models/function-0007'?"]),
        ("/elsewhere", []),
    ],
)
def test_a_path_that_leads_nowhere_has_one_hint(path: str, values: list[str]) -> None:
    """What another server's is called here, or else the nearest."""
    hint = path_hint(path, KnownPaths(f"/v2/models/{name}" for name in MANY))
    assert bool(hint) == bool(values)
    expect_values(hint, *values)


@pytest.mark.parametrize("below", ["", "/infer", "/versions/1/infer", "/a" * 30_000])
def test_a_path_is_compared_without_what_is_below_it(below: str) -> None:
    """However long that is."""
    expect_values(
        did_you_mean_path(
            f"/v2/models/functoin-1234{below}",
            KnownPaths(f"/v2/models/{name}" for name in MANY),
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
    known = KnownPaths(["/v2/models/c", "/v2/models/embed", "/v2/models/search"])
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
