"""Which plain stages wait for others, and should have threads of their own (``StageThreads``)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Final, Protocol

logger = logging.getLogger("wakeful.function")

LONG_S: Final = 0.1
"""Seconds of a batch from which on it is looked at: shorter ones keep few rows waiting, and a look
takes a microsecond.
"""

COMPUTED: Final = 0.05
"""Part of a batch's time that a stage which waits computes at most. A stage that computes has less
than all of it where other threads want the CPU, or the interpreter: of sixteen, a sixteenth.
"""

SEEN: Final = 3
"""Batches that waited, after which it is said."""


class WatchedSegment(Protocol):
    """What must be known of a segment to watch it.

    Attributes:
        is_python: it has Python stages only.
        on_loop: it runs on the event loop.
        threads: of its own; 0: workers run it.
    """

    @property
    def name(self) -> str: ...
    @property
    def is_python(self) -> bool: ...
    @property
    def on_loop(self) -> bool: ...
    @property
    def threads(self) -> int: ...


class WaitWatch:
    """Says once in the log that a plain stage waits while rows wait for it.

    Mutable state: ``_left``, by segment the batches that have still to be seen; ``_cpu_s``, what a
    thread had computed when it was last looked at. Written by workers without a lock: a lost count
    delays a line of the log.
    """

    def __init__(self, function: str, segments: Iterable[WatchedSegment]) -> None:
        self._function = function
        self._names = {
            index: one.name
            for index, one in enumerate(segments)
            if one.is_python and not (one.on_loop or one.threads)
        }
        self._left = dict.fromkeys(self._names, SEEN)
        self._cpu_s: dict[int, float] = {}

    def record(self, index: int, seconds: float, behind: int) -> None:
        """In a worker thread, after a batch that took ``LONG_S`` or more.

        What the thread has computed since the last look is the most that it can have computed for
        this batch, so no other batch pays for a look at the clock.

        Args:
            behind: rows that wait for a worker.
        """
        thread, cpu_s = threading.get_ident(), time.thread_time()
        before = self._cpu_s.get(thread)
        self._cpu_s[thread] = cpu_s
        if before is None or index not in self._left:
            return
        if not is_waiting(seconds, cpu_s - before, behind):
            return
        self._left[index] -= 1
        if not self._left[index]:
            del self._left[index]
            logger.warning(
                "%s: stage %r waits: a batch took %.2f s, %.3f s of them to compute, while %d rows "
                "waited for it. With `threads: 16` on the stage so many of its rows wait at once "
                "(docs/stages.md, stages that wait).",
                self._function,
                self._names[index],
                seconds,
                cpu_s - before,
                behind,
            )


def is_waiting(seconds: float, cpu_s: float, behind: int) -> bool:
    """Whether a batch of so many seconds, of which ``cpu_s`` at most were computed, waited while
    rows waited for it.
    """
    return behind > 0 and seconds >= LONG_S and cpu_s <= COMPUTED * seconds
