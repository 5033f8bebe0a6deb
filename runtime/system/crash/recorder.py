"""Records what this process runs, in a few bytes of a mapped file that outlives it.

Each worker thread writes the name of the function it runs, and the ids of its rows, into a slot of
a file that is mapped into memory. That needs no system call, and the pages are the kernel's, so
they survive whatever ends the process. ``faulthandler`` writes the stack of a crash next to it. A
lock on the file, which the system releases with the process, tells dead processes from live ones,
since process ids are used again. Without such locks (Windows) the records are written and never
read.

``fingerprint`` names a call after the process that read it has died: any other process computes the
same number.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import mmap
import os
import struct
import sys
import threading
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from runtime.system import memory

if sys.platform != "win32":
    import fcntl

Kind = Literal["running", "loading", "loop"]

MARKS: Final = 64
"""Slots for functions that load, and as many for those with work on the event loop; a function that
finds none free is not recorded.
"""

HEADER_BYTES: Final = 4096

LABEL_BYTES: Final = 160
"""A function's name has at most 128 letters (``constrained_types``), its version hash 16."""

SLOT: Final = struct.Struct(f"<?B6xQ{LABEL_BYTES}s")
"""In use or not, length of the label, the thread, the label (``label_of``)."""

MOST_ROWS: Final = 64
"""Rows of a batch that are recorded, the first ones."""

ROWS: Final = struct.Struct(f"<{1 + MOST_ROWS}Q")
"""How many rows a worker runs, and their ids; one for each worker's slot, after all slots."""

_PACK: Final = [struct.Struct(f"<{1 + rows}Q").pack_into for rows in range(MOST_ROWS + 1)]
"""Packers by number of rows: 0.2 µs for none, 0.4 for one, 1.0 for 32."""


