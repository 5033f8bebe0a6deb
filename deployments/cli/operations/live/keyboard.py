"""What keys do to the live table. Pure: bytes to keys, a choice and a key to the next choice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from deployments.cli.operations.live.rows import SORT_KEYS, RowKey

MOST_SEARCHED: Final = 64
"""Characters of a search: the longest name of a function."""

_NAMED: Final = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[C": "right",
    b"\x1bOC": "right",
    b"\x1b[D": "left",
    b"\x1bOD": "left",
    b"\x1b[5~": "page_up",
    b"\x1b[6~": "page_down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "erase",
    b"\x08": "erase",
    b"\x1b": "escape",
    b"\x0c": "redraw",
}
"""Keys that are no characters, by what terminals send for them."""

_KEY: Final = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[@-~]|[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]{1,3}"
)
"""A control sequence (ECMA-48, section 5.4), or a character."""


def read_keys(typed: bytes) -> list[str]:
    """Return the keys: names of ``_NAMED``, and characters. What is neither is left out."""
    keys = []
    for found in _KEY.findall(typed):
        if (name := _NAMED.get(found)) is not None:
            keys.append(name)
        elif (text := found.decode(errors="ignore")).isprintable() and text:
            keys.append(text)
    return keys


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen to be shown.

    Attributes:
        sort: a column of ``SORT_KEYS``.
        search: as of ``arrange``.
        is_typing: keys are characters of the search.
        selected: the row of which more is shown; None: the first.
        has_ended: the table is left.
    """

    sort: str = "calls/s"
    is_reversed: bool = False
    search: str = ""
    is_typing: bool = False
    selected: RowKey | None = None
    has_ended: bool = False


def press(choice: Choice, key: str, shown: Sequence[RowKey], page: int) -> Choice:
    """Return what is chosen after a key.

    Args:
        shown: the rows in their order.
        page: how many of them fit on the screen.
    """
    if (step := _STEPS.get(key)) is not None and (len(key) > 1 or not choice.is_typing):
        return replace(choice, selected=_moved(choice.selected, shown, step * _size(key, page)))
    if choice.is_typing:
        return _typed(choice, key)
    match key:
        case "q":
            return replace(choice, has_ended=True)
        case "/":
            return replace(choice, is_typing=True)
        case "escape":
            return replace(choice, search="")
        case "r":
            return replace(choice, is_reversed=not choice.is_reversed)
        case "left" | "<" | "right" | ">":
            names = list(SORT_KEYS)
            step = 1 if key in ("right", ">") else -1
            name = names[(names.index(choice.sort) + step) % len(names)]
            return replace(choice, sort=name, is_reversed=False)
    return choice


_STEPS: Final = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "page_up": -1,
    "page_down": 1,
    " ": 1,
    "home": -1,
    "g": -1,
    "end": 1,
    "G": 1,
}
"""Directions of the keys that select a row."""


def _size(key: str, page: int) -> int:
    """How many rows a key goes."""
    if key in ("home", "g", "end", "G"):
        return 1 << 31
    return max(1, page - 1) if key in ("page_up", "page_down", " ") else 1


def _moved(selected: RowKey | None, shown: Sequence[RowKey], by: int) -> RowKey | None:
    if not shown:
        return selected
    at = shown.index(selected) if selected in shown else 0
    return shown[min(len(shown) - 1, max(0, at + by))]


def _typed(choice: Choice, key: str) -> Choice:
    match key:
        case "enter":
            return replace(choice, is_typing=False)
        case "escape":
            return replace(choice, is_typing=False, search="")
        case "erase":
            return replace(choice, search=choice.search[:-1])
        case _ if len(key) == 1:
            return replace(choice, search=(choice.search + key)[:MOST_SEARCHED])
    return choice
