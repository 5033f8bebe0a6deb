"""The processes that a function has crashed, and whether it is quarantined for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from runtime.system.crash.reports import CrashReport

MAX_CRASHES: Final = 20
"""The last ones are kept. No function causes more: fewer are enough for quarantine."""

CRASHES_TO_QUARANTINE: Final = 4
"""After so many within ``CRASH_WINDOW_S`` no process runs the function any more. One row crashes
two processes before it is refused itself (``runtime.system.crash.quarantine``): it takes two such
rows.
"""

CRASH_WINDOW_S: Final = 600.0

SUSPICION_S: Final = 600.0
"""Two unexplained crashes within these, with the same function running in both: it is taken for the
cause.
"""


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """A process that the function crashed.

    Attributes:
        at: seconds since the epoch when the crash was noticed.
        how: for people.
        is_certain: false when the function only ran in more than one process that was killed.
    """

    at: float
    how: str
    is_certain: bool = True


class CrashHistory:
    """The crashes of one function, oldest first.

    Args:
        crashes: from before a restart.

    Attributes:
        records: the last ``MAX_CRASHES``.

    Mutable state: ``records``; ``_suspected_at``, when processes in which the function ran ended
    for no known cause, in seconds since the epoch.
    """

    __slots__ = ("_suspected_at", "records")  # there are thousands

    def __init__(self, crashes: Iterable[CrashRecord] = ()) -> None:
        self.records = [*crashes][-MAX_CRASHES:]
        self._suspected_at: list[float] = []

    def __len__(self) -> int:
        """How many are kept."""
        return len(self.records)

    def __iter__(self) -> Iterator[CrashRecord]:
        """Oldest first."""
        return iter(self.records)

    @property
    def last(self) -> CrashRecord:
        """The latest; there is one."""
        return self.records[-1]

    @property
    def is_quarantined(self) -> bool:
        """Whether no process runs the function until it is declared again with a change. Processes
        that were killed from outside do not count.
        """
        at = [crash.at for crash in self.records if crash.is_certain]
        return any(
            last - first <= CRASH_WINDOW_S
            for first, last in zip(at, at[CRASHES_TO_QUARANTINE - 1 :], strict=False)
        )

    @property
    def summary(self) -> str:
        """All of them in words."""
        return "; ".join(crash.how for crash in self.records)

    def explain_quarantine(self, fix: str) -> str:
        """The message for clients of a quarantined function; empty while the function may run.

        A function that has crashed a process of a cluster is on its way to a deployment of its own.
        Until that answers the host serves it: its clients are many, and the row that did it is run
        alone or not at all.

        Args:
            fix: what ends the quarantine, a sentence.
        """
        return f"it is quarantined: {self.summary}. {fix}" if self.is_quarantined else ""

    def receive(self, crash: CrashReport, name: str, version: str) -> CrashRecord | None:
        """Keeps a crash if the function caused it, and returns what is kept. A suspect is
        remembered, and is the cause the second time.

        Args:
            name: of the function, as the report names it.
            version: that is declared: a crash of another one does not count.
        """
        versions = crash.versions.get(name, ())
        if versions and version not in versions:  # where they are not known it counts
            return None
        how = f"it brought down process {crash.pid} ({crash.words}"
        record = None
        if name in crash.culprits:
            record = CrashRecord(crash.at, f"{how})")
        elif name in crash.suspects:
            recent = [at for at in self._suspected_at if at > crash.at - SUSPICION_S]
            self._suspected_at = [*recent, crash.at]
            if recent:
                how_often = f"and it was at work in {len(recent) + 1} processes that ended so"
                record = CrashRecord(crash.at, f"{how}, {how_often})", is_certain=False)
        if record is not None:
            self.records = [*self.records, record][-MAX_CRASHES:]
        return record

    def clear(self) -> None:
        """Another version is declared: it has caused none."""
        self.records.clear()
        self._suspected_at.clear()
