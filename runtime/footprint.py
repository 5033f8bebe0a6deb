"""What a process holds of the machine's memory: its own, and pages of files that the system may take back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory.

    Attributes:
        own_bytes: anonymous memory: heaps, stacks, tensors.
        mapped_bytes: pages of mapped files, code of libraries and weights of prepared models among them: shared between processes,
            and given up when memory is short. 0 where the system does not tell them apart (not Linux), and all is own.
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
        return Footprint(max(0, self.own_bytes - before.own_bytes), max(0, self.mapped_bytes - before.mapped_bytes))


def mapped_of(files: Collection[Path], smaps: Path = Path("/proc/self/smaps")) -> int:
    """Resident bytes of the pages of certain files that this process has mapped; costs milliseconds. 0 where the system does not tell."""
    names = {str(file.resolve()) for file in files}
    found, is_one = 0, False
    try:
        with smaps.open(errors="replace") as lines:
            for line in lines:
                if line.startswith("Rss:"):
                    found += int(line.split()[1]) * 1024 if is_one else 0
                elif not line[:1].isupper():  # the head of the next mapping; fields begin with a capital
                    is_one = line.rstrip("\n").split(maxsplit=5)[-1] in names
    except OSError:
        return 0
    return found
