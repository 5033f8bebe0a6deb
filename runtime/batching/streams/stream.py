"""The items of one row, between the threads that compute them and the one consumer that takes them.

Theory of operation: the row waits in its segment's queue like any other, and leaves it for one item
at a time. After an item it waits again, unless ``BUFFER`` items have not been taken yet: then it is
*parked*, in no queue, until the consumer takes an item. So a client that reads slowly costs no
worker, and many streams share the workers fairly. An asynchronous generator runs on the event loop
to its end, and waits there for space. The elements of an ``each`` are rows of their own, and give
an item each (``runtime.batching.streams.elements``).

A parked row is put back exactly once: ``should_continue`` parks it as the last thing that its
worker does with it, and the consumer clears ``_resume`` under the same lock. The thread with which
the row leaves the batcher closes the source, so the source does not run at that time.
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
"""Items that are computed ahead of the consumer: enough to keep the client's network busy while a
worker is, and few to throw away.
"""

Item = dict[str, Any]
"""Values by name, as in an answer."""


class Stream:
    """The items of one call.

    Args:
        loop: the event loop that the consumer runs on.
        request_id: names the call in the log.

    Attributes:
        source: the stage's generator, from its first item to its end. For an asynchronous
            generator it is ``pump``, the task that runs it, cancelled when the stream is closed.
        has_begun, has_ended: whether ``source`` has been started, and has ended.
        count: items put.
        is_closed: no more items are taken, or none follow.

    Mutable state, under ``_lock``: ``_items`` (put and not taken), ``_resume`` (set while the row
    is parked), ``_is_signalled`` (the loop has been asked to wake the consumer). On the event loop
    only: ``is_closed``, ``pump``, ``_has_items`` and ``_has_space`` (events that are waited for).
    ``source``, ``has_begun``, ``has_ended`` belong to the thread that runs the row.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, request_id: str = "") -> None:
        self.source: Iterator[Any] = iter(())
        self.pump: asyncio.Future[None] | None = None
        self.has_begun = False
        self.has_ended = False
        self.count = 0
        self.is_closed = False
        self._loop = loop
        self._request_id = request_id
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._resume: Callable[[], None] | None = None
        self._is_signalled = False
        self._has_items = asyncio.Event()
        self._has_space = asyncio.Event()

    def __repr__(self) -> str:
        parked = ", parked" if self._resume is not None else ""
        closed = ", closed" if self.is_closed else ""
        return f"<Stream: {self.count} items put, {len(self._items)} wait{parked}{closed}>"

    # The producer's side: a worker thread, or a coroutine on the event loop.

    def begin(self, source: Iterator[Any]) -> None:
        """The generator is started."""
        self.source, self.has_begun = source, True

    def end(self) -> None:
        """No item follows the last one."""
        self.has_ended = True

    def put(self, item: Item) -> None:
        """Adds an item; in any thread."""
        with self._lock:
            self._items.append(item)
            self.count += 1
            if self._is_signalled:
                return
            self._is_signalled = True
        self._loop.call_soon_threadsafe(self._has_items.set)

    @property
    def unread(self) -> int:
        """Items that wait for the consumer."""
        return len(self._items)

    def on_taken(self, resume: Callable[[], None]) -> bool:
        """Calls this once on the event loop when items have been taken, or none are any more;
        returns whether it will: not if none wait to be.
        """
        with self._lock:
            if self.is_closed or not self._items:
                return False
            self._resume = resume
            return True

    def should_continue(self, resume: Callable[[], None]) -> bool:
        """Whether the row is to wait for its next item now. If not, the row is parked, and
        ``resume`` is called once when there is space for the next item.

        It must be the last thing that the worker does with the row.
        """
        with self._lock:
            if len(self._items) < BUFFER or self.is_closed:
                return True
            self._resume = resume
            return False

    def close_source(self) -> None:
        """Closes the generator if it has not ended: its ``finally`` runs here, in the thread that
        the row leaves with. Idempotent. Nothing happens while another thread is in it: that one
        does not come back, and closes it if it does (``OpenStreams.close_sources``).
        """
        if getattr(self.source, "gi_running", False):
            return
        source, self.source = self.source, iter(())
        if not hasattr(source, "close"):
            return
        try:
            source.close()
        except BaseException:  # of a user's `finally`; only the log can have it now
            logger.exception(
                "request %s: the stream's generator failed while it was closed", self._request_id
            )

    async def wait_for_space(self) -> None:
        """For a coroutine: waits until an item may be put."""
        while len(self._items) >= BUFFER:
            self._has_space.clear()
            await self._has_space.wait()

    # The consumer's side, on the event loop.

    async def take(self) -> list[Item]:
        """All items that are there, at least one; none after ``close``, when all have been
        taken.
        """
        while True:
            with self._lock:
                items = list(self._items)
                self._items.clear()
                self._is_signalled = False
                self._has_items.clear()
                resume, self._resume = self._resume, None
            if items:
                self._has_space.set()
                if resume is not None:
                    resume()
                return items
            if self.is_closed:
                return []
            await self._has_items.wait()

    def close(self) -> None:
        """No more items follow, or none are taken: a parked row goes back to its queue, which drops
        it. Idempotent.
        """
        with self._lock:
            self.is_closed = True
            resume, self._resume = self._resume, None
        self._has_items.set()
        self._has_space.set()
        if resume is not None:
            resume()
        if self.pump is not None:
            self.pump.cancel()
