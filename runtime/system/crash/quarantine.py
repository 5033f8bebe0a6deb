"""Rows that run alone, or not at all, because a process died while it ran them.

A row id is the fingerprint of the function's version and the call's body, and the row's index. When
a batch crashes, the row that did it is not known, so each of its rows runs alone for a while; a row
that crashes alone as well is refused. A row that ran in a process that was killed from outside runs
alone and is not refused for it, with one exception: if three processes died around one call since
it arrived, its rows are refused. No accident is so constant, but a stage that ends its process
(``os._exit``) is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from runtime.errors import RowQuarantined
from runtime.system.crash.reports import KEPT_S, CrashReport, ProcessWatch, crash_files

LOOK_S: Final = 1.0
"""Age that the known crashes may have for a call that arrives for the first time."""

REPLAYED_S: Final = 0.002
"""A call that is older than this when it arrives may have been sent to a process that died of it a
moment ago: whether one has died is found out first. Calls get old in a queue too, all those of a
busy process, so those that are handled in one turn of the event loop share the answer.
"""

MAX_CRASHES_PER_CALL: Final = 3
"""A row is refused when so many processes died while they ran it and its client waited, whatever
the cause.
"""

INDEX_BITS: Final = 16
"""Bits of a row id that are the row's index; the rest is its call's fingerprint."""


class RowDecision(NamedTuple):
    """The rows of a call that run alone, and those that are refused, by index."""

    alone: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()


FREE: Final = RowDecision()
"""The decision for nearly every call."""


class RowQuarantine:
    """The crashes of the last ten minutes on this machine, and what they mean for rows.

    Belongs to one event loop.

    Args:
        folder: of the crash recorders' files.

    Mutable state: ``_crashes`` by key as they were read last, ``_decisions`` made of them by call,
    ``_read_at``; ``_watch`` of what happens since; ``_is_up_to_date`` in this turn of the loop.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._crashes: dict[str, CrashReport] = {}
        self._decisions: dict[int, RowDecision] = {}
        self._read_at = time.monotonic()
        self._watch = ProcessWatch(folder)
        self._is_up_to_date = False
        self.refresh(time.time())

    def __repr__(self) -> str:
        return (
            f"<RowQuarantine: {len(self._decisions)} calls, of {len(self._crashes)} crashes in"
            f" {self._folder}>"
        )

    def decide(self, call_id: int, age_s: float = 0.0) -> RowDecision:
        """Decide on the rows of the call with this fingerprint; on the event loop.

        Args:
            age_s: since the call reached this machine. One that is replayed after a death is older
                than one that comes by itself.
        """
        now = time.monotonic()
        if now - self._read_at > LOOK_S or (age_s > REPLAYED_S and self._may_have_crashes()):
            self._read_at = now
            self.refresh(time.time())
        decision = self._decisions.get(call_id)
        if decision is None:
            return FREE
        more = rows_exceeding_crash_limit(self._crashes.values(), call_id, time.time() - age_s)
        return RowDecision(decision.alone - more, decision.refused | more) if more else decision

    def refresh(self, now: float) -> None:
        """Read the crash files; ``now`` in seconds since the epoch."""
        with contextlib.suppress(OSError):  # no more files may be opened: what is known still holds
            self._watch.restart()
            crashes = crash_files(self._folder, self._crashes, now)
            if crashes.keys() != self._crashes.keys():
                self._decisions = decide_rows(crashes.values())
            self._crashes = crashes

    def _may_have_crashes(self) -> bool:
        """Whether a process may have died that is not known here. Found out once in a turn of the
        loop: a replayed call that is handled in the turn came in before it, after the death.
        """
        if self._is_up_to_date:
            return False
        self._is_up_to_date = True
        # before the look: what comes in during it is handled after this
        asyncio.get_running_loop().call_soon(self._end_turn)
        return self._watch.has_changed()

    def _end_turn(self) -> None:
        self._is_up_to_date = False


def decide_rows(crashes: Iterable[CrashReport]) -> dict[int, RowDecision]:
    """Decide on every call that has rows in a crash, by its fingerprint.

    A row is refused when it was the cause of two crashes and the only one in one of them, or when
    it was a cause of three. Two in company are not enough: a row that many clients send may run
    next to two different causes.
    """
    times_cause: Counter[int] = Counter()
    only_cause: set[int] = set()
    alone: set[int] = set()
    for crash in crashes:
        times_cause.update(crash.cause_row_ids)
        alone.update(crash.cause_row_ids, crash.suspect_row_ids)
        if len(crash.culprits) == len(crash.cause_row_ids) == 1:
            only_cause.update(crash.cause_row_ids)
    refused = {
        row_id
        for row_id, times in times_cause.items()
        if times > (1 if row_id in only_cause else 2)
    }
    return {
        call_id: RowDecision(_indexes_of(call_id, alone - refused), _indexes_of(call_id, refused))
        for call_id in {row_id >> INDEX_BITS for row_id in alone}
    }


def rows_exceeding_crash_limit(
    crashes: Iterable[CrashReport], call_id: int, since: float
) -> frozenset[int]:
    """Return the indexes of this call's rows that ran in at least ``MAX_CRASHES_PER_CALL``
    processes which died after the call arrived.

    Args:
        since: when the call arrived, seconds since the epoch.
    """
    times = Counter(
        row_id
        for crash in crashes
        if crash.at >= since
        for row_id in {*crash.cause_row_ids, *crash.suspect_row_ids}
    )
    return _indexes_of(
        call_id, (row_id for row_id in times if times[row_id] >= MAX_CRASHES_PER_CALL)
    )


def quarantine_error(function: str) -> RowQuarantined:
    """Make the error for the client of a refused row."""
    return RowQuarantined(
        "this row brought down the process it ran in, more than once, and is not run again by "
        f"this version of the function for {KEPT_S / 60:.0f} minutes. "
        f"`wakeful logs {function}` has how it ended; repair the function, or send another row."
    )


def _indexes_of(call_id: int, row_ids: Iterable[int]) -> frozenset[int]:
    """The indexes of the call's rows among these."""
    return frozenset(
        row_id & ((1 << INDEX_BITS) - 1) for row_id in row_ids if row_id >> INDEX_BITS == call_id
    )
