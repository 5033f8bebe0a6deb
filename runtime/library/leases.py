"""The requests that use one function, and those that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque

MAX_LATENCIES = 256
"""Calls whose duration is kept for the 95th percentile."""


class Leases:
    """A request that has a lease uses the function, which is not unloaded meanwhile. Used on the
    event loop only.

    Attributes:
        count: requests that use the function.
        waiting_callers: callers that wait for its load.
        last_used: when a request of it has ended last, or its load; seconds, ``time.monotonic``.
        release_requested_at: when the placement controller asked to unload it as soon as it is
            idle; None: it did not. A call that begins later cancels that.
        latencies: of the latest calls, when each ended and the seconds that it took; None: of none.

    Mutable state: these attributes; ``_all_released``, set when the last lease ends, while an
    unload waits for that.
    """

    __slots__ = (
        "_all_released",
        "count",
        "last_used",
        "latencies",
        "release_requested_at",
        "waiting_callers",
    )

    def __init__(self) -> None:
        self.count = self.waiting_callers = 0
        self.last_used = 0.0
        self.release_requested_at: float | None = None
        self.latencies: deque[tuple[float, float]] | None = None
        self._all_released: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Leases: {self.count}, {self.waiting_callers} waiting>"

    @property
    def is_used(self) -> bool:
        """Whether a request uses the function or waits for it."""
        return bool(self.count or self.waiting_callers)

    def acquire(self) -> None:
        """A request begins to use the function."""
        self.count += 1

    def release(self, began: float, *, is_timed: bool = False) -> None:
        """A request has ended.

        Args:
            began: when it began, seconds of ``time.monotonic``.
            is_timed: how long it took says how soon calls are answered.
        """
        self.count -= 1
        self.last_used = now = time.monotonic()
        if self.release_requested_at is not None and began > self.release_requested_at:
            self.release_requested_at = None
        if self._all_released is not None and not self.count:
            self._all_released.set()
        if is_timed:
            if self.latencies is None:
                self.latencies = deque(maxlen=MAX_LATENCIES)
            self.latencies.append((now, now - began))

    async def wait_for_load(self, task: asyncio.Task[None], until: float) -> bool:
        """Wait for a load as one of its waiting callers.

        Returns:
            False if it is not done at ``until``, seconds of ``time.monotonic``; the load goes on.

        Raises:
            WakefulError: the load failed.
        """
        self.waiting_callers += 1
        try:
            timeout_s = max(0.0, until - time.monotonic())
            await asyncio.wait((task,), timeout=timeout_s if timeout_s < math.inf else None)
            if task.done() and not task.cancelled():
                task.result()
            return task.done()
        finally:
            self.waiting_callers -= 1

    def request_release(self) -> None:
        """Unload it as soon as it is idle; a call that begins later cancels that."""
        self.release_requested_at = time.monotonic()

    def cancel_release(self) -> None:
        """It is not to be unloaded as soon as it is idle."""
        self.release_requested_at = None

    def end_load(self, now: float) -> None:
        """A load has ended: its idle time counts from now on."""
        self.last_used = now

    def begin_unload(self) -> None:
        """What was asked for and seen of what was loaded is over; requests may still use it."""
        self.latencies = self.release_requested_at = None

    async def wait_until_released(self, timeout_s: float) -> None:
        """Wait until no request uses the function, at most ``timeout_s``."""
        if not self.count:
            return
        self._all_released = asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._all_released.wait()
        finally:
            self._all_released = None
