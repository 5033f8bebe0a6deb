"""What the processes that serve went through: which they are, how much memory they hold, and what
they wrote.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

MOST_GROWN_MB: Final = 256.0
"""That a process may grow by, once it has seen a part of the calls: what ONNX Runtime keeps for the
largest page that `ocr` was sent is most of it.
"""

_TRACEBACK: Final = re.compile(
    rb"Traceback \(most recent call last\):.*?(?=\n\S)\n\S[^\n]*|Fatal Python error[^\n]*"
    rb"|Segmentation fault[^\n]*|never (?:retrieved|awaited)[^\n]*",
    re.DOTALL,
)


_PLACE: Final = re.compile(rb'File "([^"]*)"')


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """One process.

    Attributes:
        title: what it is.
        began: when it did, as the kernel says: ids are used again.
        megabytes: that are its own.
    """

    title: str
    began: float
    megabytes: float


def look(processes: list[psutil.Process]) -> dict[int, ProcessMemory]:
    """The processes now, by id."""
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            words = process.cmdline() or [process.name()]
            title = " ".join(word.rpartition("/")[2] for word in words)[:60]
            memory = process.memory_full_info().uss / 1e6
            found[process.pid] = ProcessMemory(title, process.create_time(), memory)
    return found


def find_ends(before: Mapping[int, ProcessMemory], now: Mapping[int, ProcessMemory]) -> list[str]:
    """The processes that have ended since, by title."""
    return [
        f"{one.title} ({pid}) has ended"
        for pid, one in before.items()
        if pid not in now or now[pid].began != one.began
    ]


def find_growth(
    before: Mapping[int, ProcessMemory], now: Mapping[int, ProcessMemory]
) -> list[tuple[float, str]]:
    """Megabytes that each process has grown by, the most first."""
    grown = [
        (now[pid].megabytes - one.megabytes, one.title) for pid, one in before.items() if pid in now
    ]
    return sorted(grown, reverse=True)


def count_series(metrics: str) -> int:
    """Series of metrics in Prometheus' text form."""
    return sum(bool(line) and not line.startswith("#") for line in metrics.splitlines())


def bytes_of(files: list[Path]) -> int:
    """Of all these files that are there."""
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def find_tracebacks(files: list[Path]) -> Iterator[str]:
    """What was written of what nothing foresaw, each once."""
    seen = set[bytes]()
    for file in files:
        with contextlib.suppress(OSError):
            for found in _TRACEBACK.findall(file.read_bytes()):
                places = _PLACE.findall(found)
                if places and all(b"/site-packages/ray/" in place for place in places):
                    continue  # Ray's own affair
                last = found.rpartition(b"\n")[2]
                if last not in seen:
                    seen.add(last)
                    yield f"{file.name}: {found.decode(errors='replace')[-1500:]}"
