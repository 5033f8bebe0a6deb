"""Who brought a process down, decided from what it left behind.

1. A crash (a signal that ``faulthandler`` knows) names its thread, and the slots tell whose work that thread did. A thread that is
   no slot's is one that loaded, if anything did. When Python does not know the thread (a library's own), all that loaded or ran are
   culprits: in deployments of their own it will show which it was.
2. Out of memory (the system's count of such kills grew): what was loading, or else what was running.
3. Anything else (killed from outside, ``os._exit`` in a stage) leaves *suspects* only; who is suspect twice may be taken for the culprit.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runtime.witness import oom
from runtime.witness.recorder import HEADER_BYTES, MARKS, SLOT, Kind, remove

if sys.platform != "win32":
    import fcntl


BIRTH_S = 60.0
"""A file that is younger may belong to a process that has not taken its lock yet."""


@dataclass(frozen=True, slots=True)
class Death:
    """What a dead process was at.

    Attributes:
        key: for ``forget``; process ids come again.
        pid: its process id.
        running: functions whose stages ran in a worker or on the event loop.
        loading: functions that were being loaded.
        fault: what ``faulthandler`` called it, such as "Segmentation fault"; empty when it died otherwise.
        is_out_of_memory: the system has killed for want of memory since it was born.
        culprits: functions that brought it down.
        suspects: functions that may have.
        words: how it died, for people.
    """

    key: str
    pid: int
    running: tuple[str, ...]
    loading: tuple[str, ...]
    fault: str
    is_out_of_memory: bool
    culprits: tuple[str, ...]
    suspects: tuple[str, ...]
    words: str


class Work(NamedTuple):
    """What one slot said at the end."""

    kind: Kind
    thread: int
    name: str


def last_words(folder: Path) -> list[Death]:
    """The deaths of processes that did not end in order; told again and again until ``forget``."""
    for unfinished in folder.glob("*.new"):
        if _is_dead(unfinished) and _age_s(unfinished) > BIRTH_S:
            unfinished.unlink(missing_ok=True)
    return [death for path in sorted(folder.glob("*.work")) if (death := _death(path)) is not None]


def forget(folder: Path, key: str) -> None:
    """Removes what a dead process left (``Death.key``); for whoever has drawn the consequences."""
    remove(folder / f"{key}.work")


def verdict(at_work: Sequence[Work], fault: str, thread: int | None, *, is_out_of_memory: bool) -> tuple[set[str], set[str]]:
    """Culprits and suspects.

    Args:
        at_work: of all slots that were at work.
        fault: empty unless it crashed.
        thread: the one that crashed; None when unknown.
        is_out_of_memory: somebody was killed for want of memory.
    """
    loading = {work.name for work in at_work if work.kind == "loading"}
    running = {work.name for work in at_work if work.kind != "loading"}
    if fault and thread is not None:
        its_own = {work.name for work in at_work if work.kind != "loading" and work.thread == thread}
        culprits = its_own or loading
        return culprits, set() if culprits else running
    if fault:
        return loading | running, set()
    if is_out_of_memory:
        return loading or running, set()
    return set(), loading | running


def _death(path: Path) -> Death | None:
    """None for the living, and for what is no witness's file."""
    if not _is_dead(path):
        return None
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
        running=_sorted({work.name for work in at_work if work.kind != "loading"}),
        loading=_sorted({work.name for work in at_work if work.kind == "loading"}),
        fault=fault,
        is_out_of_memory=is_out_of_memory,
        culprits=_sorted(culprits),
        suspects=_sorted(suspects),
        words=fault or ("out of memory" if is_out_of_memory else "killed, or ended without a word (os._exit)"),
    )


def _at_work(data: bytes, slots: int) -> list[Work]:
    found = []
    whole = (len(data) - HEADER_BYTES) // SLOT.size * SLOT.size
    for place, (is_at_work, size, thread, text) in enumerate(SLOT.iter_unpack(data[HEADER_BYTES : HEADER_BYTES + whole])):
        if is_at_work:
            kind: Kind = "running" if place < slots else "loading" if place < slots + MARKS else "loop"
            found.append(Work(kind, thread, text[:size].decode(errors="replace")))
    return found


def _fault(path: Path) -> tuple[str, int | None]:
    """What ``faulthandler`` called the crash, and the thread that had it."""
    trace = ""
    with contextlib.suppress(OSError):
        trace = path.read_text(errors="replace")
    fault = re.match(r"Fatal Python error: (.+)", trace)
    thread = re.search(r"^Current thread (0x[0-9a-f]+)", trace, re.MULTILINE)
    return fault[1].strip() if fault else "", int(thread[1], 16) if thread else None


def _is_dead(path: Path) -> bool:
    """Whether nobody holds the file any more."""
    if sys.platform == "win32":
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or gone meanwhile
        return False
    return True


def _age_s(path: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _sorted(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
