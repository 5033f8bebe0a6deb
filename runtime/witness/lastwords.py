"""Who brought a process down, decided from what it left behind.

1. A crash (a signal that ``faulthandler`` knows) names its thread, and the slots tell whose work that thread did. A thread that is
   no slot's is one that loaded, if anything did. When Python does not know the thread (a library's own), all that loaded or ran are
   culprits: in deployments of their own it will show which it was.
2. Out of memory (the system's count of such kills grew): what was loading, or else what was running.
3. Anything else (killed from outside, ``os._exit`` in a stage) leaves *suspects* only; who is suspect twice may be taken for the culprit.

What is said of a function holds of the rows that it had at work there.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runtime.witness import oom
from runtime.witness.recorder import HEADER_BYTES, MARKS, ROWS, SLOT, Kind


@dataclass(frozen=True, slots=True)
class Death:
    """What a dead process was at.

    Attributes:
        key: of the process's files; process ids come again.
        pid: its process id.
        at: seconds since the epoch when somebody noticed.
        running: functions whose stages ran in a worker or on the event loop.
        loading: functions that were being loaded.
        fault: what ``faulthandler`` called it, such as "Segmentation fault"; empty when it died otherwise.
        is_out_of_memory: the system has killed for want of memory since it was born.
        culprits: functions that brought it down.
        suspects: functions that may have.
        culprit_marks: rows that worker threads had at work for the culprits.
        suspect_marks: likewise, for the suspects.
        words: how it died, for people.
    """

    key: str
    pid: int
    at: float
    running: tuple[str, ...]
    loading: tuple[str, ...]
    fault: str
    is_out_of_memory: bool
    culprits: tuple[str, ...]
    suspects: tuple[str, ...]
    culprit_marks: tuple[int, ...]
    suspect_marks: tuple[int, ...]
    words: str


class Work(NamedTuple):
    """What one slot said at the end."""

    kind: Kind
    thread: int
    name: str
    marks: tuple[int, ...] = ()


def last_word(path: Path, now: float) -> Death | None:
    """The death of the process that left this file, noticed ``now``; None for what is no witness's file."""
    try:
        data = path.read_bytes()
        header = json.loads(data[:HEADER_BYTES].rstrip(b"\0"))
    except (OSError, ValueError):
        return None
    at_work = _at_work(data, header["slots"])
    fault, thread = _fault(path.with_suffix(".fault"))
    is_out_of_memory = not fault and oom.grew(header["oom_kills"])
    culprits, suspects = verdict(at_work, fault, thread, is_out_of_memory=is_out_of_memory)
    return Death(
        key=path.stem,
        pid=header["pid"],
        at=now,
        running=_names(work for work in at_work if work.kind != "loading"),
        loading=_names(work for work in at_work if work.kind == "loading"),
        fault=fault,
        is_out_of_memory=is_out_of_memory,
        culprits=_names(culprits),
        suspects=_names(suspects),
        culprit_marks=_marks(culprits),
        suspect_marks=_marks(suspects),
        words=fault or ("out of memory" if is_out_of_memory else "killed, or ended without a word (os._exit)"),
    )


def verdict(at_work: Sequence[Work], fault: str, thread: int | None, *, is_out_of_memory: bool) -> tuple[list[Work], list[Work]]:
    """Culprits and suspects.

    Args:
        at_work: of all slots that were at work.
        fault: empty unless it crashed.
        thread: the one that crashed; None when unknown.
        is_out_of_memory: somebody was killed for want of memory.
    """
    loading = [work for work in at_work if work.kind == "loading"]
    running = [work for work in at_work if work.kind != "loading"]
    if fault and thread is not None:
        culprits = [work for work in running if work.thread == thread] or loading
        return culprits, [] if culprits else running
    if fault:
        return loading + running, []
    if is_out_of_memory:
        return loading or running, []
    return [], loading + running


def _at_work(data: bytes, slots: int) -> list[Work]:
    found = []
    end = HEADER_BYTES + (slots + 2 * MARKS) * SLOT.size
    if len(data) < end + slots * ROWS.size:
        return []
    rows = list(ROWS.iter_unpack(data[end : end + slots * ROWS.size]))
    for place, (is_at_work, size, thread, text) in enumerate(SLOT.iter_unpack(data[HEADER_BYTES:end])):
        if is_at_work:
            kind: Kind = "running" if place < slots else "loading" if place < slots + MARKS else "loop"
            marks = rows[place][1 : 1 + rows[place][0]] if place < slots else ()
            found.append(Work(kind, thread, text[:size].decode(errors="replace"), marks))
    return found


def _fault(path: Path) -> tuple[str, int | None]:
    """What ``faulthandler`` called the crash, and the thread that had it."""
    trace = ""
    with contextlib.suppress(OSError):
        trace = path.read_text(errors="replace")
    fault = re.match(r"Fatal Python error: (.+)", trace)
    thread = re.search(r"^Current thread (0x[0-9a-f]+)", trace, re.MULTILINE)
    return fault[1].strip() if fault else "", int(thread[1], 16) if thread else None


def _names(works: Iterable[Work]) -> tuple[str, ...]:
    return tuple(sorted({work.name for work in works}))


def _marks(works: Iterable[Work]) -> tuple[int, ...]:
    return tuple(sorted({mark for work in works for mark in work.marks}))
