"""Adds a function to a file and leaves the rest of it, to the last comment, as it is: lines of text
are inserted, nothing is written anew. What the file then says is compared with what it should say.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, SequenceNode

from runtime.declaration.yaml_reader import parse
from runtime.errors import DeclarationError, StoreError

KEY: Final = "applications:"

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*(:[A-Za-z][A-Za-z0-9_./@-]*)?")
_WORDS: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})


def with_application(text: str, entry: Mapping[str, Any]) -> str:
    """The text of a file with another application behind those that it has.

    Args:
        text: of a file that can be read; empty: a new one.
        entry: the application: texts, numbers, and mappings and lists of them.

    Raises:
        StoreError: its ``applications`` are written in a way that has no place for lines; the
            message has the lines.
    """
    before = parse(text, "").data or {}
    if "applications" not in before:
        text = f"{text.rstrip()}\n{KEY}\n" if text.strip() else f"{KEY}\n"
    known = before.get("applications") or []
    lines = text.splitlines()
    place = _place(text, lines)
    if place is not None:
        at, indent, is_spaced = place
        added = [" " * indent + line for line in format_entry(entry)]
        changed = "\n".join([*lines[:at], *([""] if is_spaced else []), *added, *lines[at:]]) + "\n"
        with contextlib.suppress(DeclarationError):
            if parse(changed, "").data == {**before, "applications": [*known, entry]}:
                return changed
    raise StoreError(
        "there is no place for lines under `applications`. Add by hand:\n"
        + "\n".join(f"  {line}" for line in format_entry(entry))
    )


def format_entry(entry: Mapping[str, Any]) -> list[str]:
    """The lines of a list item."""
    lines = _format_mapping(entry, "")
    return [("- " if index == 0 else "  ") + line for index, line in enumerate(lines)]


def _format_mapping(values: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in values.items():
        name = _format_value(key)
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_format_mapping(value, f"{indent}  ")]
        elif isinstance(value, list):
            items = [line for one in value for line in format_entry(one)]
            lines += [f"{indent}{name}:", *(f"{indent}  {line}" for line in items)]
        else:
            lines.append(f"{indent}{name}: {_format_value(value)}")
    return lines


def _format_value(value: str | float) -> str:
    """A number or a text as YAML 1.1 and 1.2 read it alike."""
    if isinstance(value, float):  # 1e-06 is a text in YAML 1.1
        return format(Decimal(repr(value)), "f")
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if is_plain else json.dumps(value)


def _place(text: str, lines: Sequence[str]) -> tuple[int, int, bool] | None:
    """Where an application may be inserted: before which line, with which indentation, and whether
    empty lines part the applications. None: nowhere.
    """
    root = YAML(typ="safe", pure=True).compose(text)
    if not isinstance(root, MappingNode):
        return None
    found = next((pair for pair in root.value if pair[0].value == "applications"), None)
    if found is None:
        return None
    key, items = found
    if not isinstance(items, SequenceNode):
        at = key.start_mark.line + 1  # the key alone
        return (at, 2, False) if items.value in ("", "null", "~") else None
    if items.flow_style or not items.value:
        return None
    first, indent = items.start_mark.line, items.start_mark.column
    at = min(items.end_mark.line, len(lines)) if items.end_mark.column == 0 else len(lines)
    # comments and empty lines behind the last application belong to what follows
    while at > first and _is_beside(lines[at - 1], indent):
        at -= 1
    return at, indent, any(not line.strip() for line in lines[first:at])


def _is_beside(line: str, indent: int) -> bool:
    bare = line.lstrip()
    return not bare or (bare.startswith("#") and len(line) - len(bare) <= indent)
