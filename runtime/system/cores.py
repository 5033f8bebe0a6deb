"""The processor's cores that this process may use, and how many processes may share them."""

from __future__ import annotations

import os
from typing import Final

MAX_PROCESSES: Final = 64
"""Of one ``wakeful run``."""


def usable_cores() -> int:
    """Their number: of a container that is held to some of the machine's cores, those. macOS does
    not say which a process may use: all.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
