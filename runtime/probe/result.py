"""What a probe found out about one function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Probe:
    """One function, loaded once in a process of its own.

    Attributes:
        name: the function's.
        memory_bytes: memory of its own (anonymous) that it adds, loaded and warmed up, to a process that has its modules imported: what
            cannot be taken back while it is loaded. 0: not known.
        mapped_bytes: pages of files, its prepared models' weights, that it adds beside that: part of a process's resident memory, but
            the system takes them back when memory is short, and all processes with the same model share them.
        gpu_memory_mb: that it takes of a GPU, context and warm-up included. 0: not measured, as where there is none.
        load_s: seconds by phase of the load; ``import`` is what its modules take the first time.
        error: why it cannot be loaded, in words, with the last of what it wrote; empty for a function that loads.
        skipped: why nothing was tried; empty otherwise.
        cached: nothing was run, since a former probe of the same still holds.
        took_s: seconds that this probe took, its process included.
    """

    name: str
    memory_bytes: int = 0
    mapped_bytes: int = 0
    gpu_memory_mb: int = 0
    load_s: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    skipped: str = ""
    cached: bool = False
    took_s: float = 0.0
