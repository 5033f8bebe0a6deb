"""A line in the log for each call that was answered with an error, for the terminal of a process
that is watched: ``POST /v2/models/iris 400 wrong_datatype: 'x' ... (request 4f..)``.

At most ten a second: a crowd that is refused would fill the terminal. What has no line is counted,
and the counts are told when the second is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from runtime.system.function_context import CURRENT_FUNCTION
from runtime.system.telemetry.counters import DISCONNECTED, CallRecord

PERIOD_S: Final = 1.0

MOST_LINES: Final = 10
"""Lines of a period."""

MOST_KINDS: Final = 8
"""Statuses and codes that a line of counts tells apart."""

REASON_CHARACTERS: Final = 200
PATH_CHARACTERS: Final = 100

logger = logging.getLogger("wakeful.calls")


class LineBudget:
    """Which calls have a line, and how many of the others there were. Pure.

    Mutable state: ``_began`` (of the period), ``_lines`` (in it), ``_others`` (counts by kind).
    """

    def __init__(self) -> None:
        self._began = -PERIOD_S
        self._lines = 0
        self._others: Counter[str] = Counter()

    def admit(self, kind: str, now: float) -> bool:
        """Whether a call that fails now has a line; else it is counted under its kind."""
        if now >= self._began + PERIOD_S and not self._others:
            self._began, self._lines = now, 0
        if self._lines < MOST_LINES:
            self._lines += 1
            return True
        self._others[kind] += 1
        return False

    def take_counts(self) -> str:
        """Return what is told of those without a line, and begin anew; empty where there is
        none.
        """
        others, self._others, self._began = self._others, Counter(), -PERIOD_S
        if not others:
            return ""
        most = others.most_common(MOST_KINDS)
        kinds = ", ".join(f"{count} x {kind}" for kind, count in most)
        rest = others.total() - sum(count for _, count in most)
        return f"{others.total()} more calls failed: {kinds}{f', {rest} others' if rest else ''}."


class FailedCalls:
    """Writes the lines; called by the counters of a process, on its event loop.

    Args:
        clock: seconds that only grow.

    Mutable state: ``_budget``; ``_timer``, which tells the counts, while there are any.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budget = LineBudget()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, function: str, answered: CallRecord) -> None:
        """Write a line about a call that was answered with an error, or count it; the line is among
        the logs of the function.
        """
        if answered.status in (0, DISCONNECTED):  # its client has left, and misses nothing
            return
        kind = f"{answered.status} {answered.code}".rstrip()
        if self._budget.admit(kind, self._clock()):
            speaker = CURRENT_FUNCTION.set(function)
            logger.warning("%s", describe_failure(answered))
            CURRENT_FUNCTION.reset(speaker)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._tell_counts)

    def close(self) -> None:
        """Tell what has been counted. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell_counts()

    def _tell_counts(self) -> None:
        self._timer = None
        if counts := self._budget.take_counts():
            logger.warning("%s", counts)


def describe_failure(answered: CallRecord) -> str:
    """The line about a call: method, path, status, code, and the beginning of the message."""
    path = _printable(answered.path, PATH_CHARACTERS)
    reason = _printable(answered.reason, REASON_CHARACTERS)
    code = f" {answered.code}" if answered.code else ""
    request_id = _printable(answered.id_bytes.decode("latin-1"), PATH_CHARACTERS)
    of = f" (request {request_id})" if request_id and answered.status >= 500 else ""
    return f"{answered.method} {path} {answered.status}{code}{f': {reason}' if reason else ''}{of}"


def _printable(text: str, most: int) -> str:
    """Without what moves a terminal's cursor, and cut short."""
    shown = "".join(one if one.isprintable() else "?" for one in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"
