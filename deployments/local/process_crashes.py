"""What the death of a process of ``wakeful run --workers`` means: when the next one starts in its
place, and which functions are not run any more. As on a cluster, a function that has brought down
four processes in ten minutes is refused, whichever of them they were
(``deployments.placement.crash_history``); the rows that did it are refused before
(``runtime.system.crash.quarantine``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from deployments.placement.crash_history import CrashHistory
from runtime.declaration.function_spec import DeclaredSpec
from runtime.system.crash import reports

RECENT_S: Final = 60.0
"""Ends of processes that count for the wait before the next one."""

AT_ONCE: Final = 3
"""So many in that time are replaced at once: a poisonous row takes two."""

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0

FIX: Final = "Change the function, then start `wakeful run` again."
"""What ends a quarantine."""


def restart_wait_s(recent: int) -> float:
    """Return the seconds before a process is started in the place of one that ended.

    Args:
        recent: processes of that place that ended within ``RECENT_S``, this one included.
    """
    if recent <= AT_ONCE:
        return 0.0
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (recent - AT_ONCE - 1))


class ProcessCrashes:
    """The crashes of a run's processes, by function.

    Args:
        folder: where the processes record what they run.

    Mutable state: ``_of``, by name.
    """

    def __init__(self, folder: Path, functions: Iterable[DeclaredSpec]) -> None:
        self._folder = folder
        self._of = {spec.name: CrashHistory() for spec in functions}

    def read(self) -> None:
        """Read what the processes that have died since have left."""
        if not self._folder.exists():
            return
        for crash in reports.read_crash_reports(self._folder):
            # one run has one version of each function
            of_any_version = replace(crash, versions={})
            for name, crashes in self._of.items():
                crashes.receive(of_any_version, name, version="")
            reports.mark_reported(self._folder, crash.key)

    @property
    def quarantined(self) -> dict[str, str]:
        """Why a function is not run any more, by name."""
        messages = {name: crashes.explain_quarantine(FIX) for name, crashes in self._of.items()}
        return {name: message for name, message in messages.items() if message}


def count_recent(ends: Iterable[float], now: float | None = None) -> int:
    """Return how many of these times (seconds of ``time.monotonic``) are recent."""
    now = time.monotonic() if now is None else now
    return sum(at > now - RECENT_S for at in ends)
