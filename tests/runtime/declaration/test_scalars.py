from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtime.declaration.scalars import ScalarError, meaning

WORDS = st.lists(
    st.sampled_from(
        [
            "0",
            "1",
            "12",
            "9",
            ".",
            ":",
            "+",
            "-",
            "_",
            "e",
            "E",
            "x",
            "o",
            "b",
            "no",
            "on",
            "true",
            "~",
            "null",
            ".inf",
            ".nan",
            "=",
            "<<",
            "2024",
            "-01-02",
            "T",
        ]
    ),
    min_size=1,
    max_size=5,
).map("".join)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-12", -12),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("nope", "nope"),
        ("y", "y"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("apps.embed:answer", "apps.embed:answer"),
        ("$HOME/x", "$HOME/x"),
    ],
)
def test_a_plain_word_has_its_yaml_1_2_meaning(word: str, value: object) -> None:
    """What both versions of YAML read alike is read."""
    assert meaning(word) == value
    assert type(meaning(word)) is type(value)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("no", "Write true or false, or put it in quotes."),
        ("On", "Write true or false, or put it in quotes."),
        ("012", "Write it without the leading zero, or put it in quotes."),
        ("0o14", "Write it without the leading zero, or put it in quotes."),
        ("0b11", "Write it as a decimal number, or put it in quotes."),
        ("1_000", "Write it without '_', or put it in quotes."),
        ("1e3", "Write it with digits on both sides of a point and a signed exponent (1.0e+3), or put it in quotes."),
        ("1:30", "Write the number it stands for, or put it in quotes."),
        ("2024-01-02", "Put it in quotes."),
        ("<<", "Put it in quotes."),
    ],
)
def test_a_word_with_two_meanings_is_refused(word: str, advice: str) -> None:
    """Where YAML 1.1 and 1.2 disagree, the message says what to write."""
    with pytest.raises(ScalarError) as caught:
        meaning(word)
    assert str(caught.value) == f"'{word}' means one thing to YAML 1.1, which `serve deploy` reads, and another to YAML 1.2. {advice}"


def test_a_number_too_long_for_64_bits_is_refused() -> None:
    """No number of the file overflows where it is used."""
    with pytest.raises(ScalarError, match="more than 18 digits"):
        meaning("1" * 5000)


@given(WORDS)
def test_what_is_read_means_the_same_to_yaml_1_1(word: str) -> None:
    """PyYAML, with which Ray reads the file, agrees with every word that is not refused."""
    events = _plain_scalar(word)
    if events is None:
        return
    try:
        ours = meaning(word)
    except ScalarError:
        return
    theirs = yaml.safe_load(f"- {word}")[0]
    assert type(ours) is type(theirs)
    assert ours == theirs or (ours != ours and theirs != theirs)


def _plain_scalar(word: str) -> yaml.ScalarEvent | None:
    """The word as PyYAML's only scalar, if it is one."""
    try:
        scalars = [event for event in yaml.parse(f"- {word}") if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)]
    except yaml.YAMLError:
        return None
    is_alone = len(scalars) == 2 and isinstance(scalars[1], yaml.ScalarEvent) and scalars[1].implicit[0] and scalars[1].value == word
    return scalars[1] if is_alone else None
