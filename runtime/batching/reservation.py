"""Counts the memory that rows take in addition to their body, in the same budgets as bodies; what
does not fit is refused with the same 429.

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

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

LEAST_BYTES: Final = 64 << 10


class Account(Protocol):
    """The bytes that are counted for one call; safe to use from any thread.

    ``add`` takes bytes for a row that has ``own`` already, or gives some back if they are negative;
    it raises ``Overloaded`` and takes nothing where a budget has too little left. ``part`` makes
    an account for a call that is made by rows which have ``own`` bytes. ``end`` gives back all that
    an account holds.
    """

    def add(self, more: int, own: int) -> None: ...
    def part(self, own: int) -> Account: ...
    def end(self) -> None: ...


class AccountedRow(Protocol):
    """A row, or what counts as one.

    Attributes:
        account: of its call; None: nothing is counted.
        held: bytes of the account that are the row's.
    """

    held: int

    @property
    def account(self) -> Account | None: ...


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
