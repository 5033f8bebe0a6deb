"""What an unquoted YAML word means, and which words are refused because YAML 1.1 and 1.2 disagree on them.

``serve deploy`` reads the same file with YAML 1.1, where ``no`` is false, ``012`` is ten and ``1:30`` is ninety; YAML 1.2, which we
follow, has a string, twelve and a string. One file must not say two things, so such a word is refused wherever it stands
without quotes. What is left means the same to both (YAML 1.2.2, section 10.3, *Core Schema*; PyYAML's ``Resolver`` for 1.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from runtime.wording import shown

Scalar = str | int | float | bool | None

_AGREED: Final[tuple[tuple[re.Pattern[str], Callable[[str], Scalar]], ...]] = (
    (re.compile(r"|~|null|Null|NULL"), lambda word: None),
    (re.compile(r"true|True|TRUE"), lambda word: True),
    (re.compile(r"false|False|FALSE"), lambda word: False),
    (re.compile(r"[-+]?(0|[1-9][0-9]{0,17})"), int),
    (re.compile(r"0x[0-9a-fA-F]{1,15}"), lambda word: int(word, 16)),
    (re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda word: float(word.replace(".", ""))),
)

_LONG: Final = re.compile(r"[-+]?[1-9][0-9]{18,}|0x[0-9a-fA-F]{16,}")

_CONTESTED: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"), "Write true or false, or put it in quotes."),
    (re.compile(r"[-+]?0[0-9_]+|0o[0-7]+"), "Write it without the leading zero, or put it in quotes."),
    (re.compile(r"[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+"), "Write it as a decimal number, or put it in quotes."),
    (
        re.compile(r"[-+]?[1-9][0-9_]*|([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?"),
        "Write it without '_', or put it in quotes.",
    ),
    (
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
        "Write it with digits on both sides of a point and a signed exponent (1.0e+3), or put it in quotes.",
    ),
    (
        re.compile(r"[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*"),
        "Write the number it stands for, or put it in quotes.",
    ),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}.*)?"), "Put it in quotes."),
    (re.compile(r"=|<<"), "Put it in quotes."),
)


class ScalarError(ValueError):
    """A word with two meanings, or a number too long; the message says what to write instead."""


def meaning(word: str) -> Scalar:
    """The value of an unquoted word.

    Raises:
        ScalarError: the word has two meanings, or is a number of more than 18 digits.
    """
    for pattern, convert in _AGREED:
        if pattern.fullmatch(word):
            return convert(word)
    if _LONG.fullmatch(word):
        raise ScalarError(f"{shown(word)} has more than 18 digits, the most that a number has here. Put it in quotes if it is text.")
    for pattern, advice in _CONTESTED:
        if pattern.fullmatch(word):
            raise ScalarError(f"{shown(word)} means one thing to YAML 1.1, which `serve deploy` reads, and another to YAML 1.2. {advice}")
    return word
