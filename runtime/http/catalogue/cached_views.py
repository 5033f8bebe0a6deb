"""What is shown of all functions at once: the index, metrics, statistics.

To make it takes a process time for each function, and any client may ask for it, as often as it
likes, of processes that answer calls or decide on placement. So what was made is shown again for as
long as makes that time a small part of the process's. Of few functions it is made for each request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sized
from typing import Any, Final, Generic, TypeVar

LONGEST_S: Final = 1.0
"""How long a view is shown at most."""

FEW: Final = 64
"""Functions of which it is made for each request."""

FUNCTION_S: Final = 0.001
"""How long it is shown for each of more functions: it takes 10 to 20 us to write one."""

SHORT_BYTES: Final = 64 << 10
"""Likewise of a text."""

BYTE_S: Final = 1e-6
"""Likewise: it takes 50 ns to write one of the metrics."""

MOST_TEXTS: Final = 16
"""Of one view: of all of it, and of parts that keys see."""

T = TypeVar("T")
S = TypeVar("S", bound=Sized)


def entries_last_s(functions: Sized) -> float:
    """How long a view of so many functions is shown."""
    count = len(functions)
    return 0.0 if count <= FEW else min(LONGEST_S, count * FUNCTION_S)


def text_lasts_s(text: bytes) -> float:
    """How long a text is shown."""
    return 0.0 if len(text) <= SHORT_BYTES else min(LONGEST_S, len(text) * BYTE_S)


class CachedView(Generic[T]):
    """What is shown, and made again once it has been shown for as long as it may be. Requests at
    the same time share one. Used on one event loop.

    Args:
        make: makes it.
        lasts_s: how long it is shown, in seconds.

    Mutable state: ``_made`` (what is being made, or was made last) and ``_until`` (when that is not
    shown any more, on the clock of ``time.monotonic``).
    """

    def __init__(self, make: Callable[[], Awaitable[T]], lasts_s: Callable[[T], float]) -> None:
        self._make = make
        self._lasts_s = lasts_s
        self._made: asyncio.Future[T] | None = None
        self._until = 0.0

    async def read(self) -> T:
        """Return what is shown.

        Raises:
            Exception: as of ``make``; the next request has it made again.
        """
        made = self._made
        if made is None or (made.done() and time.monotonic() >= self._until):
            made = self._made = asyncio.get_running_loop().create_task(self._remade())
            made.add_done_callback(_retrieve_exception)
        return await asyncio.shield(made)  # others may wait for it

    def forget(self) -> None:
        """A client has changed what is shown: the next request sees it."""
        self._made = None

    async def _remade(self) -> T:
        self._until = 0.0
        made = await self._make()
        if self._made is asyncio.current_task():
            self._until = time.monotonic() + self._lasts_s(made)
        return made


def _retrieve_exception(made: asyncio.Future[T]) -> None:
    if not made.cancelled():
        made.exception()


class CachedText(Generic[S]):
    """The text of a view, written once for each that was made: all of it, and what keys see of it.

    Args:
        write: of the view, and by which a part of it is chosen (None: it is all wanted).

    Mutable state: ``_of``, the last view, and ``_texts``, by what was chosen.
    """

    def __init__(self, write: Callable[[S, Any], bytes]) -> None:
        self._write = write
        self._of: S | None = None
        self._texts: dict[Hashable, bytes] = {}

    def text_of(self, view: S, seen: Hashable = None) -> bytes:
        """Return the text of what is seen; None: of all."""
        if view is not self._of:
            self._of, self._texts = view, {}
        text = self._texts.get(seen)
        if text is None:
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            text = self._texts[seen] = self._write(view, seen)
        return text
