"""When a function that is loaded can no longer be trusted to answer: rules of what its batches did and how long a worker was away.

One failed batch says nothing: its rows may be at fault, and a caller may send a thousand such rows. So batches in a row that answered
nobody are a reason to *test* the function on what it answered before it was ready, and only that test says that it is broken.
"""

from __future__ import annotations

import math

FAILING = 5
"""Batches in a row without an answer, after which the function is tested. Not fewer: poisoned rows come in groups."""

AGAIN_S = 10.0
"""Time between two tests: a caller who sends nothing but poisoned rows makes the function run one row more in ten seconds."""

HUNG_S = 30.0
"""A worker that comes back from a batch within this time is slow; calls may ask for less time than their function is allowed."""


class Doubt:
    """Counts the batches of one segment that answered nobody.

    Mutable state: ``failing`` (how many in a row), ``_tested`` (when it was last said to test). Workers that share a function write both
    without a lock: a count that is lost puts off a test by one batch.
    """

    __slots__ = ("_tested", "failing")

    def __init__(self) -> None:
        self.failing = 0
        self._tested = -math.inf

    def hears(self, answered: bool, now: float) -> bool:
        """Whether the function is to be tested after this batch."""
        self.failing = 0 if answered else self.failing + 1
        if self.failing < FAILING or now - self._tested < AGAIN_S:
            return False
        self.failing, self._tested = 0, now
        return True


def is_hung(began: float, timeout_s: float, now: float) -> bool:
    """Whether a worker that took a batch at ``began`` will not come back.

    Args:
        timeout_s: ``request_timeout_s`` of the function; whoever is in the batch has waited as long once the time is over twice.
    """
    return now - began > max(2 * timeout_s, HUNG_S)
