"""Large bodies and answers are read and written beside the event loop, so that other calls' deadlines and answers do not wait.

orjson holds the interpreter's lock while it parses, 3 ms for each MiB of numbers; all that is done with the parsed text afterwards
(checks, conversions) lets others run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

from runtime.http.patience import Patience

LARGE_BYTES: Final = 256 << 10
"""Bodies from here on. At 256 KiB of JSON numbers reading takes 1.5 ms, the way into a thread and back a tenth of one."""

Made = TypeVar("Made")


class Aside:
    """One large piece of work at a time.

    Mutable state: ``_turn``, held by the work that runs, also after its caller has left: a thread is not interrupted.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore()

    async def run_if(self, is_large: bool, patience: Patience, work: Callable[[], Made]) -> Made:
        """What ``work`` makes: in a thread if it is large, else here and at once. Raises as ``run``."""
        return await self.run(patience, work) if is_large else work()

    async def run(self, patience: Patience, work: Callable[[], Made]) -> Made:
        """What ``work`` makes, in a thread.

        Raises:
            DeadlineExceeded: the caller's time was over before it was done.
        """
        try:
            async with asyncio.timeout(patience.left_s(time.monotonic())):
                await self._turn.acquire()
                done = asyncio.get_running_loop().run_in_executor(None, work)
                done.add_done_callback(lambda _: self._turn.release())
                return await asyncio.shield(done)
        except TimeoutError:
            raise patience.over() from None
