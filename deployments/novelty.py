"""What is new of each function that an update changes, in a few words: decisions, nothing is deployed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from runtime.declaration.applications import OURS

KINDS: Final = {"code": "code", "models": "models", "weights": "models", "files": "files"}
"""Kinds of ``runtime.contents``, in words."""

Words = Mapping[str, Any]


def news(before: Iterable[Words], after: Iterable[Words]) -> dict[str, str]:
    """Of functions that were deployed and are declared otherwise now, by name: ``new code and models``.

    Args:
        before: applications as they were deployed.
        after: as they are to be.
    """
    former, found = declarations(before), {}
    for name, args in declarations(after).items():
        if name in former and args != former[name]:
            found[name] = f"new {' and '.join(dict.fromkeys(_what(former[name], args)))}"
    return found


def declarations(applications: Iterable[Words]) -> dict[str, Words]:
    """The ``args`` of every function, its own application's or those that an application is told of."""
    found: dict[str, Words] = {}
    for one in applications:
        args = one.get("args") or {}
        if OURS.get(one["import_path"]) == "function":
            found[one["name"]] = args
        found |= {told["name"]: told["args"] for told in args.get("functions", ())}
    return found


def _what(before: Words, after: Words) -> Iterator[str]:
    former, made_of = before.get("made_of", {}), after.get("made_of", {})
    yield from (word for kind, word in KINDS.items() if former.get(kind) != made_of.get(kind))
    if {**before, "made_of": 0} != {**after, "made_of": 0}:
        yield "declaration"
