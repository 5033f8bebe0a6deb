"""The one load of a sleeping function that all its callers wait for: room, a slot, the load, and what is learnt from how it went."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime import lifecycle
from runtime.coldstart import ColdStart, Waking
from runtime.errors import LoadError, NoRoom, WakefulError
from runtime.function import Function
from runtime.holding import Holding
from runtime.metrics import Metrics
from runtime.residents import Residents
from runtime.settings import Settings
from runtime.speaker import SPEAKER
from runtime.spec import identity

if TYPE_CHECKING:
    from runtime.batching.workers import Workers
    from runtime.callees import Callees
    from runtime.witness import Witness

logger = logging.getLogger("wakeful.wake")


class Flights:
    """Loads for a library, at most one a core at once: more would only slow each other and the calls of others.

    Args:
        residents: where room is made.
        settings: where models are.
        workers: the threads that functions share.
        witness: is told of loads under way.
        callees: who answers for the functions that functions call.
        metrics: are told how each went.
        on_change: hears the name of a function whose state has changed, or whose cold start was recorded.

    Mutable state, on the event loop only: ``_slots``, and ``_loading`` (loads that have a slot).
    """

    def __init__(
        self,
        residents: Residents,
        settings: Settings,
        *,
        workers: Workers,
        witness: Witness | None,
        callees: Callees,
        metrics: Metrics,
        on_change: Callable[[str], None],
    ) -> None:
        self._residents = residents
        self._settings = settings
        self._workers = workers
        self._witness = witness
        self._callees = callees
        self._metrics = metrics
        self._on_change = on_change
        self._slots = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._loading = 0

    def begin(self, holding: Holding, arrived: float, asked: float) -> asyncio.Task[None]:
        """The load of a function that has none under way; ``arrived`` and ``asked`` as in ``Waking``."""
        waking = Waking(holding.name, time.time(), arrived, asked)
        holding.flight = asyncio.create_task(self._fly(holding, waking), name=f"load {holding.name}")
        holding.flight.add_done_callback(_seen)
        self._on_change(holding.name)
        return holding.flight

    async def _fly(self, holding: Holding, waking: Waking) -> None:
        SPEAKER.set(holding.name)
        try:
            while holding.closing is not None:
                await asyncio.wait((holding.closing,))
            await self._residents.admit(holding)
            # Whoever calls others may wake them by its first run, and must not hold a slot that they need.
            async with contextlib.nullcontext() if holding.spec.calls else self._slots:
                holding.function = await self._load(holding, waking)
        except Exception as error:
            raise self._failed(holding, error) from error
        finally:
            holding.flight = None
            if holding.function is None:
                self._residents.leave(holding)
            holding.last_used = holding.changed_at = time.monotonic()
            self._on_change(holding.name)
        self._succeeded(holding, waking)

    async def _load(self, holding: Holding, waking: Waking) -> Function:
        self._loading += 1
        alone, before = self._loading == 1, self._residents.used_bytes()
        waking.began = time.monotonic()
        try:
            with self._witness.loading(holding.name) if self._witness is not None else contextlib.nullcontext():
                function = await Function.load(
                    holding.spec, self._settings, workers=self._workers, warm_up=not holding.is_tried, callees=self._callees
                )
            waking.loaded, waking.load_s = time.monotonic(), function.load_s
            if (
                not holding.bytes and alone and self._loading == 1 and not holding.spec.calls
            ):  # two loads at once cannot be told from each other
                holding.bytes = max(0, self._residents.used_bytes() - before)
                await self._refuse_if_too_large(holding, function)
        finally:
            self._loading -= 1
        return function

    async def _refuse_if_too_large(self, holding: Holding, function: Function) -> None:
        """What a function holds that nobody had probed is known only now."""
        found = self._residents.room(holding)
        if isinstance(found, NoRoom):
            await function.close(1.0)
            raise found
        for idle in found:
            self._residents.unload(idle, "room")

    def _succeeded(self, holding: Holding, waking: Waking) -> None:
        function = holding.function
        assert function is not None
        holding.loads += 1
        holding.version = identity(function.spec)
        holding.code = function.origin.code
        holding.is_tried = True
        holding.load_s = waking.loaded - waking.began
        holding.failures, holding.reason = 0, ""
        holding.waking = waking
        if function.spec is not holding.spec:
            function.retune(holding.spec)
        function.vitals.on_trouble = lambda: self._broken(holding)
        if not holding.waiting:
            self.finish(holding, None)
        if holding.is_retired or holding.refused:
            self._residents.unload(holding, "changed" if holding.is_retired else "quarantined")
        self._residents.stir()

    def _broken(self, holding: Holding) -> None:
        """A function that was loaded cannot answer any more: it is loaded anew at once, first runs included."""
        if holding.function is None:  # on its way out already
            return
        now = time.monotonic()
        holding.is_tried = False
        self._residents.unload(holding, "broken")
        self.begin(holding, now, now)

    def finish(self, holding: Holding, answered: float | None) -> ColdStart | None:
        """Records a cold start with its first answer, sent at ``answered``; None when that has been done."""
        waking, holding.waking = holding.waking, None
        if waking is None:
            return None
        record = holding.last_wake = waking.done(answered)
        self._metrics.wakes.labels("ok").inc()
        for phase, seconds in {**record.phases, "total": record.total_s}.items():
            self._metrics.wake_s.labels(phase).observe(seconds)
        speaker = SPEAKER.set(holding.name)  # in the caller's task, which speaks for nobody
        logger.log(logging.DEBUG if answered is None else logging.INFO, "%s", record)  # whoever loads without a caller says so himself
        SPEAKER.reset(speaker)
        self._on_change(holding.name)
        return record

    def _failed(self, holding: Holding, error: Exception) -> WakefulError:
        """The error its callers get; a load that failed is not tried again at once."""
        if isinstance(error, NoRoom):
            self._metrics.wakes.labels("no_room").inc()
            logger.warning("%s does not wake: %s", holding.name, error)
            return error
        holding.failures += 1
        wait_s = lifecycle.backoff_s(holding.failures)
        holding.retry_at = time.monotonic() + wait_s
        told = error.message if isinstance(error, WakefulError) else f"{type(error).__name__}: {error}"
        holding.reason = f"{holding.name!r} did not load: {told}"
        self._metrics.wakes.labels("failed").inc()
        logger.warning("%s; tried again on the first call after %g s", holding.reason, wait_s, exc_info=_unforeseen(error))
        return LoadError(holding.reason, retry_after_s=wait_s)


def _unforeseen(error: Exception) -> Exception | None:
    return None if isinstance(error, WakefulError) else error


def _seen(flight: asyncio.Task[None]) -> None:
    """A failure that no caller waited for any more is no surprise to asyncio; the log has it."""
    if not flight.cancelled():
        flight.exception()
