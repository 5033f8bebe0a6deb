"""The memory of this process: how much it has, how much it may take, and giving back what it does
not need.

What a process holds of the machine's memory: its own, and pages of files that the system may take
back.

How often the system has killed for want of memory: of this process's own group, or of the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import psutil

CGROUP = Path("/sys/fs/cgroup")


def free_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that could be taken now without swapping: the machine's, or less where a control group
    allows less.
    """
    free: int = psutil.virtual_memory().available
    for limit, used, cache_key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _number(cgroup / limit), _number(cgroup / used)
        # unused pages of files count as taken and are given up when needed
        if most is not None and taken is not None:
            free = min(
                free, most - taken + _entry(cgroup / Path(used).parent / "memory.stat", cache_key)
            )
    return max(0, free)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _entry(file: Path, key: str) -> int:
    try:
        lines = dict(line.split(" ", 1) for line in file.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(lines.get(key, 0))


def trim_memory() -> None:
    """Returns freed memory to the system; blocks for milliseconds, so not on the event loop.

    The C library keeps what is freed: after a MiniLM was unloaded, 50 of its 110 MB. Objects of a
    function that refer to each other in a circle are collected first.
    """
    with _TRIMMING:
        gc.collect()
        _trim()(0)


_TRIMMING = threading.Lock()
"""A collection that begins while another thread's is under way does nothing."""


@cache
def _trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not the GNU C library
        return lambda _: 0
    return trim


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory.

    Attributes:
        own_bytes: anonymous memory: heaps, stacks, tensors.
        mapped_bytes: pages of mapped files, code of libraries and weights of prepared models among
            them: shared between processes, and given up when memory is short. 0 where the system
            does not tell them apart (not Linux), and all is own.
    """

    own_bytes: int
    mapped_bytes: int

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """A process's, by default this one's; costs 20 us.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        memory = psutil.Process(pid).memory_info()
        mapped = getattr(memory, "shared", 0)
        return cls(memory.rss - mapped, mapped)

    def since(self, before: Footprint) -> Footprint:
        """What was added; what shrank counts as nothing."""
        return Footprint(
            max(0, self.own_bytes - before.own_bytes),
            max(0, self.mapped_bytes - before.mapped_bytes),
        )


def mapped_bytes(files: Collection[Path], smaps: Path = Path("/proc/self/smaps")) -> int:
    """Resident bytes of the pages of certain files that this process has mapped; costs
    milliseconds. 0 where the system does not tell.
    """
    names = {str(file.resolve()) for file in files}
    found, is_one = 0, False
    try:
        with smaps.open(errors="replace") as lines:
            for line in lines:
                if line.startswith("Rss:"):
                    found += int(line.split()[1]) * 1024 if is_one else 0
                elif not line[
                    :1
                ].isupper():  # the head of the next mapping; fields begin with a capital
                    is_one = line.rstrip("\n").split(maxsplit=5)[-1] in names
    except OSError:
        return 0
    return found


def oom_counter_files() -> list[Path]:
    """Files that may have the count, the nearest first: this process's cgroup (version 2, version
    1), then the machine.
    """
    try:
        groups = dict(
            line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()
        )
    except OSError:  # not Linux
        return []
    second, first = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
    own = [
        (second, groups.get("", "/"), "memory.events"),
        (first, groups.get("memory", "/"), "memory.oom_control"),
    ]
    return [root / group.lstrip("/") / name for root, group, name in own] + [Path("/proc/vmstat")]


def read_oom_counts(paths: Iterable[Path]) -> dict[str, int]:
    """The count of every file that can be read and has one."""
    return {str(path): count for path in paths if (count := _count(path)) is not None}


def oom_killed_since(before: Mapping[str, int]) -> bool:
    """Whether a process was killed since; by the nearest counter that can still be read, for the
    others count strangers too.
    """
    for path, count in before.items():
        now = _count(Path(path))
        if now is not None:
            return now > count
    return False


def _count(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def freeze() -> None:
    """Take what is loaded out of the garbage collector's sight: a full collection over the imports
    of a serving process takes tens of milliseconds, in the middle of a request.
    """
    gc.collect()
    gc.freeze()
