"""The beat of a process that serves functions: it tells their owner what they do, and is told in return what to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

logger = logging.getLogger("wakeful.beat")

BEAT_S: Final = 1.0
"""Between two beats. One costs both sides a millisecond or two; every second is often enough to decide by, and 0.3 % of a core."""

SOON_S: Final = 0.1
"""Least time between two beats when something has changed: a hundred functions that wake at once are told of together."""

ANSWER_S: Final = 5.0
"""Longest wait for the owner. It may be starting, restarting or busy deploying; the next beat tells all of it again."""

Words = dict[str, Any]
"""Plain data that crosses between processes: see ``placement`` for what it says."""


class Beat:
    """Tells ``say()`` to the owner at once, whenever ``soon`` is called, and every second; passes what it answers to ``hear``.

    Args:
        owner: the application that owns placement; empty when there is none, and nobody is told.

    Mutable state: ``_handle`` to the owner, from when it was found until it does not answer; ``_changed``, set by ``soon``.
    """

    def __init__(self, owner: str, say: Callable[[], Words], hear: Callable[[Words], None]) -> None:
        self._owner = owner
        self._say = say
        self._hear = hear
        self._handle: DeploymentHandle[Any] | None = None
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="beat") if owner else None

    def soon(self) -> None:
        """Something has changed that the owner should know before the next second."""
        self._changed.set()

    async def close(self) -> None:
        """No beat begins any more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                said = await asyncio.wait_for(self._tell(), ANSWER_S)
                self._hear(said)
            except (RayServeException, TimeoutError) as error:
                self._handle = None
                logger.info("the owner of placement does not answer: %s", error or "too slow")
            except Exception:  # whatever Ray raises for an owner that died; this task must outlive it
                self._handle = None
                logger.warning("a beat failed; the next one tells all of it again", exc_info=True)
            await asyncio.sleep(SOON_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), BEAT_S - SOON_S)

    async def _tell(self) -> Words:
        if self._handle is None:  # it asks the controller, and waits for that
            self._handle = await asyncio.to_thread(serve.get_app_handle, self._owner)
        answer: Words = await self._handle.heard.remote(self._say())
        return answer
