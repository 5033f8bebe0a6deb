"""What a refused row had at a place, and what may be there, for the message about it.

Messages go to the caller that sent the row, and to logs. So a value is shown cut short, a list or
an object by its kind alone, and nothing of a field that holds a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runtime.protocol.json_text import json_kind
from runtime.system.messages import did_you_mean, list_names, quote

Location = Sequence[int | str]
"""Keys and positions, outermost first."""

_SECRET: Final = re.compile(
    r"pass(word|wd|phrase|code)|secret|token|credential|api_?key|private|auth|cookie|session|pin$",
    re.IGNORECASE,
)
"""Names of fields whose values are not repeated."""

LONGEST_BITS: Final = 128
"""Of a number that is repeated; one of a form may have any length."""

MAX_KEYS: Final = 12
"""Known keys that a message lists."""


def place_in(where: str, location: Location) -> str:
    """The path of a place within a row, ``boxes[1].label``.

    Args:
        where: the path of the row; empty for a single one.
    """
    path = where
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part[:64]}" if path else part[:64]
    return path


def describe_given(row: Any, location: Location) -> str:
    """What a row has at a place, as the end of a sentence: ``: '5' is given, a string``; empty
    where that is not found, or is not to be told.
    """
    value = row
    for step in location:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ""  # pydantic also names the option of a union
    if any(isinstance(step, str) and _SECRET.search(step) for step in location):
        return ""
    if isinstance(value, int) and value.bit_length() > LONGEST_BITS:
        return ""  # Python refuses to write one of thousands of digits
    if isinstance(value, str):
        return f": {quote(value)} is given, a string"
    if value is None or isinstance(value, bool | int | float):
        return f": {quote(value)} is given"
    return f": {json_kind(value)} is given" if isinstance(value, list | dict) else ""


def describe_keys(schema: Mapping[str, Any], location: Location) -> str:
    """The keys that an object may have, as the end of a sentence about one that it may not have:
    ``, did you mean 'text'?`` or ``; there are 'text', 'score'.``

    Args:
        schema: JSON Schema of a row, with its ``$defs``.
        location: of the unknown key.
    """
    keys = _keys_at(schema, location[:-1])
    if not keys:
        return "."
    return (
        did_you_mean(str(location[-1])[:64], keys) or f"; there are {list_names(keys, MAX_KEYS)}."
    )


def _keys_at(schema: Mapping[str, Any], location: Location) -> list[str]:
    """The properties of the object at a place; none where the schema does not say it."""
    found: list[Mapping[str, Any]] = [schema]
    for step in location:
        found = [
            inner
            for option in _options(schema, found)
            if (
                inner := option.get("items")
                if isinstance(step, int)
                else option.get("properties", {}).get(step, option.get("additionalProperties"))
            )
            and isinstance(inner, dict)
        ]
    return [key for option in _options(schema, found) for key in option.get("properties", ())]


def _options(
    schema: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Schemas with what they refer to, and each of their alternatives."""
    defs, options, pending = schema.get("$defs", {}), [], list(found)
    for _ in range(64):  # definitions may refer to each other in a circle
        if not pending:
            break
        one = pending.pop()
        if "$ref" in one:
            pending.append(defs.get(str(one["$ref"]).rpartition("/")[2], {}))
        else:
            pending += [*one.get("anyOf", ()), *one.get("allOf", ()), *one.get("oneOf", ())]
            options.append(one)
    return options
