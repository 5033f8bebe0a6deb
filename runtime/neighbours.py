"""Functions of one library call each other in its process: no hop, and their rows share batches with those of every other caller."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

from runtime.batching.rows import Ask
from runtime.callees import LOADING_S
from runtime.coldstart import ColdStart
from runtime.errors import WakefulError
from runtime.holding import Holding


class Wakes(Protocol):
    """A library, as far as it is needed here; see ``runtime.library``."""

    async def awake(self, name: str, *, arrived: float | None, timeout_s: float | None) -> Holding: ...
    def answered(self, holding: Holding) -> ColdStart | None: ...
    def leave(self, holding: Holding, began: float) -> None: ...


class Neighbours:
    """Callees that are declared in the same library, and woken there if they sleep; see ``runtime.callees.Callees``."""

    def __init__(self, library: Wakes) -> None:
        self._library = library

    async def call(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask) -> Sequence[dict[str, Any] | WakefulError]:
        """See ``Callees``. Raises as ``Library.awake`` and ``Function.run``."""
        began = time.monotonic()
        wait_s = ask.timeout_s if math.isfinite(ask.timeout_s) else LOADING_S
        holding = await self._library.awake(name, arrived=began, timeout_s=wait_s)
        try:
            assert holding.function is not None
            left = ask._replace(timeout_s=ask.timeout_s - (time.monotonic() - began))
            outcomes, _ = await holding.function.call_rows(rows, left, as_values=True)
            self._library.answered(holding)
            return outcomes
        finally:
            self._library.leave(holding, began)

    async def close(self) -> None:
        """Nothing is held here."""
