"""Bodies in flight take room, of which there is so much: what finds none is refused before it is read.

A body is counted from before its first byte is read (by Content-Length, or as it comes) until its call is answered, in the room of
its function and in the room of its process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime.admission import bytes_refusal


class Room:
    """So many bytes at once.

    Args:
        most: gives how many; asked each time, since limits change while a function runs.

    Mutable state: ``held``.
    """

    def __init__(self, most: Callable[[], float]) -> None:
        self.most = most
        self.held = 0

    def __repr__(self) -> str:
        return f"<Room: {self.held} of {self.most():.0f} bytes held>"


class Parcel:
    """What one body takes.

    Args:
        rooms: every room that it stands in.
        wait_s: gives the seconds after which a caller who finds none may come again.

    Mutable state: ``size``, in each of the rooms' ``held`` as well.
    """

    __slots__ = ("_rooms", "_wait_s", "size")

    def __init__(self, rooms: Sequence[Room], wait_s: Callable[[], float]) -> None:
        self._rooms = rooms
        self._wait_s = wait_s
        self.size = 0

    def grow_to(self, size: int) -> None:
        """Takes what it lacks of so many bytes.

        Raises:
            Overloaded: a room has not that much left; nothing is taken.
        """
        more = size - self.size
        if more <= 0:
            return
        for room in self._rooms:
            if room.held + more > room.most():
                refused = bytes_refusal(room.held, self.size, more, room.most(), self._wait_s())
                if refused is not None:
                    raise refused
        for room in self._rooms:
            room.held += more
        self.size = size

    def end(self) -> None:
        """Gives everything back. Idempotent."""
        for room in self._rooms:
            room.held -= self.size
        self.size = 0
