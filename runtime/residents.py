"""Who holds memory in this process: room is made for one more, the longest idle leave first, and what they held goes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from runtime import lifecycle, memory
from runtime.errors import NoRoom
from runtime.footprint import Footprint
from runtime.function import Function
from runtime.holding import Holding
from runtime.metrics import Metrics

UNLOAD_TIMEOUT_S = 30.0
"""How long an unload waits for what the function has accepted."""

ROOM_WAIT_S = 2.0
"""Who is busy is mostly idle again within milliseconds, so a wake waits this long for room before it is refused."""

ROOM_POLL_S = 0.02
"""How often it looks meanwhile."""

LEAST_WAIT_S = 0.05
"""Who is idle is looked for no more often than this, whatever the delays are."""


class Residents:
    """The functions of a library that are awake.

    Args:
        budget_bytes: what they may hold together; None: as much as there is.
        metrics: are told of unloads.
        on_change: hears the name of a function whose state has changed.

    Mutable state, on the event loop only: ``_awake`` (whoever is loaded, being loaded or being unloaded), ``_stirred`` (set when
    the next to sleep may be another than was thought).
    """

    def __init__(self, budget_bytes: int | None, metrics: Metrics, on_change: Callable[[str], None]) -> None:
        self._budget = budget_bytes
        self._metrics = metrics
        self._on_change = on_change
        self._awake: set[Holding] = set()
        self._stirred = asyncio.Event()
        self._at_birth = Footprint.of().own_bytes

    def __iter__(self) -> Iterator[Holding]:
        return iter(tuple(self._awake))

    def __len__(self) -> int:
        return len(self._awake)

    def used_bytes(self) -> int:
        """What this process holds beyond what it held before it had functions."""
        return max(0, Footprint.of().own_bytes - self._at_birth)

    def stir(self) -> None:
        """Delays or functions have changed."""
        self._stirred.set()

    async def admit(self, holding: Holding) -> None:
        """Makes room and keeps it, until ``leave`` or an unload: unloads idle ones, and waits until their memory is back.

        Raises:
            NoRoom: it does not fit beside those that are busy.
        """
        self._awake.add(holding)
        until = time.monotonic() + ROOM_WAIT_S
        while isinstance(found := self.room(holding), NoRoom):
            if time.monotonic() > until or self._budget is None or holding.bytes > self._budget:
                raise found
            await asyncio.sleep(ROOM_POLL_S)
        holding.is_admitted = True
        leaving = [task for idle in found if (task := self.unload(idle, "room")) is not None]
        if leaving:
            await asyncio.wait(leaving)
        while self._budget is not None and self._accounted() > self._budget and (closing := [h.closing for h in self._awake if h.closing]):
            await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)

    def room(self, holding: Holding) -> tuple[Holding, ...] | NoRoom:
        """Who is to leave so that it fits; all of them can."""
        if self._budget is None:
            return ()
        others = [h for h in self._awake if h is not holding and (h.is_admitted or h.function is not None)]
        excess = max(0, self.used_bytes() - self._accounted())
        found = lifecycle.room(
            holding.bytes, self._budget, [h.held() for h in others], name=f"the function {holding.name!r}", excess=excess
        )
        return found if isinstance(found, NoRoom) else tuple(h for h in others if h.name in found and h.function is not None)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more fit without anybody leaving."""
        return self._budget is None or max(self.used_bytes(), self._accounted()) + size <= self._budget

    def _accounted(self) -> int:
        return sum(h.bytes for h in self._awake if h.is_admitted or h.function is not None or h.closing is not None)

    def leave(self, holding: Holding) -> None:
        """It is not loaded after all."""
        holding.is_admitted = False
        if holding.closing is None and holding.function is None:
            self._awake.discard(holding)

    def unload(self, holding: Holding, why: str) -> asyncio.Task[None] | None:
        """Takes the function away from new callers now; what it accepted is answered, then its memory goes back.

        Args:
            why: ``idle``, ``room``, ``released``, ``changed``, ``quarantined``, ``broken`` or ``closed``, for the metrics.

        Returns:
            The task that does it; None when nothing is loaded.
        """
        function, holding.function = holding.function, None
        if function is None:
            return holding.closing
        holding.app = holding.latencies = holding.waking = holding.released_at = None
        holding.is_admitted = False
        self._metrics.unloads.labels(why).inc()
        holding.closing = asyncio.create_task(self._close(holding, [function]), name=f"unload {holding.name}")
        self._on_change(holding.name)
        return holding.closing

    async def _close(self, holding: Holding, owned: list[Function]) -> None:
        """``owned`` is emptied here: nobody else may keep the function alive."""
        try:
            if holding.leases:
                holding.idle = asyncio.Event()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(holding.idle.wait(), UNLOAD_TIMEOUT_S)
            await owned[0].close(UNLOAD_TIMEOUT_S)
            await asyncio.to_thread(_free, owned)
        finally:
            holding.idle = holding.closing = None
            holding.changed_at = time.monotonic()
            self.leave(holding)
            self._on_change(holding.name)

    async def keep(self) -> None:
        """Unloads who has been idle for its delay; runs until it is cancelled, and sleeps while nobody is due."""
        while True:
            self._stirred.clear()
            loaded = {h.name: h for h in self._awake if h.function is not None}
            held = [h.held() for h in loaded.values()]
            delays = {h.name: 0.0 if h.released_at is not None else h.spec.autoscaling.downscale_to_zero_delay_s for h in loaded.values()}
            now = time.monotonic()
            for name in lifecycle.sleepy(held, delays, now):
                self.unload(loaded[name], "idle" if loaded[name].released_at is None else "released")
                del loaded[name]
            wait_s = lifecycle.due([h.held() for h in loaded.values() if not h.declared.stays], delays, now) - now
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), max(LEAST_WAIT_S, wait_s) if loaded and wait_s < float("inf") else None)


def _free(owned: list[Function]) -> None:
    """In a thread: closing a session takes milliseconds."""
    owned.clear()
    memory.give_back()
