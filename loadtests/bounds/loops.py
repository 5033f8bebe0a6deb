"""What each process that serves went through: how long its event loops did nothing else, and how
much memory it took at most.

The blocks are measured within the process by ``watch``, which each Python that is started with
``inserted`` calls before anything else: its loops tick, and the longest time between two ticks lies
in a mapped file, from which it is read and begun anew. Memory is the kernel's own peak, which is
begun anew as well.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

TICK_S: Final = 0.001
SERVES: Final = ("default_worker.py", "fork_server.py", "bin/wakeful")
"""Ends of a word in the command of what serves, or what that is forked off: Ray's workers, and
`wakeful run`.
"""


class Seen(NamedTuple):
    """Of one process, since it was looked at before."""

    title: str
    block_s: float
    memory_mb: float
    peak_mb: float


def inserted(folder: Path, root: Path) -> dict[str, str]:
    """The environment of what is to be watched."""
    (folder / "loops").mkdir()
    (folder / "sitecustomize.py").write_text(
        f"from loadtests.bounds import loops\n\nloops.watch({str(folder / 'loops')!r})\n"
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{root}"}


def watch(folder: str) -> None:
    """From now on every event loop of this process ticks."""
    if not any(word.endswith(SERVES) for word in sys.orig_argv):
        return
    begin, numbers, seen = asyncio._set_running_loop, itertools.count(), set[int]()

    def begun(loop: asyncio.AbstractEventLoop | None) -> None:
        begin(loop)
        if loop is not None and id(loop) not in seen:
            seen.add(id(loop))
            _Ticks(loop, Path(folder, f"{os.getpid()}-{next(numbers)}"))

    asyncio._set_running_loop = asyncio.events._set_running_loop = begun  # before uvloop takes it


def looked(folder: Path, others: list[int]) -> dict[int, Seen]:
    """What there is to see now, by process; of others their memory."""
    blocks = dict.fromkeys(others, 0.0)
    for file in (folder / "loops").glob("[0-9]*"):
        pid = int(file.name.partition("-")[0])
        with (
            file.open("r+b") as opened,
            mmap.mmap(opened.fileno(), 8) as mapped,
            memoryview(mapped).cast("d") as block,
        ):
            blocks[pid], block[0] = max(block[0], blocks.get(pid, 0.0)), 0.0
    return {pid: seen for pid, block_s in blocks.items() if (seen := _seen(pid, block_s))}


class _Ticks:
    """A tick that comes late because no processor was free is no block: the kernel's own count of
    that wait is taken off. What is left is what the loop did, and what held the interpreter's lock.
    Reading that count does not let go of the lock: a thread that computes would keep it for another
    5 ms each time, which are this probe's own.

    Mutable state: ``_block``, the longest so far; ``_before`` and ``_waited``, of the last tick.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, file: Path) -> None:
        draft = file.with_name(f".{file.name}")  # it appears whole, since others read the folder
        draft.write_bytes(bytes(8))
        draft.rename(file)
        with file.open("r+b") as opened:
            self._block = memoryview(mmap.mmap(opened.fileno(), 8)).cast("d")
        self._loop, self._waited_s = loop, _waiting()
        self._before, self._waited = time.perf_counter(), self._waited_s()
        self._tick()

    def _tick(self) -> None:
        now, waited = time.perf_counter(), self._waited_s()
        self._block[0] = max(self._block[0], now - self._before - TICK_S - (waited - self._waited))
        self._before, self._waited = now, waited
        self._loop.call_later(TICK_S, self._tick)


def _waiting() -> Callable[[], float]:
    """Gives how long this thread has waited for a processor, in all."""
    file, text, read = (
        os.open("/proc/thread-self/schedstat", os.O_RDONLY),
        ctypes.create_string_buffer(100),
        ctypes.PyDLL(None).pread,
    )

    def waited_s() -> float:
        read(file, text, ctypes.c_size_t(99), ctypes.c_size_t(0))
        return int(text.value.split()[1]) / 1e9

    return waited_s


def _seen(pid: int, block_s: float) -> Seen | None:
    """With memory now, and at most since this was asked before; None: it has ended."""
    process = Path(f"/proc/{pid}")
    try:
        title = (
            (process / "cmdline")
            .read_text()
            .partition("\0")[0]
            .rpartition("/")[2]
            .removeprefix("ray::")
        )
        memory = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        (process / "clear_refs").write_text("5")
        return Seen(
            title, block_s, *(int(memory[name].split()[0]) / 1e3 for name in ("VmRSS", "VmHWM"))
        )
    except (OSError, KeyError):
        return None
