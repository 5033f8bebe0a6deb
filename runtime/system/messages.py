"""How a value, a kind of value or a misspelt word is put in a message.

How a name that a client sent is quoted, next to the names it may have meant.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable
from typing import Any, Final

from runtime.system.peer_names import key_advice, key_here

SHOWN_CHARACTERS: Final = 40
"""Longest value or key that a message repeats; the line number leads to the rest."""

MOST_COMPARED: Final = 32
"""Known words that are compared with an unknown one letter by letter: each costs some 50 us, of
the time of every call on the event loop.
"""

LONGEST_COMPARED: Final = 128
"""Characters of an unknown word that are looked at: to compare takes time with the product of two
lengths.
"""

_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "a boolean"),  # before int, whose subclass it is
    (int, "an integer"),
    (float, "a number"),
    (str, "a string"),
    (dict, "a mapping"),
    (list, "a list"),
    (tuple, "a list"),
)


def kind_of(value: Any) -> str:
    """The kind of a plain value, with its article: ``an integer``."""
    return next(
        (words for type_, words in _KINDS if isinstance(value, type_)), f"a {type(value).__name__}"
    )


def quote(value: Any) -> str:
    """A value as a message repeats it: YAML's ``true`` and ``null``, quoted text, at most 40
    characters.
    """
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def expected_message(value: Any, wanted: str) -> str:
    """The sentence for a value of the wrong kind: ``'two' is a string, an integer is wanted.``"""
    if value is None:
        return f"nothing stands here, {wanted} is wanted."
    what = (
        f"this is {kind_of(value)}"
        if isinstance(value, dict | list | tuple)
        else f"{quote(value)} is {kind_of(value)}"
    )
    fix = ""
    if wanted == "a string" and isinstance(value, bool | int | float):
        fix = " Put it in quotes."
    elif wanted == "a list" and isinstance(value, str):
        fix = f" Write [{quote(value)}]."
    return f"{what}, {wanted} is wanted.{fix}"


def closest_match(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None; of several, one with the same letters
    (``prot``: ``port``, not ``root``).

    Of thousands of known words it takes milliseconds, whatever the unknown one is.
    """
    plain = {name.casefold().replace("-", "_"): name for name in known}
    given = word[:LONGEST_COMPARED].casefold().replace("-", "_")
    if len(plain) > MOST_COMPARED:
        alike = [name for name in plain if abs(len(name) - len(given)) <= 2]
        plain = {
            name: plain[name]
            for name in heapq.nlargest(
                MOST_COMPARED, alike, key=lambda name: _same_ends(name, given)
            )
        }
    close = difflib.get_close_matches(given, plain, n=3, cutoff=0.6)
    close.sort(key=lambda name: sorted(name) != sorted(given))
    return plain[close[0]] if close else None


def _same_ends(one: str, other: str) -> int:
    """Characters that two words have in common at their beginnings and at their ends: all but two
    or three after a slip of the pen.
    """
    return _same_start(one, other) + _same_start(one[::-1], other[::-1])


def _same_start(one: str, other: str) -> int:
    both = zip(one, other, strict=False)
    return next(
        (index for index, (mine, theirs) in enumerate(both) if mine != theirs),
        min(len(one), len(other)),
    )


def did_you_mean_path(path: str, known: Iterable[str]) -> str:
    """As ``did_you_mean``, for a path that should be under one of the known ones: what it has below
    is of their routes. The ends have to be alike, too: what is before them is that of many others.
    """
    names = list(known)
    deepest = max((name.count("/") for name in names), default=0)
    given = "/".join(path[: LONGEST_COMPARED + 1].split("/")[: deepest + 1])
    meant = closest_match(given, names)
    if meant is None or closest_match(_end_of(given), [_end_of(meant)]) is None:
        return ""
    return f", did you mean {meant!r}?"


def _end_of(path: str) -> str:
    return path.rpartition("/")[2]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest known word, or nothing: ``, did you mean
    'embed'?``
    """
    meant = closest_match(word, known)
    return f", did you mean {meant!r}?" if meant else ""


ONE_LETTER: Final = 0.9
"""How alike a slip of the pen is to the word that was meant: ``input`` to ``inputs``; what another
tool calls ``stages`` is less alike to ``task``.
"""


def meant_key(word: str, known: Iterable[str]) -> str | None:
    """The known key that an unknown one was probably meant to be, or None: one that differs by a
    letter, what another tool's key is called here, or else the nearest.
    """
    names = list(known)
    slips = difflib.get_close_matches(word[:LONGEST_COMPARED], names, n=1, cutoff=ONE_LETTER)
    if slips:
        return slips[0]
    if key_advice(word):
        return here if (here := key_here(word)) in names else None
    return closest_match(word, names)


def unknown_key_message(word: str, known: Iterable[str]) -> str:
    """The sentence for an unknown key: those of which it is a part, one that differs by a letter,
    what another tool's is called here, the nearest known one, or else all of them.
    """
    names = list(known)
    parts = [name for name in names if f"_{word}_" in f"_{name}_"]
    if len(parts) > 1:
        return f"unknown key, did you mean {' or '.join(parts)}?"
    meant, advice = meant_key(word, names), key_advice(word)
    if advice and (meant is None or meant == key_here(word)):
        return f"unknown key; here it is {advice}."
    return (
        f"unknown key, did you mean {meant}?"
        if meant
        else f"unknown key; known here: {', '.join(names)}."
    )


MAX_SHOWN = 64
"""Characters of a caller's name that a message repeats, and that a suggestion is sought for (the
search is quadratic).
"""


def quote_names(name: str) -> str:
    """The name in quotes, cut short, its control characters escaped: safe in a log and in an
    answer.
    """
    return repr(name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…")


def suggest_name(name: str, known: Collection[str]) -> str:
    """`` Did you mean 'inputs'?`` for the nearest known name, empty when none is near."""
    meant = closest_match(name[:MAX_SHOWN], known)
    return f" Did you mean {quote_names(meant)}?" if meant else ""


def list_names(known: Collection[str], limit: int = 20) -> str:
    """The known names in quotes and in order, the first ``limit`` of them; ``nothing`` when there
    are none.
    """
    names = ", ".join(quote_names(name) for name in list(known)[:limit])
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return f"{names}{more}" or "nothing"
