"""One change of the configuration that Ray writes for HAProxy, and its application."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

EDITED: Final = "# Edited by deployments.ingress.haproxy_config\n"
"""The first line of a configuration that has been edited."""


@dataclass(frozen=True, slots=True)
class ConfigEdit:
    """One change of the configuration.

    Attributes:
        line: the text that it replaces, a pattern of whole lines.
        put: the text that replaces it; ``\\g<0>`` is what was found.
        promise: what is lost where the line is not found.
        most: places that are changed, 0 for all, of which there may be none yet.
    """

    line: str
    put: str
    promise: str
    most: int = 1


def edit_config(text: str, edits: Sequence[ConfigEdit], on_missing: Callable[[str], None]) -> str:
    """Return the configuration with the edits. A configuration that is edited already stays as it
    is.

    Args:
        on_missing: called with a message for each edit whose line is not found.
    """
    if text.startswith(EDITED):
        return text
    before = text
    for edit in edits:
        text, count = re.subn(edit.line, edit.put, text, count=edit.most)
        if not count and edit.most:
            on_missing(f"HAProxy's configuration is not that of Ray 2.60: {edit.promise}.")
    return text if text == before else EDITED + text
