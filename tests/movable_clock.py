"""A clock that a test moves: what takes a minute is over at once, and nothing is late before."""

from __future__ import annotations

import time


class MovableClock:
    """``time.monotonic`` of this process, which a test moves ahead.

    The timers of asyncio's loop go by it and are due at the loop's next turn, so a coroutine moves
    it, in the thread of the loop. Those of uvloop do not, nor do waits of threads and of other
    processes.
    """

    def __init__(self) -> None:
        self._read = time.monotonic
        self._ahead_s = 0.0

    def __call__(self) -> float:
        """Seconds, as ``time.monotonic``."""
        return self._read() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Moves it ahead."""
        self._ahead_s += seconds
