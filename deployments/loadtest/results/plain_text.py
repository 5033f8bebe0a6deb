"""Texts that a server, a file or a declaration may have made up, as they can be shown anywhere."""

from __future__ import annotations

from typing import Final

LONGEST_TEXT: Final = 300
"""Characters of a name, code, reason or note that are repeated."""


def clip(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text of bounded length on one line; what cannot be seen, turns the direction of what
    follows or tells a terminal something is told by its number.
    """
    seen = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[:longest]
    )
    return f"{seen}…" if len(text) > longest else seen
