"""What is measured of the functions of a process: their loads, and what their memory has grown by
since: a leak, a cache, buffers of large batches.

The system counts memory by process, and a process has many functions. So it is looked at each
second, and what the process has grown by in between is a function's if its code alone ran
meanwhile. What was added while several ran, while one was loaded or unloaded, or while none ran,
is no function's, unless there is only one. A function that gives memory back while it runs alone
counts less again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from runtime.library.cold_start import ColdStart, ColdStartTimer


class LoadMeasurements:
    """What is known of the loads of one function, and of what it holds. Used on the event loop
    only.

    Attributes:
        version: the ``version_hash`` of what is, or was last, loaded; empty before the first load.
        memory_bytes: what loading it adds to a process; 0 when it is unknown.
        is_measured: a load of it has been measured; it may have taken nothing.
        grown_bytes: what its memory has grown by since its load, as far as it can be told.
        loads: how often it was loaded.
        load_s: seconds its last load took; 0 when it was never loaded.
        last_cold_start: the record of the last one.

    Mutable state: these attributes; ``_cold_start``, the one whose first response has not been
    sent.
    """

    __slots__ = (
        "_cold_start",
        "grown_bytes",
        "is_measured",
        "last_cold_start",
        "load_s",
        "loads",
        "memory_bytes",
        "version",
    )

    def __init__(self, memory_bytes: int) -> None:
        self.version = ""
        self.memory_bytes = memory_bytes
        self.is_measured = False
        self.grown_bytes = 0
        self.loads = 0
        self.load_s = 0.0
        self.last_cold_start: ColdStart | None = None
        self._cold_start: ColdStartTimer | None = None

    @property
    def is_size_known(self) -> bool:
        """Whether ``memory_bytes`` was measured, here or by the preflight."""
        return self.is_measured or self.memory_bytes > 0

    @property
    def grown_to_bytes(self) -> int:
        """What it holds while it is loaded, as far as it can be told."""
        return self.memory_bytes + self.grown_bytes

    @property
    def expected_load_s(self) -> float:
        """Seconds after which a client that retries probably finds it loaded."""
        return max(1.0, self.load_s)

    @property
    def has_cold_start(self) -> bool:
        """Whether the first response after a load has still to be sent."""
        return self._cold_start is not None

    def declare_memory(self, size: int) -> None:
        """The preflight has measured so many bytes; 0: it has not."""
        self.memory_bytes = size or self.memory_bytes

    def record_memory(self, size: int) -> None:
        """Its load has added so many bytes to the process."""
        self.memory_bytes, self.is_measured = size, True

    def record_growth(self, size: int) -> None:
        """Its memory has grown by so many bytes, or shrunk, since that was last looked at."""
        self.grown_bytes = max(0, self.grown_bytes + size)

    def record_load(self, version: str, timer: ColdStartTimer) -> None:
        """A load has succeeded."""
        self.version = version
        self.grown_bytes = 0
        self.loads += 1
        self.load_s = timer.loaded - timer.began
        self._cold_start = timer

    def finish_cold_start(self, answered: float | None) -> ColdStart | None:
        """Record the cold start with its first response, sent at ``answered`` (seconds of
        ``time.monotonic``; None: no client waits for one). None when it is recorded already.
        """
        timer, self._cold_start = self._cold_start, None
        if timer is None:
            return None
        self.last_cold_start = timer.finish(answered)
        return self.last_cold_start

    def drop_cold_start(self) -> None:
        """The function is unloaded before its first response."""
        self._cold_start = None


class Activity(NamedTuple):
    """What tells whether a function's code has run between two looks: calls that it has accepted,
    calls under way, seconds of worker threads.
    """

    total_calls: int
    calls: int
    busy_s: float

    def has_run_since(self, before: Activity) -> bool:
        """Whether it has."""
        is_new = (self.total_calls, self.busy_s) != (before.total_calls, before.busy_s)
        return bool(is_new or self.calls or before.calls)


class Look(NamedTuple):
    """One look at a process: the bytes that it holds, and its loaded functions by name.

    Attributes:
        loads: changes with each load and unload.
    """

    used_bytes: int
    functions: Mapping[str, Activity]
    loads: object


def growth_between(before: Look, after: Look) -> tuple[str, int]:
    """The function that the growth between two looks is of, and the bytes, below 0 where it gave
    some back; an empty name: it is none's.
    """
    grown = after.used_bytes - before.used_bytes
    if before.loads != after.loads or before.functions.keys() != after.functions.keys():
        return "", 0
    if len(after.functions) == 1:
        return next(iter(after.functions)), grown
    ran = [
        name
        for name, activity in after.functions.items()
        if activity.has_run_since(before.functions[name])
    ]
    return (ran[0], grown) if len(ran) == 1 else ("", 0)
