"""Which functions are awake without calls: those that an operator has pinned, and those
within the hours of ``autoscaling.awake``; and the operator's load and unload.

``Residency`` does it for the library of one process; on Ray the placement controller does, by the
same decisions (``deployments.placement.cluster_repository``).
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from runtime.declaration.awake_hours import is_awake
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, RequestError, Unavailable
from runtime.library.library import FunctionLibrary

TICK_S: Final = 1.0
"""Between two looks at the clock: hours are in minutes."""

LOAD_WAIT_S: Final = 60.0
"""Longest wait of a request to load; the load goes on."""

UNLOAD_WAIT_S: Final = 10.0
"""Longest wait of a request to unload for the calls under way."""

POLL_S: Final = 0.02


class FunctionRepository(Protocol):
    """What the repository routes do (``runtime.http.catalogue.app``). Each takes the name of a
    function and raises a ``WakefulError``: ``NotFound``, or why it cannot be done.
    """

    async def load(self, name: str) -> None:
        """Return when it is loaded."""

    async def unload(self, name: str) -> None:
        """Have it sleep now; return when it does. Its next call wakes it."""

    async def pin(self, name: str) -> None:
        """Load it, and keep it loaded until ``unpin``."""

    async def unpin(self, name: str) -> None:
        """Let it sleep as it is declared."""


def why_kept(spec: FunctionSpec, pinned: Collection[str], now: float) -> str:
    """Return why a function is to be awake without calls, in words; empty: it may sleep.

    Args:
        pinned: names.
        now: seconds since the epoch.
    """
    if spec.name in pinned:
        return f"it is pinned; `wakeful pin --off {spec.name}` ends that"
    if is_awake(spec.autoscaling.awake, now):
        return f"autoscaling.awake keeps it awake now: {spec.autoscaling.awake}"
    return ""


def kept_names(
    specs: Iterable[FunctionSpec], pinned: Collection[str], now: float
) -> frozenset[str]:
    """Return the names of the functions that are to be awake without calls."""
    return frozenset(spec.name for spec in specs if why_kept(spec, pinned, now))


def require_may_sleep(spec: FunctionSpec, pinned: Collection[str], now: float) -> None:
    """Raise the reason why a function must not sleep now.

    Raises:
        RequestError: with status 409.
    """
    why = why_kept(spec, pinned, now)
    if not why and spec.autoscaling.min_replicas:
        why = f"autoscaling.min_replicas is {spec.autoscaling.min_replicas}"
    if why:
        raise RequestError(f"{spec.name!r} does not sleep: {why}.", status=409)


def still_busy_error(name: str) -> Unavailable:
    """Return the error of an unload that calls have kept from being done."""
    return Unavailable(
        f"{name!r} is in use, by calls or live sequences, and stays loaded: it was not idle once "
        f"in {UNLOAD_WAIT_S:g} s.",
        retry_after_s=1,
    )


class Residency:
    """Implements ``FunctionRepository`` for a library. Used on its event loop.

    Args:
        clock: seconds since the epoch.

    Mutable state: ``_pinned`` (names).
    """

    def __init__(self, library: FunctionLibrary, clock: Callable[[], float] = time.time) -> None:
        self._library = library
        self._clock = clock
        self._pinned: set[str] = set()

    async def run(self) -> None:
        """Look at the clock, and at the library, again and again; run until cancelled."""
        while True:
            self.apply()
            self._library.observe()
            await asyncio.sleep(TICK_S)

    def apply(self) -> None:
        """Have the functions kept awake that are to be."""
        specs = self._library.entries.specs
        self._pinned &= specs.keys()
        kept = kept_names(specs.values(), self._pinned, self._clock())
        self._library.keep_awake(kept, self._pinned)

    async def load(self, name: str) -> None:
        """See ``FunctionRepository``. Raises as ``FunctionLibrary.get_loaded``."""
        try:
            async with asyncio.timeout(LOAD_WAIT_S):
                await self._library.load(name)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{name!r} has not loaded within {LOAD_WAIT_S:g} s; the load goes on.",
                retry_after_s=1,
            ) from None

    async def unload(self, name: str) -> None:
        """See ``FunctionRepository``.

        Raises:
            NotFound: no such function is declared.
            RequestError: it is to be awake (409).
            Unavailable: it was still waking, or not idle, in time.
        """
        self._require_may_sleep(name)
        entries, until = self._library.entries, time.monotonic() + UNLOAD_WAIT_S
        while entries.require(name).state.state == "waking":
            if time.monotonic() > until:
                raise Unavailable(
                    f"{name!r} has been waking for {UNLOAD_WAIT_S:g} s, and cannot sleep before it "
                    "has.",
                    retry_after_s=1,
                )
            await asyncio.sleep(POLL_S)
        # what a later call loads again is another object; this one is not kept in memory from here
        loaded = entries.require(name).function
        found = None if loaded is None else weakref.ref(loaded)
        del loaded

        def is_loaded() -> bool:
            return found is not None and entries.require(name).function is found() is not None

        while is_loaded() or entries.require(name).state.state == "draining":
            if time.monotonic() > until:
                raise still_busy_error(name)
            self._require_may_sleep(name)  # a pin, or the hours, may have begun meanwhile
            self._library.unload_when_idle(name)
            await asyncio.sleep(POLL_S)

    async def pin(self, name: str) -> None:
        """See ``FunctionRepository``. It stays pinned if the load fails, and is loaded again.

        Raises:
            WakefulError: as ``load``.
        """
        self._library.entries.require(name)
        self._pinned.add(name)
        try:
            await self.load(name)
        finally:
            self.apply()

    async def unpin(self, name: str) -> None:
        """See ``FunctionRepository``.

        Raises:
            NotFound: no such function is declared.
        """
        self._library.entries.require(name)
        self._pinned.discard(name)
        self.apply()

    def _require_may_sleep(self, name: str) -> None:
        spec = self._library.entries.require(name).spec
        require_may_sleep(spec, self._pinned, self._clock())