class CrashRecorder:
    """The record of this process; one a process, since ``faulthandler`` is.

    Args:
        folder: where ``<pid>-<n>.work`` and ``.fault`` are made; it is made too.
        slots: number of worker threads. Loads and work on the event loop have slots of their own.
        counters: files that count kills for lack of memory; by default this system's.

    ``begin`` and ``end`` are called in the slot's thread; all others in any.

    Mutable state: the mapped file; ``_names`` (the name in each slot); ``_free`` (slots not in
    use, under ``_lock``); ``_is_blamed``.
    """

    def __init__(self, folder: Path, *, slots: int, counters: Sequence[Path] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        places = slots + 2 * MARKS
        self._lock = threading.Lock()
        self._at = [HEADER_BYTES + place * SLOT.size for place in range(places)]
        self._rows_at = [
            HEADER_BYTES + places * SLOT.size + slot * ROWS.size for slot in range(slots)
        ]
        self._names = [""] * places
        self._free = {
            "loading": list(range(slots, slots + MARKS)),
            "loop": list(range(slots + MARKS, places)),
        }
        header = {
            "pid": os.getpid(),
            "slots": slots,
            "oom_kills": memory.read_oom_counts(
                memory.oom_counter_files() if counters is None else counters
            ),
        }
        self.path = _unused(folder)
        unfinished = self.path.with_suffix(".new")
        self._file = unfinished.open("w+b")
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(
            json.dumps(header).encode().ljust(HEADER_BYTES, b"\0")
            + bytes(places * SLOT.size + slots * ROWS.size)
        )
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        self._fault = self.path.with_suffix(".fault").open("w")
        unfinished.rename(self.path)  # whole and locked from the first moment it is seen
        self._was_enabled = faulthandler.is_enabled()
        faulthandler.enable(self._fault)
        self._closed = self._is_blamed = False
        _close_in_children(self)

    def __repr__(self) -> str:
        running = (
            []
            if self._closed
            else [name for place, name in enumerate(self._names) if self._map[self._at[place]]]
        )
        return f"<CrashRecorder {self.path}: {', '.join(running) or 'idle'}>"

    def begin(self, slot: int, name: str, marks: Sequence[int] = ()) -> None:
        """Note, in a worker thread, that it runs this function from now on.

        Args:
            name: the function's, or its label (``label_of``); likewise in ``mark`` and ``loading``.
            marks: ids of the rows, 64 bits each; the first ``MOST_ROWS`` are recorded.
        """
        if self._names[slot] != name:
            self._write(slot, name)
        rows = min(len(marks), MOST_ROWS)
        _PACK[rows](self._map, self._rows_at[slot], rows, *marks[:rows])
        self._map[self._at[slot]] = 1

    def end(self, slot: int) -> None:
        """Note, in the same thread, that it has ended."""
        self._map[self._at[slot]] = 0

    def forget(self, slot: int) -> None:
        """Note that another thread has the slot from now on."""
        self._names[slot] = ""

    def blame(self, slot: int, words: str) -> None:
        """Note that the process is to end because the thread in this slot does not come back: that
        is reported as a crash of what it runs, however the process ends.

        Args:
            words: for the report, such as "a stage does not return".
        """
        if self._closed or self._is_blamed:
            return
        self._is_blamed = True
        _, _, thread, _ = SLOT.unpack_from(self._map, self._at[slot])
        # as faulthandler writes it
        self._fault.write(f"Fatal Python error: {words}\n\nCurrent thread {thread:#018x}:\n")
        self._fault.flush()

    def absolve(self) -> None:
        """Note that it has come back."""
        if not self._closed and self._is_blamed:
            self._is_blamed = False
            self._fault.seek(0)
            self._fault.truncate()

    def mark(self, name: str, kind: Literal["loading", "loop"] = "loop") -> int | None:
        """Note that the function loads, or has work on the event loop, until ``unmark``; None when
        all slots are taken.
        """
        with self._lock:
            place = self._free[kind].pop() if self._free[kind] else None
        if place is not None:
            self._write(place, name)
            self._map[self._at[place]] = 1
        return place

    def unmark(self, place: int | None, kind: Literal["loading", "loop"] = "loop") -> None:
        """Free the slot that ``mark`` took."""
        if place is not None:
            self._map[self._at[place]] = 0
            with self._lock:
                self._free[kind].append(place)

    @contextlib.contextmanager
    def loading(self, name: str) -> Iterator[None]:
        """Note that the function loads within the block; more than ``MARKS`` at once are not
        recorded.
        """
        place = self.mark(name, "loading")
        try:
            yield
        finally:
            self.unmark(place, "loading")

    def close(self) -> None:
        """End in order, after the workers have: the files are removed, but for those of a process
        that hangs. Idempotent.
        """
        if not self._closed:
            # first: a reader that finds them unlocked takes the process for dead
            if not self._is_blamed:
                remove(self.path)
            self._close_files()

    def _close_files(self) -> None:
        """Close everything, and leave the files."""
        self._closed = True
        if self._was_enabled and sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
        else:
            faulthandler.disable()
        self._fault.close()
        self._map.close()
        self._file.close()

    def _write(self, place: int, name: str) -> None:
        text = name.encode()[:LABEL_BYTES]
        self._names[place] = name
        SLOT.pack_into(self._map, self._at[place], False, len(text), threading.get_ident(), text)


def remove(work: Path) -> None:
    """Remove a process's two files, of which ``work`` is one under whatever ending it has."""
    work.unlink(missing_ok=True)
    work.with_suffix(".fault").unlink(missing_ok=True)


def _unused(folder: Path) -> Path:
    """A name that no process of the same id has used here, dead or alive."""
    left = {path.stem for path in folder.iterdir()}
    return next(
        folder / f"{key}.work"
        for n in itertools.count()
        if (key := f"{os.getpid()}-{n}") not in left
    )


def _close_in_children(recorder: CrashRecorder) -> None:
    """Close the record in forked children: a child shares the lock, the slots and the fault file,
    so it would pass for its dead parent, and its crash for the parent's.
    """
    if sys.platform == "win32":
        return
    reference = weakref.ref(recorder)

    def close_files() -> None:
        parents = reference()
        if parents is not None and not parents._closed:
            parents._close_files()

    os.register_at_fork(after_in_child=close_files)


LARGE_BYTES: Final = 256 << 10
"""Bodies of this size are folded before they are summed: zlib takes 1.1 ms for 4 MB, which is a
third of a call with such a tensor.
"""

FOLD: Final = 4096
"""Words of eight bytes in a fold."""


def label_of(function: str, version: str) -> str:
    """Join a function's name and the hash of the version that runs: what crashed one version says
    nothing about the next.
    """
    return f"{function} {version}"


def label_names(label: str) -> tuple[str, str]:
    """Split a label into the name, which has no spaces, and the version; the version is empty where
    a name alone was recorded.
    """
    name, _, version = label.partition(" ")
    return name, version


def fingerprint(body: bytes | bytearray | memoryview, function: str = "") -> int:
    """48 bits, never 0: a checksum of the function's name and the body, and the body's length; 0.3
    µs, and 0.3 ms for 4 MB.

    It is no proof: of two bodies of one length that differ, one pair in four billion has the same;
    and so have two large ones that differ only in the order of their parts of 32 KiB. A client that
    can crash the function could so have another's body refused; but what it can do anyway is more,
    since four crashes quarantine the function, and a digest that cannot be made to collide would be
    on the way of every call.

    Args:
        function: its label, since a body that crashes one function is ordinary for another, and may
            be for the next version.
    """
    folded, rest = _folded(body) if len(body) >= LARGE_BYTES else (b"", body)
    return (
        zlib.crc32(rest, zlib.crc32(folded, zlib.crc32(function.encode()))) << 16
        | len(body) & 0xFFFF
    ) or 1


def _folded(body: bytes | bytearray | memoryview) -> tuple[bytes, memoryview]:
    """The sum of a body's parts, and what is left behind the last whole one."""
    parts = len(body) // (8 * FOLD)
    words = np.frombuffer(body, "<u8", parts * FOLD).reshape(parts, FOLD)
    return words.sum(axis=0, dtype="<u8").tobytes(), memoryview(body)[parts * 8 * FOLD :]
