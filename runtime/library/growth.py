"""What a function's memory has grown by since it was loaded: a leak, a cache, buffers of large
batches.

The system counts memory by process, and a process has many functions. So it is looked at each
second, and what the process has grown by in between is a function's if its code alone ran
meanwhile. What was added while several ran, while one was loaded or unloaded, or while none ran,
is no function's, unless there is only one. A function that gives memory back while it runs alone
counts less again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


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
