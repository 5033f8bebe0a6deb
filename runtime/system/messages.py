"""How a value, a kind of value or a misspelt word is put in a message.

How a name that a client sent is quoted, next to the names it may have meant.
"""

from __future__ import annotations

import bisect
import difflib
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from runtime.system.peer_names import ANY_PREFIX, key_advice, key_here, path_advice

SHOWN_CHARACTERS: Final = 40
"""Longest value or key that a message repeats; the line number leads to the rest."""

MOST_COMPARED: Final = 16
"""Known words that are all compared with an unknown one letter by letter: each costs some 20 us, of
the time of every call on the event loop. Of more, those that are most alike at either end.
"""

BESIDE: Final = 3
"""Of these, how many are looked at on either side of an unknown word's place."""

MOST_LONGER: Final = 4
"""Letters that they may have more than it, or less."""

REMEMBERED: Final = 8
"""Sets of names that stay sorted: of a server's functions, those of each task, recorded ones."""

LONGEST_COMPARED: Final = 128
"""Characters of an unknown word that are looked at: to compare takes time with the product of two
lengths.
"""

_API_KEY: Final = re.compile(r"wk_[A-Za-z0-9_-]{43}")
_PART_OF_KEY: Final = re.compile(r"wk_[A-Za-z0-9_-]{8,}")


def is_key(text: str) -> bool:
    """Whether a text is an API key as ``runtime.declaration.access`` makes them."""
    return _API_KEY.fullmatch(text) is not None


def hide_keys(text: str) -> str:
    """The text with ``wk_…`` for each API key in it, cut ones among them: no message has one."""
    return _PART_OF_KEY.sub("wk_…", text) if "wk_" in text else text


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
    text = hide_keys(str(value).lower() if isinstance(value, bool) else repr(value))
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


def _folded(word: str) -> str:
    """A word as it is compared: case and hyphens do not count."""
    return word.casefold().replace("-", "_")


class KnownNames(Collection[str]):
    """Many names, in the order of their beginnings and in that of their ends: those that have most
    in common with an unknown one at either end stand beside its place, and a slip of the pen leaves
    one end as it was. So a search takes a few steps of two binary searches, however many names
    there are and whatever the unknown one is.

    Args:
        names: as they are known.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(names)
        self._by_folded = {_folded(name): name for name in self._names}
        self._forward = sorted(self._by_folded)
        self._backward = sorted(name[::-1] for name in self._by_folded)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def candidates(self, given: str) -> dict[str, str]:
        """The names that an unknown one may stand for, by their folded forms; all of a few.

        Args:
            given: the unknown one, folded.
        """
        if len(self._forward) <= MOST_COMPARED:
            return self._by_folded
        beside = {
            *_beside(self._forward, given),
            *(name[::-1] for name in _beside(self._backward, given[::-1])),
        }
        return {
            name: self._by_folded[name]
            for name in sorted(beside)
            if abs(len(name) - len(given)) <= MOST_LONGER
        }


def _beside(ordered: Sequence[str], given: str) -> Sequence[str]:
    place = bisect.bisect_left(ordered, given)
    return ordered[max(0, place - BESIDE) : place + BESIDE]


class KnownPaths(KnownNames):
    """The prefixes of functions."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        super().__init__(prefixes)
        self.deepest = max((prefix.count("/") for prefix in self), default=0)
        self._by_end: dict[str, str | None] = {}
        for prefix in self:
            end = _end_of(prefix)
            self._by_end[end] = None if end in self._by_end else prefix

    def meant_by(self, path: str) -> str:
        """The only prefix that ends with a word of a path of another server, or the only one there
        is; else one for any function.
        """
        words = {word for part in path.split("/") for word in part.split(":")} - {""}
        named = [prefix for word in words if (prefix := self._by_end.get(word)) is not None]
        if len(named) == 1:
            return named[0]
        return next(iter(self)) if len(self) == 1 else ANY_PREFIX


@functools.lru_cache(maxsize=REMEMBERED)
def _names_of(names: tuple[str, ...]) -> KnownNames:
    return KnownNames(names)


def known_names(names: Iterable[str]) -> KnownNames:
    """Names of the server's own, never a client's, which are sorted once as long as they stay the
    same.
    """
    return _names_of(tuple(names))


def closest_match(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None; of several, one with the same letters
    (``prot``: ``port``, not ``root``).

    Args:
        known: where there are thousands, ``known_names``, which are sorted already.
    """
    given = _folded(word[:LONGEST_COMPARED])
    names = known if isinstance(known, KnownNames) else KnownNames(known)
    candidates = names.candidates(given)
    close = difflib.get_close_matches(given, candidates, n=3, cutoff=0.6)
    close.sort(key=lambda name: sorted(name) != sorted(given))
    return candidates[close[0]] if close else None


def did_you_mean_path(path: str, known: KnownPaths) -> str:
    """As ``did_you_mean``, for a path that should be under one of the known ones: what it has below
    is of their routes. The ends have to be alike, too: what is before them is that of many others.
    """
    given = "/".join(path[: LONGEST_COMPARED + 1].split("/")[: known.deepest + 1])
    meant = closest_match(given, known)
    if meant is None or closest_match(_end_of(given), [_end_of(meant)]) is None:
        return ""
    return f", did you mean {meant!r}?"


def path_hint(path: str, known: KnownPaths) -> str:
    """The end of a sentence about a path that leads nowhere: what another server's path is called
    here, or else the nearest known one; or nothing.
    """
    advice = path_advice(path, known.meant_by)
    return f". {advice}" if advice else did_you_mean_path(path, known)


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


LONGEST_TEXT: Final = 300
"""Characters of a name, code, reason or note of a stranger's that are repeated."""


def clip(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text that a server, a file or a declaration may have made up, as it can be shown anywhere:
    of bounded length, on one line; what cannot be seen, turns the direction of what follows or
    tells a terminal something is told by its number.
    """
    seen = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[:longest]
    )
    return f"{seen}…" if len(text) > longest else seen


MAX_SHOWN = 64
"""Characters of a caller's name that a message repeats, and that a suggestion is sought for (the
search is quadratic).
"""


def quote_names(name: str) -> str:
    """The name in quotes, cut short, its control characters escaped: safe in a log and in an
    answer.
    """
    name = hide_keys(name)
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
