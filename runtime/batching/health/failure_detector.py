"""When a loaded function is no longer trusted to answer.

One failed batch proves nothing: its rows may be at fault, and a client may send a thousand such
rows. So several batches in a row without an answer are a reason to *test* the function on what it
answered before it was ready, and only that test decides that it is broken.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from runtime.batching.calls import Row
from runtime.errors import DeviceLost, FunctionError

FAILING = 5
"""Batches in a row without an answer, after which the function is tested. Not fewer: poisoned rows
come in groups.
"""

RETEST_S = 10.0
"""Time between two tests: a client that sends only poisoned rows makes the function run one row
more in ten seconds.
"""


class FailureDetector:
    """Counts the batches of one segment in which no row was answered.

    Mutable state: ``failing`` (how many in a row), ``_tested`` (when the last test was due).
    Workers that share a function write both without a lock: a lost count delays a test by one
    batch.
    """

    __slots__ = ("_tested", "failing")

    def __init__(self) -> None:
        self.failing = 0
        self._tested = -math.inf

    def record_batch(self, answered: bool, now: float) -> bool:
        """Counts a batch; returns whether the function is to be tested after it."""
        self.failing = 0 if answered else self.failing + 1
        if self.failing < FAILING or now - self._tested < RETEST_S:
            return False
        self.failing, self._tested = 0, now
        return True


class FailureWatch:
    """Tells when a function is suspected to answer no more.

    Args:
        segments: how many it has.
        loop: the event loop that is told.

    Attributes:
        detectors: by segment. Each belongs to the thread that runs a batch of the segment.
        on_suspected_failure: called on the event loop when several batches have answered no row:
            with the reason, if it is sure that none will; with an empty one if that is to be
            tested.
    """

    def __init__(self, segments: int, loop: asyncio.AbstractEventLoop) -> None:
        self.detectors = [FailureDetector() for _ in range(segments)]
        self.on_suspected_failure: Callable[[str], None] = ignore_failure
        self._loop = loop

    def record(self, index: int, rows: Sequence[Row], now: float) -> None:
        """Counts a batch of a segment whose rows have been run, and tells if they are a reason."""
        lost = next((row.error.message for row in rows if isinstance(row.error, DeviceLost)), "")
        answered = not all(isinstance(row.error, FunctionError) for row in rows)
        if self.detectors[index].record_batch(answered, now) or lost:
            self._loop.call_soon_threadsafe(self.on_suspected_failure, lost)


def ignore_failure(reason: str) -> None:
    """Of a function that nothing tests, or that is closed."""
