"""What one row gives item by item, between those who compute it and the one caller who waits for it.

Theory of operation: the row waits in its segment's queue like any other, and leaves it for one item at a time. After an item it waits
again, unless ``BUFFER`` items have not been taken yet: then it is *parked*, in no queue, and whoever takes an item brings it back. So a
caller who reads slowly costs no worker, and many streams share the workers by turns. What a coroutine yields comes another way: it
runs on the event loop to its end, and waits there for room.

A parked row is put back exactly once: ``goes_on`` parks it as the last thing that its worker does with it, and who unparks it clears
the mark under the same lock. The source is closed by whoever the row leaves the batcher with, so nobody runs it at that time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

logger = logging.getLogger("wakeful.function")

BUFFER: Final = 8
"""Items that are computed ahead of the caller: enough for his network to be busy while a worker is, and little to throw away."""

Item = dict[str, Any]
"""Values by name, as of an answer."""


class Stream:
    """One caller's.

    Args:
        loop: the event loop that its caller waits on.
        request_id: names the call in the log.

    Attributes:
        source: the stage's generator, from its first turn to its end; of a coroutine's, ``pump``, which runs it, and is cancelled when
            nobody takes any more.
        has_begun, has_ended: whether ``source`` has had its first turn, and its last.
        count: items given.
        is_over: nobody takes any more, or nothing more comes.

    Mutable state, under ``_lock``: ``_items`` (given and not taken), ``_resume`` (set while the row is parked), ``_is_told`` (the loop has
    been asked to wake the caller). On the event loop only: ``is_over``, ``pump``, ``_news`` and ``_room`` (what is waited for). ``source``,
    ``has_begun``, ``has_ended`` belong to whoever runs the row.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, request_id: str = "") -> None:
        self.source: Iterator[Any] = iter(())
        self.pump: asyncio.Future[None] | None = None
        self.has_begun = False
        self.has_ended = False
        self.count = 0
        self.is_over = False
        self._loop = loop
        self._request_id = request_id
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._resume: Callable[[], None] | None = None
        self._is_told = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def __repr__(self) -> str:
        parked = ", parked" if self._resume is not None else ""
        return f"<Stream: {self.count} items given, {len(self._items)} wait{parked}{', over' if self.is_over else ''}>"

    # Whoever computes: a worker thread, or a coroutine on the event loop.

    def begin(self, source: Iterator[Any]) -> None:
        """The first turn."""
        self.source, self.has_begun = source, True

    def end(self) -> None:
        """Nothing comes after the last item."""
        self.has_ended = True

    def give(self, item: Item) -> None:
        """One more; in any thread."""
        with self._lock:
            self._items.append(item)
            self.count += 1
            if self._is_told:
                return
            self._is_told = True
        self._loop.call_soon_threadsafe(self._news.set)

    def goes_on(self, resume: Callable[[], None]) -> bool:
        """Whether its row is to wait for the next item now. If not, it is parked, and ``resume`` is called once when it is.

        The last thing that is done with the row by who has it.
        """
        with self._lock:
            if len(self._items) < BUFFER or self.is_over:
                return True
            self._resume = resume
            return False

    def close(self) -> None:
        """Ends the generator, where it has not ended: its ``finally`` runs here, in the thread that the row leaves with. Idempotent."""
        source, self.source = self.source, iter(())
        if not hasattr(source, "close"):
            return
        try:
            source.close()
        except BaseException:  # a user's `finally`; there is nobody left to be told but the log
            logger.exception("request %s: the stream's generator failed while it was closed", self._request_id)

    async def has_room(self) -> None:
        """For a coroutine: waits until an item may be given."""
        while len(self._items) >= BUFFER:
            self._room.clear()
            await self._room.wait()

    # Whoever waits, on the event loop.

    async def take(self) -> list[Item]:
        """All items that are there, at least one; none when ``finish`` was called and all have been taken."""
        while True:
            with self._lock:
                items = list(self._items)
                self._items.clear()
                self._is_told = False
                self._news.clear()
                resume, self._resume = self._resume, None
            if items:
                self._room.set()
                if resume is not None:
                    resume()
                return items
            if self.is_over:
                return []
            await self._news.wait()

    def finish(self) -> None:
        """No more comes, or nobody takes more: a parked row goes back to its queue, which throws it out. Idempotent."""
        with self._lock:
            self.is_over = True
            resume, self._resume = self._resume, None
        self._news.set()
        self._room.set()
        if resume is not None:
            resume()
        if self.pump is not None:
            self.pump.cancel()
