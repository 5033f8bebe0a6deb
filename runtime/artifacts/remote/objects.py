"""What is asked of a file that lies elsewhere, whatever it lies on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class Interrupted(Exception):
    """The file did not come, or not whole, and may if it is asked for again.

    Args:
        reason: a clause: ``the connection was lost``.
        after_s: how long the other side asks to wait; 0: it does not say.
    """

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class OpenedObject:
    """A file that has begun to come.

    Attributes:
        begin: the first byte that comes.
        size_bytes: of the whole file; None: the other side does not say.
        mark: changes with the file (an ETag, a generation); empty: there is none, and what has come
            cannot be continued.
        chunks: its bytes from ``begin`` on. Raises ``Interrupted`` or ``StoreError``.
    """

    begin: int
    size_bytes: int | None
    mark: str
    chunks: Iterator[bytes]


class RemoteObject(Protocol):
    """A file that lies elsewhere."""

    def open(self, begin: int, mark: str) -> AbstractContextManager[OpenedObject]:
        """Begin to read it.

        Args:
            begin: from this byte on, if it is still the file of that mark; from its first byte if
                not.

        Raises:
            StoreError: it is not there or not allowed; the message says what to do.
            Interrupted: it may be later.
        """
        ...
