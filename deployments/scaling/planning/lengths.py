"""Longer rows out of an example: its texts and lists are repeated, as far as the function takes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from runtime.errors import WakefulError

FACTORS: Final = (2, 4, 8, 16)
"""How often values are repeated. Of a sentence of ten tokens the last makes a page of 160."""

MOST_BYTES: Final = 1 << 20
"""Of a value that is made: what is longer is no longer row, but another kind of input."""


def longer_rows(
    row: Mapping[str, Any], is_taken: Callable[[Mapping[str, Any]], bool]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of which each is longer than the one before, with their factors. It ends where the
    function takes no longer one.

    Args:
        is_taken: whether the function takes a row.
    """
    fields = [
        name
        for name, value in row.items()
        if (longer := repeat(value, FACTORS[0])) is not None and is_taken({**row, name: longer})
    ]
    if not fields:
        return
    for factor in FACTORS:
        made = {name: repeat(row[name], factor) for name in fields}
        longer_row = {**row, **made}
        if None in made.values() or not is_taken(longer_row):
            return
        yield factor, longer_row


def repeat(value: Any, factor: int) -> Any:
    """A text or a list so many times; None: it is neither, it is empty, or it becomes too long."""
    if isinstance(value, str) and value and len(value) * factor <= MOST_BYTES:
        return " ".join([value] * factor)
    if isinstance(value, list) and value and len(value) * factor <= MOST_BYTES:
        return value * factor
    return None


def taken_by(validate: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a validator passes a row."""

    def is_taken(row: Mapping[str, Any]) -> bool:
        try:
            validate(row)
        except WakefulError:
            return False
        return True

    return is_taken
