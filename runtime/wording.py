"""How a value, a kind of value or a misspelt word is put in a message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

SHOWN_CHARACTERS: Final = 40
"""Longest value or key that a message repeats; the line number leads to the rest."""

_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "a boolean"),  # before int, whose subclass it is
    (int, "an integer"),
    (float, "a number"),
    (str, "a string"),
    (dict, "a mapping"),
    (list, "a list"),
    (tuple, "a list"),
)


def kind(value: Any) -> str:
    """The kind of a plain value, with its article: ``an integer``."""
    return next((words for type_, words in _KINDS if isinstance(value, type_)), f"a {type(value).__name__}")


def shown(value: Any) -> str:
    """A value as a message repeats it: YAML's ``true`` and ``null``, quoted text, at most 40 characters."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def unwanted(value: Any, wanted: str) -> str:
    """The sentence for a value of the wrong kind: ``'two' is a string, an integer is wanted.``"""
    if value is None:
        return f"nothing stands here, {wanted} is wanted."
    what = f"this is {kind(value)}" if isinstance(value, dict | list | tuple) else f"{shown(value)} is {kind(value)}"
    quotes = " Put it in quotes." if wanted == "a string" and isinstance(value, bool | int | float) else ""
    return f"{what}, {wanted} is wanted.{quotes}"


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None; of several, one with the same letters (``prot``: ``port``, not ``root``)."""
    plain = {name.casefold().replace("-", "_"): name for name in known}
    given = word.casefold().replace("-", "_")
    close = difflib.get_close_matches(given, plain, n=3, cutoff=0.6)
    close.sort(key=lambda name: sorted(name) != sorted(given))
    return plain[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest known word, or nothing: ``, did you mean 'embed'?``"""
    meant = near(word, known)
    return f", did you mean {meant!r}?" if meant else ""


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """The sentence for an unknown word: the nearest known one, or else all of them."""
    names = list(known)
    meant = near(word, names)
    return f"unknown {what}, did you mean {meant}?" if meant else f"unknown {what}; known here: {', '.join(names)}."
