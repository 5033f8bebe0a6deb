"""Runs large work off the event loop.

orjson holds the interpreter's lock while it parses, 3 ms for each MiB of numbers; all that is done
with the parsed text afterwards (checks, conversions) lets other threads run. So large bodies and
answers are read and written in a thread, and other calls' deadlines and answers do not wait.

A process has two threads for it, one for long work and one for all other, so that a body of 64 MiB
never keeps one of 400 kB waiting. In each, functions take turns, so neither do many bodies of one
function those of another. More threads would finish no sooner: Python computes in one at a time,
and each that wants to keeps the event loop waiting for longer. A thread is not interrupted: work
that a stranger can make long looks at its deadline itself (``deadline_check``).

The event loop asks for the interpreter's lock each time that it has slept, and the thread that
computes gives it up after Python's switch interval. With 5 ms, the default, beside two threads that
read forms the loop came 77 ms late in one of a hundred times, and with 1 ms 18 ms.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from runtime.batching.reservation import BodyReservation
from runtime.errors import TooLarge
from runtime.http.request_headers import RequestDeadline
from runtime.protocol.json_text import json_weight

LARGE_BYTES: Final = 256 << 10
"""Work for a body of this size or more is done in a thread. At 256 KiB of JSON numbers reading
takes 1.5 ms, the way into a thread and back a tenth of one.
"""

LONG_BYTES: Final = 2 << 20
"""Work for a body of this size or more is long: reading takes 20 ms and more."""

SWITCH_S: Final = 0.001
"""Switch interval of the interpreter while large work runs; see the module's docstring."""

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


class TurnQueue(Generic[Item]):
    """Items that wait. Their owners take turns, and the items of one leave in their order.

    Mutable state: ``_waiting``, the items of each owner that has some, in the order of turns.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, dict[Item, None]] = {}

    def put(self, owner: Hashable, item: Item) -> None:
        """Add an item."""
        self._waiting.setdefault(owner, {})[item] = None

    def take(self) -> Item | None:
        """Remove and return the next item; None: there is none."""
        if not self._waiting:
            return None
        owner = next(iter(self._waiting))
        items = self._waiting.pop(owner)
        item = next(iter(items))
        del items[item]
        if items:
            self._waiting[owner] = items
        return item

    def remove(self, owner: Hashable, item: Item) -> None:
        """Remove an item, if it still waits."""
        items = self._waiting.get(owner, {})
        items.pop(item, None)
        if not items:
            self._waiting.pop(owner, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """``done`` gets what ``run`` returns, or its error."""

    run: Callable[[], Any]
    done: asyncio.Future[Any]


class _QuickSwitches:
    """Lowers the interpreter's switch interval while it is entered, from any thread.

    Mutable state, under ``_lock``: how often it is entered, and the interval before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._usual_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._entered:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_S)
            self._entered += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                sys.setswitchinterval(self._usual_s)


_SWITCHES: Final = _QuickSwitches()
"""The interval is the interpreter's, so there is one of these."""


class _WorkThread:
    """Runs one piece of work at a time. Used on one event loop.

    Mutable state: ``_waiting``; ``_is_busy``, also with work that is not waited for any more.
    """

    def __init__(self) -> None:
        self._waiting = TurnQueue[_Work]()
        self._is_busy = False

    async def run(
        self, owner: Hashable, deadline: RequestDeadline, work: Callable[[], Result]
    ) -> Result:
        """Return what ``work`` returns. Raises as of ``Offloader.run``."""
        piece = _Work(work, asyncio.get_running_loop().create_future())
        self._waiting.put(owner, piece)
        try:
            self._begin_next()
            # not ``asyncio.timeout``: a short call that has a long answer has no task
            await asyncio.wait((piece.done,), timeout=deadline.remaining_s(time.monotonic()))
            if not piece.done.done():
                raise deadline.expired_error()
            result: Result = piece.done.result()
            return result
        finally:
            piece.done.cancel()
            self._waiting.remove(owner, piece)  # its body is given back before its turn comes

    def _begin_next(self) -> None:
        if self._is_busy or (piece := self._waiting.take()) is None:
            return
        running = asyncio.get_running_loop().run_in_executor(None, _run_quickly, piece.run)
        self._is_busy = True

        def on_end(ended: asyncio.Future[Any]) -> None:
            self._is_busy = False
            error = ended.exception()
            if piece.done.done():
                pass  # its client has disconnected, or its deadline has passed
            elif error is not None:
                piece.done.set_exception(error)
            else:
                piece.done.set_result(ended.result())
            self._begin_next()

        running.add_done_callback(on_end)


def _run_quickly(work: Callable[[], Result]) -> Result:
    with _SWITCHES:
        return work()


class OffloadThreads:
    """The threads of a process for large work, by its size. Used on one event loop."""

    def __init__(self) -> None:
        self._short, self._long = _WorkThread(), _WorkThread()

    def choose(self, size: int) -> _WorkThread:
        """Return the one for work of this size."""
        return self._long if size >= LONG_BYTES else self._short


class Offloader:
    """Runs the large work of one owner, which has its turns in the threads.

    Args:
        threads: the process's; None: there is no other owner.
        owner: that others may run work for as well; None: this one.
    """

    def __init__(
        self, threads: OffloadThreads | None = None, owner: Hashable | None = None
    ) -> None:
        self._threads = threads or OffloadThreads()
        self._owner = owner

    async def run(self, size: int, deadline: RequestDeadline, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns: run in a thread if it is large, else here and at once.

        Args:
            size: bytes of JSON that take as long to read or write.

        Raises:
            DeadlineExceeded: the deadline passed before it was done.
        """
        if size < LARGE_BYTES:
            return work()
        return await self._threads.choose(size).run(self._owner or self, deadline, work)


def deadline_check(deadline: RequestDeadline) -> Callable[[], None]:
    """Return what raises DeadlineExceeded once the deadline has passed; for any thread."""

    def check() -> None:
        if deadline.remaining_s(time.monotonic()) <= 0:
            raise deadline.expired_error()

    return check


async def reserve_json_memory(
    text: bytes | memoryview,
    size: int,
    limit: int,
    reservation: BodyReservation,
    offloader: Offloader,
    deadline: RequestDeadline,
) -> None:
    """Count what JSON takes in memory once it is read, in addition to its body.

    Args:
        size: of the body, which it is a part of.
        limit: bytes that both may take.

    Raises:
        TooLarge: more than that.
        Overloaded: more than the budgets have left.
        DeadlineExceeded: as of ``Offloader.run``.
    """
    more = await offloader.run(len(text), deadline, lambda: json_weight(bytes(text), limit - size))
    if size + more > limit:
        raise TooLarge(
            f"read, the JSON takes some {more >> 20} MiB of memory; {limit} bytes are held at "
            "once. Send it in parts, or to a function as binary data, or raise its "
            "limits.max_ongoing_bytes."
        )
    reservation.extend_to(size + more)
