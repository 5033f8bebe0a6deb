"""Bounds the bytes of bodies in memory, and joins them.

A body is counted as it arrives, until its call is answered, in the budget of its function and in
that of the process; so are the values that its stages make of it
(``runtime.batching.reservation``), from worker threads. When a budget is exhausted the request is
refused with 429. The Content-Length only refuses: a client that declares a large body and sends
nothing takes no memory from others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Final

from runtime.errors import TooLarge
from runtime.execution.admission import bytes_rejection

_LOCK: Final = threading.RLock()
"""Guards the counts of all budgets: a reservation counts in several, and takes its bytes from each
or from none.
"""


class ByteBudget:
    """Bounds the bytes that bodies, and what is made of them, hold at once.

    Args:
        limit: returns the bound; called each time, since limits change while a function runs.

    Mutable state: ``held`` (all bytes); ``derived``, those of them that stages made of bodies.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self.limit = limit
        self.held = self.derived = 0

    def __repr__(self) -> str:
        return f"<ByteBudget: {self.held} of {self.limit():.0f} bytes held>"


class BodyReservation:
    """The bytes of one call: its body, and what is made of it. Implements
    ``runtime.batching.reservation.Account``; safe to use from any thread.

    Args:
        budgets: every budget that it counts in.
        retry_after_s: returns the seconds after which a refused client may call again.
        parent: the reservation that it is a part of, which takes what this one takes; None: it
            counts in the budgets itself.

    Mutable state: ``size``, and ``derived`` of it, in the ``held`` and ``derived`` of each budget
    as well; ``_has_ended``.
    """

    __slots__ = (
        "_budgets",
        "_has_ended",
        "_parent",
        "_parent_bytes",
        "_retry_after_s",
        "derived",
        "size",
    )

    def __init__(
        self,
        budgets: Sequence[ByteBudget],
        retry_after_s: Callable[[], float],
        parent: BodyReservation | None = None,
    ) -> None:
        self._budgets = budgets
        self._retry_after_s = retry_after_s
        self._parent = parent
        self.size = self.derived = 0
        self._parent_bytes = 0
        self._has_ended = False

    def extend_to(self, size: int) -> None:
        """Reserve what the body lacks of so many bytes.

        Raises:
            Overloaded: a budget has not that much left; nothing is reserved.
        """
        with _LOCK:
            more = size - self.size
            if more > 0 and not self._has_ended:
                self.require(size)
                self._change(more, 0)

    def require(self, size: int) -> None:
        """Check that so many bytes would fit now; reserve nothing.

        Raises:
            Overloaded: they would not.
        """
        for budget in self._budgets:
            self._require(budget, size - self.size, self.size)

    def add(self, more: int, own: int) -> None:
        """Reserve bytes for what is made of one of its rows; give some back if they are negative.

        The only row of which something is made always fits, so that of many rows one after the
        other is answered. Nothing is reserved once the reservation has ended: a stage may still run
        for a client that disconnected.

        Args:
            more: bytes.
            own: bytes that are counted of this row already.

        Raises:
            Overloaded: a budget has not that much left; nothing is reserved.
        """
        with _LOCK:
            if self._has_ended:
                return
            for budget in self._budgets:
                if more > 0 and budget.derived > own:
                    self._require(budget, more, 0)
            if self._parent is not None:
                self._parent.add(more, self._parent_bytes + own)
            self._change(more, more)

    def part(self, own: int) -> BodyReservation:
        """Return a reservation for a call that rows of this one make, which ends before this one.

        Args:
            own: bytes that are counted of these rows already.
        """
        part = BodyReservation((), self._retry_after_s, self)
        part._parent_bytes = own
        return part

    def end(self) -> None:
        """Give everything back. Idempotent. The function is let go of, too: a worker may hold the
        rows of an answered call a moment longer, and a function that is unloaded in it would stay
        until the next garbage collection.
        """
        with _LOCK:
            self._has_ended = True
            if self._parent is not None:
                self._parent.add(-self.derived, 0)
            self._change(-self.size, -self.derived)
            self._budgets, self._retry_after_s = (), _ended_s

    def _require(self, budget: ByteBudget, more: int, own: int) -> None:
        if budget.held + more > budget.limit():
            rejection = bytes_rejection(
                budget.held, own, more, budget.limit(), self._retry_after_s()
            )
            if rejection is not None:
                raise rejection

    def _change(self, more: int, derived: int) -> None:
        for budget in self._budgets:
            budget.held += more
            budget.derived += derived
        self.size += more
        self.derived += derived


def _ended_s() -> float:
    return 1.0


def too_large_error(max_body_bytes: int) -> TooLarge:
    """Return the error of a body that is too large."""
    return TooLarge(
        f"the body is larger than the {max_body_bytes} bytes of limits.max_body_bytes; "
        "send it in parts."
    )


JOIN_IN_THREAD_BYTES: Final = 4 << 20
"""A body of this size or more is joined in a thread: 64 MiB take 20 to 50 ms, most of them for the
pages of new memory.
"""


async def join(chunks: Sequence[bytes], size: int) -> bytes:
    """Return the chunks of a body of this size as one."""
    if len(chunks) <= 1:
        return chunks[0] if chunks else b""
    joined = b"".join  # of a megabyte and more it lets other threads run
    if size < JOIN_IN_THREAD_BYTES:
        return joined(chunks)
    return await asyncio.get_running_loop().run_in_executor(None, joined, chunks)
