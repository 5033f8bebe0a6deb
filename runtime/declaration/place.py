"""Where something stands in a declaration, in the one grammar of our messages: ``applications[0].args.graph[1].onnx``."""

from __future__ import annotations

import re
from functools import reduce
from typing import Final

from runtime.wording import shown

Loc = tuple[str | int, ...]
"""A place as steps: keys and list positions."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LAST_STEP: Final = re.compile(r"(^|\.)[A-Za-z0-9_-]+$|\[[^\[\]]*\]$")


def step(place: str, key: str | int) -> str:
    """The place of a key, or of a list position, within a place."""
    if isinstance(key, int) or not _PLAIN.fullmatch(key):
        return f"{place}[{shown(key)}]"
    return f"{place}.{key}" if place else key


def render(loc: Loc) -> str:
    """The steps as one text; empty for the whole file."""
    return reduce(step, loc, "")


def parent(place: str) -> str:
    """The place around a place; empty for the whole file."""
    found = _LAST_STEP.search(place)
    return place[: found.start()] if found else ""
