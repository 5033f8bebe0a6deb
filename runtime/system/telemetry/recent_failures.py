"""The last calls of each function that were answered with an error, as a process remembers them for
the console: when, which error, and under which id the log has it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.system.telemetry.counters import DISCONNECTED, CallRecord

MOST_KEPT: Final = 8
"""Of one function in one process: each of its reports has them."""

MOST_SHOWN: Final = 20
"""Of one function in all processes."""

MESSAGE_CHARACTERS: Final = 300
ID_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class RecentFailure:
    """An answer that was an error.

    Attributes:
        at: when it was given, seconds since the epoch.
        id: of the request.
    """

    at: float
    code: str
    status: int
    message: str
    id: str

    def to_list(self) -> list[Any]:
        """Plain data, for another process."""
        return [self.at, self.code, self.status, self.message, self.id]

    @classmethod
    def of(cls, answered: CallRecord) -> RecentFailure:
        """Of a call that is over now."""
        message, request_id = answered.reason, answered.id_bytes.decode("latin-1")
        if len(message) > MESSAGE_CHARACTERS:
            message = f"{message[:MESSAGE_CHARACTERS]}…"
        shown_id = request_id[:ID_CHARACTERS] if request_id.isprintable() else ""
        at = round(time.time(), 3)
        return cls(at, answered.code, answered.status, message, shown_id)


class RecentFailures:
    """The last ones of each function. Used on the event loop.

    Mutable state: ``_by_function``, oldest first.
    """

    def __init__(self) -> None:
        self._by_function: dict[str, deque[RecentFailure]] = {}

    def record(self, function: str, answered: CallRecord) -> None:
        """A call was answered with an error; nothing is kept of one whose client has left."""
        if not function or answered.status in (0, DISCONNECTED):
            return
        kept = self._by_function.get(function)
        if kept is None:
            kept = self._by_function[function] = deque(maxlen=MOST_KEPT)
        kept.append(RecentFailure.of(answered))

    def of(self, function: str) -> tuple[RecentFailure, ...]:
        """Return the last ones of a function, oldest first."""
        return tuple(self._by_function.get(function, ()))

    def keep(self, names: Collection[str]) -> None:
        """Forget the functions that are not among these."""
        for name in self._by_function.keys() - set(names):
            del self._by_function[name]


def merge_failures(parts: Iterable[Sequence[RecentFailure]]) -> list[RecentFailure]:
    """Return the last ones of a function in all processes that serve it, oldest first."""
    found = sorted((one for part in parts for one in part), key=lambda one: one.at)
    return found[-MOST_SHOWN:]
