"""The wire format of protobuf, read without its library: the fields of a message, one level of it
at a time.

Source: protobuf's *Encoding*.
"""

from __future__ import annotations

from collections.abc import Iterator


class Message:
    """The fields of a protobuf message, one level of it.

    Args:
        data: the message. A field that is itself a message is a part of it, read when it is asked
            for.

    Raises:
        ValueError: it is no message.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        position, end = 0, len(data)
        while position < end:
            key, position = _read_integer(data, position)
            value: int | memoryview
            match key & 7:
                case 0:
                    value, position = _read_integer(data, position)
                case 1 | 5 as kind:
                    size = 8 if kind == 1 else 4
                    value, position = data[position : position + size], position + size
                case 2:
                    size, position = _read_integer(data, position)
                    if size < 0:  # it would lead back, and for ever
                        raise ValueError("a length in it is below 0")
                    value, position = data[position : position + size], position + size
                case kind:
                    raise ValueError(f"a field of wire type {kind} is in it")
            if position > end:
                raise ValueError("it ends within a field")
            self._fields.setdefault(key >> 3, []).append(value)

    def messages(self, number: int) -> Iterator[Message]:
        """A field's messages."""
        return (Message(self._bytes(number, index)) for index in range(self._count(number)))

    def message(self, number: int) -> Message | None:
        """The last of them; None: it is not set."""
        return Message(self._bytes(number, -1)) if self._count(number) else None

    def text(self, number: int) -> str:
        """A field's text; empty where it is not set."""
        return str(self._bytes(number, -1), "utf-8") if self._count(number) else ""

    def texts(self, number: int) -> list[str]:
        """Every text of a field."""
        return [str(self._bytes(number, index), "utf-8") for index in range(self._count(number))]

    def blob(self, number: int) -> memoryview:
        """A field's bytes; empty where it is not set."""
        return self._bytes(number, -1) if self._count(number) else memoryview(b"")

    def integers(self, number: int) -> list[int]:
        """Every number of a field, packed or not."""
        found: list[int] = []
        for value in self._fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            position = 0
            while position < len(value):
                one, position = _read_integer(value, position)
                found.append(one)
        return found

    def _count(self, number: int) -> int:
        return len(self._fields.get(number, ()))

    def _bytes(self, number: int, index: int) -> memoryview:
        value = self._fields[number][index]
        if isinstance(value, int):
            raise _wrong_kind(number)
        return value

    def integer(self, number: int) -> int | None:
        """A field's number; None where it is not set."""
        found = self._fields.get(number)
        if not found:
            return None
        if isinstance(found[-1], memoryview):
            raise _wrong_kind(number)
        return found[-1]


def _wrong_kind(number: int) -> ValueError:
    return ValueError(f"its field {number} is of another kind")


def _read_integer(data: memoryview, position: int) -> tuple[int, int]:
    """An integer of 64 bits with a sign, and the position after it."""
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("it ends within a number")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            result &= (1 << 64) - 1
            return (result - (1 << 64) if result >> 63 else result), position
    raise ValueError("a number in it has more than 64 bits")
