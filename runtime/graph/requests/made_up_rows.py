"""A request made up from the JSON Schema of a row: what is shown where an author declares no
example. What constraints ask for beyond bounds (a pattern, a validator) is not met: the row is
checked before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runtime.types.json_schemas import DEFINITIONS, JsonSchema

MAX_DEPTH: Final = 8
"""Of references and alternatives within each other: a type may contain itself."""

MOST_ELEMENTS: Final = 4096
"""Of the lists within each other that must have some."""

_TEXTS: Final[Mapping[str, str]] = {
    "byte": "AAAA",
    "binary": "AAAA",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00",
    "duration": "PT1S",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "email": "a@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
"""By ``format``."""


def make_row(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the fields that it must have, as plain JSON.

    Args:
        schema: of a row, with its ``$defs``.
    """
    row: dict[str, Any] = _make({**schema, "type": "object"}, schema.get("$defs", {}), MAX_DEPTH)
    return row


def _make(schema: Mapping[str, Any], definitions: Mapping[str, JsonSchema], depth: int) -> Any:
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if not depth:
        return None
    if reference := schema.get("$ref"):
        target = definitions.get(reference.removeprefix(DEFINITIONS), {})
        return _make(target, definitions, depth - 1)
    for key in ("anyOf", "oneOf"):
        if options := schema.get(key):
            real = [option for option in options if option.get("type") != "null"]
            return _make((real or options)[0], definitions, depth - 1)
    kind = schema.get("type")
    if kind == "object":
        known = schema.get("properties", {})
        return {
            name: _make(known.get(name, {}), definitions, depth - 1)
            for name in schema.get("required", ())
        }
    if kind == "array":
        return _make_list(schema, definitions, depth)
    if kind == "string":
        return _make_text(schema)
    if kind in ("integer", "number"):
        return _make_number(schema, is_whole=kind == "integer")
    return {"boolean": True, "null": None}.get(str(kind), 1)


def _make_list(
    schema: Mapping[str, Any], definitions: Mapping[str, JsonSchema], depth: int
) -> list[Any]:
    first = [_make(one, definitions, depth - 1) for one in schema.get("prefixItems", ())]
    if first:
        return first
    element = _make(schema.get("items", {}), definitions, depth - 1)
    most = min(schema.get("maxItems", MOST_ELEMENTS), max(1, MOST_ELEMENTS // _count(element)))
    return [element] * min(max(schema.get("minItems", 1), 1), most)


def _count(value: Any) -> int:
    """Elements of lists within each other, all of which are alike."""
    return len(value) * _count(value[0]) if isinstance(value, list) and value else 1


def _make_text(schema: Mapping[str, Any]) -> str:
    if known := _TEXTS.get(schema.get("format", "")):
        return known
    least: int = schema.get("minLength", 1)
    most: int = schema.get("maxLength", 1 << 10)
    return ("text" * (min(least, 1 << 10) // 4 + 1))[: max(most, 0)]


def _make_number(schema: Mapping[str, Any], *, is_whole: bool) -> float:
    """1, or the nearest number within the bounds."""
    step = schema.get("multipleOf", 1 if is_whole else 0)
    value = max(1, step) if not step or step >= 1 else 1
    if (least := schema.get("minimum")) is not None:
        value = max(value, least)
    if (least := schema.get("exclusiveMinimum")) is not None and value <= least:
        value = least + (step or 1)
    if (most := schema.get("maximum")) is not None:
        value = min(value, most)
    if (most := schema.get("exclusiveMaximum")) is not None and value >= most:
        value = _between(schema, most) if not is_whole else most - (step or 1)
    return int(value) if is_whole else value


def _between(schema: Mapping[str, Any], most: float) -> float:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    return most - 1 if least is None else (least + most) / 2
