"""A curl line for a function that works when pasted."""

from __future__ import annotations

import json
import shlex

from runtime.sample import sample
from runtime.settings import Settings
from runtime.spec import FunctionSpec

SEQUENCE = " -H 'x-sequence-id: me' -H 'x-sequence-start: 1' -H 'x-sequence-end: 1'"
"""A sequence of one call; nothing is kept of it."""

LONGEST = 2000
"""Characters of a body that still make a line to paste; a longer one is replaced by the URL of the metadata."""


def curl(spec: FunctionSpec, url: str, settings: Settings) -> str:
    """Calls the function with its sample, or asks for its metadata where none can be written in a line."""
    row = sample(spec, settings)
    body = "" if row is None else json.dumps(row, ensure_ascii=False)
    if row is None or len(body) > LONGEST:
        return f"curl {url}"
    sequence = SEQUENCE if spec.sequences is not None else ""
    return f"curl {url} -H 'content-type: application/json'{sequence} -d {shlex.quote(body)}"
