"""How often the system has killed for want of memory: of this process's own group, or of the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def counters() -> list[Path]:
    """Files that may have the count, the nearest first: this process's cgroup (version 2, version 1), then the machine."""
    try:
        groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    except OSError:  # not Linux
        return []
    second, first = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
    own = [(second, groups.get("", "/"), "memory.events"), (first, groups.get("memory", "/"), "memory.oom_control")]
    return [root / group.lstrip("/") / name for root, group, name in own] + [Path("/proc/vmstat")]


def counts(paths: Iterable[Path]) -> dict[str, int]:
    """The count of every file that can be read and has one."""
    return {str(path): count for path in paths if (count := _count(path)) is not None}


def grew(before: Mapping[str, int]) -> bool:
    """Whether somebody was killed since; by the nearest counter that can still be read, for the others count strangers too."""
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
