"""The memory of this process: how much it has, how much it may take, and giving back what it does not need."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil

from runtime.settings import Settings

CGROUP = Path("/sys/fs/cgroup")


def free_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that could be taken now without swapping: the machine's, or less where a control group allows less."""
    free: int = psutil.virtual_memory().available
    for limit, used, cache_key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _number(cgroup / limit), _number(cgroup / used)
        if most is not None and taken is not None:  # pages of files that nobody uses count as taken and are given up when needed
            free = min(free, most - taken + _entry(cgroup / Path(used).parent / "memory.stat", cache_key))
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


def budget_bytes(settings: Settings) -> int:
    """What loaded functions may hold together: ``memory_mb``, or half of what is free now."""
    return settings.memory_mb * 1_000_000 if settings.memory_mb is not None else free_bytes() // 2


def give_back() -> None:
    """Returns freed memory to the system; blocks for milliseconds, so not on the event loop.

    The C library keeps what is freed: after a MiniLM was unloaded, 50 of its 110 MB. Objects of a function that refer to each other
    in a circle are collected first.
    """
    gc.collect()
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not the GNU C library
        return lambda _: 0
    return trim
