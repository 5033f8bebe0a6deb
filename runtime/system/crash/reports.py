"""Crash reports: which function brought a process down, decided from the records it left.

1. A crash (a signal that ``faulthandler`` knows) names its thread, and the slots say which function
   ran in that thread. A thread without a slot is one that loaded a function, if any was loading.
   When Python does not know the thread (a library's own), every function that loaded or ran is a
   cause: in deployments of their own it will show which one it was.
2. Out of memory (the system's count of such kills grew): the functions that were loading, or else
   those that ran.
3. Anything else (killed from outside, ``os._exit`` in a stage) leaves *suspects* only; a function
   that is a suspect twice may be taken for the cause.

What holds for a function holds for the rows that it ran there.

The first process that reads the folder after a crash writes the report; it is kept for ten minutes.
The ending of a file says how far that is, ``<key>`` being that of the dead process:

    <key>.work, .fault   its records; the process lives as long as the file is locked
    <key>.dead           its report: decided once, since the system's counters go on
    <key>.told           the same, and the placement controller has it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtime.system import memory
from runtime.system.crash.recorder import HEADER_BYTES, MARKS, ROWS, SLOT, Kind, label_names, remove


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What ran in a process when it died.

    Attributes:
        key: of the process's files; process ids come again.
        pid: its process id.
        at: seconds since the epoch when another process noticed.
        running: functions whose stages ran in a worker or on the event loop.
        loading: functions that were being loaded.
        fault: what ``faulthandler`` called it, such as "Segmentation fault"; empty when it died
            otherwise.
        is_out_of_memory: the system has killed a process for lack of memory since it started.
        culprits: functions that brought it down.
        suspects: functions that may have.
        cause_row_ids: rows that worker threads ran for the culprits.
        suspect_row_ids: likewise, for the suspects.
        words: how it died, for people.
        versions: of the culprits and the suspects, by name: the version hash of each version that
            ran.
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
    cause_row_ids: tuple[int, ...]
    suspect_row_ids: tuple[int, ...]
    words: str
    versions: dict[str, list[str]] = field(default_factory=dict)


class RunningWork(NamedTuple):
    """What one slot of a dead process's record says."""

    kind: Kind
    thread: int
    name: str
    marks: tuple[int, ...] = ()
    version: str = ""


