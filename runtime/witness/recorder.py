"""What this process is at, in a few bytes of a mapped file that outlives it.

Each worker thread writes the name of the function it runs, and the marks of the rows, into a slot of a file mapped into memory. That
is no system call, and the pages are the kernel's, so they are there whatever ends the process. ``faulthandler`` writes the stack of a
crash beside it. A lock on the file, which the system drops with the process, tells the dead from the living; process ids come again.
Without such locks (Windows) the records are written and never read.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from runtime.witness import oom

if sys.platform != "win32":
    import fcntl

Kind = Literal["running", "loading", "loop"]

MARKS: Final = 64
"""Slots for functions that load, and as many for those with work on the event loop; who finds none free is not recorded."""

HEADER_BYTES: Final = 4096

SLOT: Final = struct.Struct("<?B6xQ128s")
"""At work or not, length of the name, the thread, the name: a function's is at most 128 letters (``declaration/grammar``)."""

MOST_ROWS: Final = 64
"""Rows of a batch that are recorded, the first ones."""

ROWS: Final = struct.Struct(f"<{1 + MOST_ROWS}Q")
"""How many rows a worker has at work, and their marks; one for each worker's slot, behind all slots."""

_PACK: Final = [struct.Struct(f"<{1 + rows}Q").pack_into for rows in range(MOST_ROWS + 1)]
"""Writes so many: 0.2 µs for none, 0.4 for one, 1.0 for 32."""


class Witness:
    """Records what this process is at; one a process, since ``faulthandler`` is.

    Args:
        folder: where ``<pid>-<n>.work`` and ``.fault`` are made; it is made too.
        slots: worker threads. Loads and work on the event loop have slots besides.
        counters: files that count kills for want of memory; by default this system's.

    ``begin`` and ``end`` belong to the slot's thread; ``mark``, ``unmark`` and ``loading`` are for any.

    Mutable state: the mapped file; ``_names`` (the name each slot has now); ``_free`` (marks not in use, under ``_lock``).
    """

    def __init__(self, folder: Path, *, slots: int, counters: Sequence[Path] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        places = slots + 2 * MARKS
        self._lock = threading.Lock()
        self._at = [HEADER_BYTES + place * SLOT.size for place in range(places)]
        self._rows_at = [HEADER_BYTES + places * SLOT.size + slot * ROWS.size for slot in range(slots)]
        self._names = [""] * places
        self._free = {"loading": list(range(slots, slots + MARKS)), "loop": list(range(slots + MARKS, places))}
        header = {"pid": os.getpid(), "slots": slots, "oom_kills": oom.counts(oom.counters() if counters is None else counters)}
        self.path = _unused(folder)
        unfinished = self.path.with_suffix(".new")
        self._file = unfinished.open("w+b")
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(json.dumps(header).encode().ljust(HEADER_BYTES, b"\0") + bytes(places * SLOT.size + slots * ROWS.size))
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        self._fault = self.path.with_suffix(".fault").open("w")
        unfinished.rename(self.path)  # whole and locked from the first moment it is seen
        self._was_enabled = faulthandler.is_enabled()
        faulthandler.enable(self._fault)
        self._closed = False
        _let_go_in_children(self)

    def __repr__(self) -> str:
        at_work = [] if self._closed else [name for place, name in enumerate(self._names) if self._map[self._at[place]]]
        return f"<Witness {self.path}: {', '.join(at_work) or 'nobody at work'}>"

    def begin(self, slot: int, name: str, marks: Sequence[int] = ()) -> None:
        """In a worker thread: it runs this function from now on.

        Args:
            marks: of the rows, 64 bits each; the first ``MOST_ROWS`` are recorded.
        """
        if self._names[slot] != name:
            self._write(slot, name)
        rows = min(len(marks), MOST_ROWS)
        _PACK[rows](self._map, self._rows_at[slot], rows, *marks[:rows])
        self._map[self._at[slot]] = 1

    def end(self, slot: int) -> None:
        """In the same thread: it does not any more."""
        self._map[self._at[slot]] = 0

    def mark(self, name: str, kind: Literal["loading", "loop"] = "loop") -> int | None:
        """The function loads, or has work on the event loop, until ``unmark``; None when all marks are taken."""
        with self._lock:
            place = self._free[kind].pop() if self._free[kind] else None
        if place is not None:
            self._write(place, name)
            self._map[self._at[place]] = 1
        return place

    def unmark(self, place: int | None, kind: Literal["loading", "loop"] = "loop") -> None:
        """What ``mark`` began is over."""
        if place is not None:
            self._map[self._at[place]] = 0
            with self._lock:
                self._free[kind].append(place)

    @contextlib.contextmanager
    def loading(self, name: str) -> Iterator[None]:
        """The function loads meanwhile; more than ``MARKS`` at once are not recorded."""
        place = self.mark(name, "loading")
        try:
            yield
        finally:
            self.unmark(place, "loading")

    def close(self) -> None:
        """An orderly end, after the workers': the files go. Idempotent."""
        if not self._closed:
            remove(self.path)  # first: who finds them without the lock takes them for the dead's
            self._let_go()

    def _let_go(self) -> None:
        """Of everything but the files' names."""
        self._closed = True
        if self._was_enabled and sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
        else:
            faulthandler.disable()
        self._fault.close()
        self._map.close()
        self._file.close()

    def _write(self, place: int, name: str) -> None:
        text = name.encode()[:128]
        self._names[place] = name
        SLOT.pack_into(self._map, self._at[place], False, len(text), threading.get_ident(), text)


def remove(work: Path) -> None:
    """A process's two files."""
    work.unlink(missing_ok=True)
    work.with_suffix(".fault").unlink(missing_ok=True)


def _unused(folder: Path) -> Path:
    """A name that no process of the same id has left here, dead or alive."""
    left = {path.stem for path in folder.iterdir()}
    return next(folder / f"{key}.work" for n in itertools.count() if (key := f"{os.getpid()}-{n}") not in left)


def _let_go_in_children(witness: Witness) -> None:
    """A forked child shares the lock, the records and the fault file: it would pass for its dead parent, and blame it for its crash."""
    if sys.platform == "win32":
        return
    reference = weakref.ref(witness)

    def let_go() -> None:
        parents = reference()
        if parents is not None and not parents._closed:
            parents._let_go()

    os.register_at_fork(after_in_child=let_go)
