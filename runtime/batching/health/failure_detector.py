"""When a loaded function is no longer trusted to answer.

One failed batch proves nothing: its rows may be at fault, and a client may send a thousand such
rows. So several batches in a row without an answer are a reason to *test* the function on what it
answered before it was ready, and only that test decides that it is broken.
"""

from __future__ import annotations

import math

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