def read_crash_report(path: Path, now: float) -> CrashReport | None:
    """The report on the process that left this file, noticed ``now``; None for a file that is no
    crash recorder's.

    Raises:
        FileNotFoundError: another process has noticed this crash meanwhile.
    """
    try:
        data = path.read_bytes()
        header = json.loads(data[:HEADER_BYTES].rstrip(b"\0"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        return None
    at_work = _at_work(data, header["slots"])
    fault, thread = _fault(path.with_suffix(".fault"))
    path.stat()  # it is removed before the file of the fault, which was there if it still is
    is_out_of_memory = not fault and memory.oom_killed_since(header["oom_kills"])
    culprits, suspects = crash_message(at_work, fault, thread, is_out_of_memory=is_out_of_memory)
    return CrashReport(
        key=path.stem,
        pid=header["pid"],
        at=now,
        running=_names(work for work in at_work if work.kind != "loading"),
        loading=_names(work for work in at_work if work.kind == "loading"),
        fault=fault,
        is_out_of_memory=is_out_of_memory,
        culprits=_names(culprits),
        suspects=_names(suspects),
        cause_row_ids=_marks(culprits),
        suspect_row_ids=_marks(suspects),
        words=fault
        or ("out of memory" if is_out_of_memory else "killed, or ended without a word (os._exit)"),
        versions=_versions([*culprits, *suspects]),
    )


def crash_message(
    at_work: Sequence[RunningWork], fault: str, thread: int | None, *, is_out_of_memory: bool
) -> tuple[list[RunningWork], list[RunningWork]]:
    """Divide the work into culprits and suspects.

    Args:
        at_work: all slots in use.
        fault: empty unless it crashed.
        thread: the one that crashed; None when unknown.
        is_out_of_memory: the system killed a process for lack of memory.
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


def _at_work(data: bytes, slots: int) -> list[RunningWork]:
    found = []
    end = HEADER_BYTES + (slots + 2 * MARKS) * SLOT.size
    if len(data) < end + slots * ROWS.size:
        return []
    rows = list(ROWS.iter_unpack(data[end : end + slots * ROWS.size]))
    for place, (is_at_work, size, thread, text) in enumerate(
        SLOT.iter_unpack(data[HEADER_BYTES:end])
    ):
        if is_at_work:
            kind: Kind = (
                "running" if place < slots else "loading" if place < slots + MARKS else "loop"
            )
            marks = rows[place][1 : 1 + rows[place][0]] if place < slots else ()
            name, version = label_names(text[:size].decode(errors="replace"))
            found.append(RunningWork(kind, thread, name, marks, version))
    return found


def _fault(path: Path) -> tuple[str, int | None]:
    """What ``faulthandler`` called the crash, and the thread that had it."""
    trace = ""
    with contextlib.suppress(OSError):
        trace = path.read_text(errors="replace")
    fault = re.match(r"Fatal Python error: (.+)", trace)
    thread = re.search(r"^Current thread (0x[0-9a-f]+)", trace, re.MULTILINE)
    return fault[1].strip() if fault else "", int(thread[1], 16) if thread else None


def _names(works: Iterable[RunningWork]) -> tuple[str, ...]:
    return tuple(sorted({work.name for work in works}))


def _versions(works: Iterable[RunningWork]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for work in works:
        if work.version:
            found.setdefault(work.name, set()).add(work.version)
    return {name: sorted(versions) for name, versions in found.items()}


def _marks(works: Iterable[RunningWork]) -> tuple[int, ...]:
    return tuple(sorted({mark for work in works for mark in work.marks}))


if sys.platform != "win32":
    import fcntl

KEPT_S: Final = 600.0
"""Seconds for which a crash counts, against functions and against rows."""

MOST: Final = 100
"""Crashes that are kept; of more the latest."""

LOOKS: Final = 3
"""Times that the folder is listed again when another process changes it meanwhile."""

NO_MEMORY: Final = b"0 "
"""How ``/proc/PID/statm`` begins when the process has given its memory back."""

BIRTH_S: Final = 60.0
"""A file that is younger may belong to a process that has not taken its lock yet."""


def crash_files(
    folder: Path, known: Mapping[str, CrashReport], now: float
) -> dict[str, CrashReport]:
    """The crashes of the last ten minutes by key, reported or not; the files of older ones go.

    Args:
        known: from the last time: they are not read again.
        now: seconds since the epoch.

    Raises:
        OSError: the folder cannot be read. One that does not exist has no crashes.
    """
    for _ in range(LOOKS):
        with contextlib.suppress(FileNotFoundError):
            return _kept(folder, _look(folder, known, now), now)
    return dict(known)


def read_crash_reports(folder: Path) -> list[CrashReport]:
    """The crashes that the placement controller does not know; until ``mark_reported``."""
    for unfinished in folder.glob("*.new"):
        with contextlib.suppress(FileNotFoundError):
            if _is_dead(unfinished) and time.time() - unfinished.stat().st_mtime > BIRTH_S:
                remove(unfinished)
    crashes = crash_files(folder, {}, time.time())
    return [
        crash for key, crash in sorted(crashes.items()) if not (folder / f"{key}.told").exists()
    ]


def mark_reported(folder: Path, key: str) -> None:
    """The placement controller has this report (``CrashReport.key``)."""
    with contextlib.suppress(FileNotFoundError):  # another process has marked it
        (folder / f"{key}.dead").rename(folder / f"{key}.told")


def _look(folder: Path, known: Mapping[str, CrashReport], now: float) -> dict[str, CrashReport]:
    """Every crash in the folder.

    Raises:
        FileNotFoundError: a file went after it was listed; if another process has noticed that
            crash, the file is there under another name.
    """
    crashes: dict[str, CrashReport] = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        key, _, ending = name.rpartition(".")
        crash = None
        if ending in ("dead", "told"):
            crash = known.get(key) or _read(folder / name)
        elif ending == "work" and key not in crashes and _is_dead(folder / name):
            crash = known.get(key) or _notice(folder / name, now)
        if crash is not None:
            crashes[key] = crash
    return crashes


def _kept(folder: Path, crashes: dict[str, CrashReport], now: float) -> dict[str, CrashReport]:
    """The crashes that still count; the files of others go."""
    latest = sorted(crashes, key=lambda key: crashes[key].at)[-MOST:]
    kept = {key: crashes[key] for key in latest if crashes[key].at > now - KEPT_S}
    for key in crashes.keys() - kept.keys():
        for ending in ("dead", "told", "work", "fault"):
            (folder / f"{key}.{ending}").unlink(missing_ok=True)
    return kept


def _notice(work: Path, now: float) -> CrashReport | None:
    """Write a report. Two processes may do so at a time; both write the same."""
    crash = read_crash_report(work, now)
    if crash is not None:
        with contextlib.suppress(OSError):  # a full disk: it is noticed again, and counts
            draft = work.with_suffix(f".draft-{os.getpid()}")
            draft.write_text(json.dumps(asdict(crash)))
            draft.replace(work.with_suffix(".dead"))
            remove(work)
    return crash


def _read(path: Path) -> CrashReport | None:
    """None for a report that another version of this module wrote."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        of: dict[str, Any] = json.loads(path.read_bytes())
        of |= {name: tuple(value) for name, value in of.items() if isinstance(value, list)}
        return CrashReport(**of)
    return None


def _is_dead(path: Path) -> bool:
    """Whether the process with this file has ended: it has no memory, or its lock is free.

    The system takes a process's memory first, then ends its connections, then frees its locks. On a
    busy machine, HAProxy has sent a call again up to 0.16 s before the lock was free.
    """
    if sys.platform == "win32":
        return False
    if _has_no_memory(path.stem):
        return True
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def _has_no_memory(key: str) -> bool:
    """Whether the process with this key ends or has just ended; False where that is not known."""
    with contextlib.suppress(OSError):
        file = _open_statm(key)
        try:
            return os.pread(file, len(NO_MEMORY), 0) == NO_MEMORY
        finally:
            os.close(file)
    return False


def _open_statm(key: str) -> int:
    """Open the system's file of what memory the process with this key has.

    Raises:
        OSError: there is no such process, or no such file.
    """
    return os.open(f"/proc/{key.partition('-')[0]}/statm", os.O_RDONLY)


NOT_WATCHED: Final = -1
"""Instead of an open file, of a process that was gone, or on a system without ``/proc``."""


class ProcessWatch:
    """Tells whether a folder may have a crash that is not read yet: a process has ended, or a file
    has come or gone. That takes 6 µs and 1.7 for each process that lives; to read the folder takes
    12 and 12.5. Where the system has no ``/proc``, it always may.

    Mutable state, as of the last ``restart``: ``_names`` of the files, ``_statms`` (open files of
    ``/proc``) of the processes by key.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._statms: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._statms)

    def __repr__(self) -> str:
        return f"<ProcessWatch: {len(self._statms)} processes in {self._folder}>"

    def restart(self) -> None:
        """Take what is there for known; called before the folder is read, so that nothing that
        happens meanwhile is missed.

        Raises:
            OSError: the folder cannot be read. One that does not exist has no files.
        """
        self._names = self._list()
        keys = {name.removesuffix(".work") for name in self._names if name.endswith(".work")}
        for key in self._statms.keys() - keys:
            _close(self._statms.pop(key))
        for key in keys - self._statms.keys():
            try:
                self._statms[key] = _open_statm(key)
            except OSError:
                self._statms[key] = NOT_WATCHED

    def has_changed(self) -> bool:
        """Whether anything has happened since ``restart``."""
        try:
            return self._list() != self._names or any(
                statm == NOT_WATCHED or os.pread(statm, len(NO_MEMORY), 0) == NO_MEMORY
                for statm in self._statms.values()
            )
        except OSError:  # a process is gone
            return True

    def _list(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return set(os.listdir(self._folder))  # noqa: PTH208  # iterdir takes four times as long
        return set()


def _close_all(files: dict[str, int]) -> None:
    for file in files.values():
        _close(file)


def _close(file: int) -> None:
    if file != NOT_WATCHED:
        os.close(file)
