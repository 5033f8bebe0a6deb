"""Lines in the order of arrival, though calls end in another. Pure.

A call is told when it is over, and another that arrived later may have been told before. Lines are
held for a while, and leave in order; what comes later than that leaves at once, out of order, and
is sorted where a capture is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import NamedTuple


class TimedLine(NamedTuple):
    """A line, and when its call arrived, seconds since the epoch."""

    at: float
    line: bytes


class ReorderBuffer:
    """The lines of one file on their way.

    Args:
        window_s: how long a line is held from its call's arrival.

    Attributes:
        size: bytes of the lines that it holds.

    Mutable state: ``_held`` (a heap; of equal times what came first leaves first), ``size``.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._held: list[tuple[float, int, bytes]] = []
        self._numbers = count()
        self.size = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, lines: Iterable[TimedLine]) -> None:
        """Hold these."""
        for at, line in lines:
            heapq.heappush(self._held, (at, next(self._numbers), line))
            self.size += len(line)

    def take(self, now: float) -> list[TimedLine]:
        """Return those whose time has come, in order; infinity: all.

        Args:
            now: seconds since the epoch.
        """
        left: list[TimedLine] = []
        # of the future: the clock was set back
        while self._held and not now - self._window_s < self._held[0][0] <= now + self._window_s:
            at, _, line = heapq.heappop(self._held)
            self.size -= len(line)
            left.append(TimedLine(at, line))
        return left
