"""Bounds the memory that calls take: their bodies, and what is made of them. What does not fit is
refused with 429.

A body is counted as it arrives, until its call is answered, in the budget of its function and in
that of the process. The Content-Length only refuses: a client that declares a large body and sends
nothing takes no memory from others.

A small body may become large: 131 kB of PNG are a picture of 160 MB. A stage reserves what it is
about to take (``reserve``); that counts until its segment has run. The values that the stages of a
segment have given are measured after it (``large_bytes``), and count until a later segment drops
them or the call is answered. So a call counts with its body, with its values while it waits, and
with what a stage is making of them. Values of less than ``LEAST_BYTES`` do not count: the number of
rows bounds those.

What would break it: a row's ``held`` changed by two threads at once. A row is in one place at a
time; a stage that reserves from threads of its own at the same time may have too much counted until
its call is answered, or too little until its segment has run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol

from runtime.errors import Overloaded

LEAST_BYTES: Final = 64 << 10

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
    """The bytes of one call: its body, and what is made of it. Safe to use from any thread.

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


def bytes_rejection(
    held: int, own: int, more: int, most: float, wait_s: float
) -> Overloaded | None:
    """Why ``more`` bytes of a call are not taken now; None when they are.

    A call that has the budget to itself is always admitted: how large a body may be is limited
    elsewhere.

    Args:
        held: bytes of bodies, and of what is made of them, in the budget, this call's included.
        own: bytes of this call.
        most: bytes that the budget holds.
        wait_s: becomes ``Retry-After``.
    """
    if held == own or held + more <= most:
        return None
    return Overloaded(
        f"{held} bytes of bodies and of what is made of them are held and {more} more are wanted, "
        f"{most:.0f} are held at once. Call again in {wait_s:.0f} s, "
        "or raise limits.max_ongoing_bytes.",
        retry_after_s=wait_s,
    )


class AccountedRow(Protocol):
    """A row, or what counts as one.

    Attributes:
        account: of its call; None: nothing is counted.
        held: bytes of the account that are the row's.
    """

    held: int

    @property
    def account(self) -> BodyReservation | None: ...


CURRENT_ROW: Final[ContextVar[AccountedRow | None]] = ContextVar("current_row", default=None)
"""The row that a stage is called for; the first one of a stage that takes all rows. Worker threads
reset it after each call: an idle thread must not keep a row's values.
"""


def reserve(size: int) -> None:
    """Counts ``size`` bytes that the calling stage is about to take, until it has run. Outside a
    call it does nothing.

    A row is always admitted while no other row takes memory: the stage itself must bound what one
    row may take.

    Args:
        size: bytes, as well as they are known beforehand: width x height x 4 of a picture, by its
            header. Negative, they are given back.

    Raises:
        Overloaded: together with other calls it is more than ``limits.max_ongoing_bytes`` or the
            budget of the process. Do not catch it: the row is answered 429, and may be sent again.
    """
    row = CURRENT_ROW.get()
    if row is not None:
        set_held(row, max(0, row.held + size))


def set_held(row: AccountedRow, size: int) -> None:
    """Sets the bytes that are counted for the row.

    Raises:
        Overloaded: see ``reserve``; the row holds what it held.
    """
    account = row.account
    if account is not None and size != row.held:
        account.add(size - row.held, row.held)
        row.held = size


def large_bytes(values: Mapping[str, Any], names: Iterable[str]) -> int:
    """Bytes of a row's large values, of these names."""
    return sum(
        size
        for name in names
        if name in values and (size := _bytes_of(values[name])) >= LEAST_BYTES
    )


def _bytes_of(value: Any) -> int:
    kind = type(value)
    if kind is bytes or kind is str:
        return len(value)
    if kind is list:
        return sum(map(_array_bytes, value)) if value and _array_bytes(value[0]) else 0
    return _array_bytes(value)


def _array_bytes(value: Any) -> int:
    """Bytes of an array of any library; 0 for anything else."""
    size = getattr(value, "nbytes", 0)
    return size if type(size) is int else 0
