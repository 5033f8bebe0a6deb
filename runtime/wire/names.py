"""How a name that a caller sent is shown back to him, beside the names he may have meant."""

from __future__ import annotations

from collections.abc import Collection

from runtime.wording import near

MAX_SHOWN = 64
"""Characters of a caller's name that a message repeats, and that a suggestion is sought for (the search is quadratic)."""


def shown(name: str) -> str:
    """The name in quotes, cut short, its control characters escaped: safe in a log and in an answer."""
    return repr(name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…")


def suggestion(name: str, known: Collection[str]) -> str:
    """`` Did you mean 'inputs'?`` for the nearest known name, empty when none is near."""
    meant = near(name[:MAX_SHOWN], known)
    return f" Did you mean {shown(meant)}?" if meant else ""


def listed(known: Collection[str], limit: int = 20) -> str:
    """The known names in quotes and in order, the first ``limit`` of them; ``nothing`` when there are none."""
    names = ", ".join(shown(name) for name in list(known)[:limit])
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return f"{names}{more}" or "nothing"
