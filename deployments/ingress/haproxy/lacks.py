"""What HAProxy lacks of what it was to do: written down by its program where ``status`` and
``/metrics`` find it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from deployments.ray_support.haproxy_names import LACKS

PROMISES: Final = MappingProxyType(
    {
        "errors": "errors of HAProxy's own are a bare 500",
        "age": "calls do not know their age, so one that is sent again begins a new deadline",
        "connect": "a call whose only replica has just died waits before it is sent again",
        "drain": "`down` refuses connections while it drains",
        "lost_machine": "a call that was with a machine when it was lost waits until its deadline",
        "sequences": "the calls of a sequence go to any replica",
        "body": "a call whose body comes late is not sent again",
        "replay": "a call whose replica dies with it is lost",
        "cors": "pages of other origins may not call, and what they send wakes functions",
        "log": "each request costs a log line that nothing reads",
        "paths": "a path with encoded letters goes elsewhere than the plain one, and a header that "
        "is not UTF-8 makes the catalogue answer 500",
        "own_names": "what a client sends under names of ours (`x-wakeful-*`) is believed",
        "keys": "no keys are compared, so where keys are on nothing is answered but "
        "`/v2/health/live`",
        "addresses": "one address may hold all connections that HAProxy takes",
        "hidden_stages": "calls from outside wake parts of functions that sleep, to be refused "
        "there",
    }
)
"""The promises of ``haproxy_config``, each with what is lost without it."""

CLOSED: Final = "closed"
OPEN: Final = (
    "every user that can reach HAProxy's socket commands it, and its statistics and metrics are "
    "open to the network"
)
"""What is lost where HAProxy takes Ray's file only as it is."""


@dataclass(frozen=True, slots=True)
class Lacks:
    """What HAProxy lacks: nothing, or all that its configuration has beside Ray's.

    Attributes:
        reason: why; empty: it lacks nothing.
        is_open: it lacks the edges that protect, too.
    """

    reason: str = ""
    is_open: bool = False

    def off(self) -> dict[str, str]:
        """The promises that are off, by name, each with what is lost."""
        if not self.reason:
            return {}
        return {**PROMISES, **({CLOSED: OPEN} if self.is_open else {})}

    def lines(self) -> Iterator[str]:
        """What the log and ``status`` say: the reason, then each promise."""
        if self.reason:
            yield f"{self.reason}. So it runs as Ray configures it, and these promises are off."
        for name, lost in self.off().items():
            yield f"{name}: {lost}."


def write_lacks(home: Path, lacks: Lacks) -> None:
    """Write it down for this machine.

    Args:
        home: the state folder.
    """
    file = home / LACKS
    with contextlib.suppress(OSError):
        if lacks.reason:
            file.write_text("\n".join(lacks.lines()), encoding="utf-8")
        else:
            file.unlink(missing_ok=True)


def lost_without(promise: str) -> str:
    """What is lost without a promise, by its name; one of another release is not known here."""
    return {**PROMISES, CLOSED: OPEN}.get(promise, "it is not known here")
