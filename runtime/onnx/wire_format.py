"""The wire format of protobuf, read without its library: the fields of a message, one level of it
at a time.

Source: protobuf's *Encoding*.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

_A_NUMBER = -1
"""Stands where the end of a part would, of a field whose value is a number."""

_MAX_KEY = (1 << 32) - 1
"""Of a field's number and wire type. Some readers refuse more, others drop the bits above: to them
it is another field.
"""


class Message:
    """The fields of a protobuf message, one level of it.

    What is kept of a field is a pair of numbers, 16 bytes: objects would make a hundred times a
    file's size of a file that is nothing but empty fields.

    Args:
        data: the message. A field that is itself a message is a part of it, read when it is asked
            for.

    Raises:
        ValueError: it is no message.
    """

    __slots__ = ("_data", "_fields")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._fields: dict[int, array[int]] = {}
        position, end = 0, len(data)
        while position < end:
            key, position = _read_integer(data, position)
            if not 0 <= key <= _MAX_KEY:
                raise ValueError("the number of a field in it has more than 29 bits")
            match key & 7:
                case 0:
                    value, position = _read_integer(data, position)
                    pair = (value, _A_NUMBER)
                case 1 | 5 as kind:
                    start, position = position, position + (8 if kind == 1 else 4)
                    pair = (start, position)
                case 2:
                    size, start = _read_integer(data, position)
                    if size < 0:  # it would lead back, and for ever
                        raise ValueError("a length in it is below 0")
                    position = start + size
                    pair = (start, position)
                case kind:
                    raise ValueError(f"a field of wire type {kind} is in it")
            if position > end:
                raise ValueError("it ends within a field")
            self._fields.setdefault(key >> 3, array("q")).extend(pair)

    def messages(self, number: int) -> Iterator[Message]:
        """A field's messages, of one that may stand there several times."""
        return (Message(self._bytes(number, index)) for index in range(self._count(number)))

    def message(self, number: int) -> Message | None:
        """The message of a field that stands there once; None: it is not set. Where it stands there
        more often all of them are one message, as to every reader of protobuf (*Last One Wins*):
        what they say together is their bytes one behind the other.
        """
        match self._count(number):
            case 0:
                return None
            case 1:
                return Message(self._bytes(number, 0))
            case count:
                parts = (self._bytes(number, index) for index in range(count))
                return Message(memoryview(b"".join(parts)))

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
        pairs = self._fields.get(number)
        found: list[int] = []
        for index in range(self._count(number)):
            if pairs is not None and pairs[2 * index + 1] == _A_NUMBER:
                found.append(pairs[2 * index])
                continue
            packed, position = self._bytes(number, index), 0
            while position < len(packed):
                one, position = _read_integer(packed, position)
                found.append(one)
        return found

    def integer(self, number: int) -> int | None:
        """A field's number; None where it is not set."""
        if not self._count(number):
            return None
        value, end = self._fields[number][-2:]
        if end != _A_NUMBER:
            raise _wrong_kind(number)
        return value

    def _count(self, number: int) -> int:
        return len(self._fields.get(number, ())) // 2

    def _bytes(self, number: int, index: int) -> memoryview:
        pairs = self._fields[number]
        at = 2 * (index % (len(pairs) // 2))
        start, end = pairs[at : at + 2]
        if end == _A_NUMBER:
            raise _wrong_kind(number)
        return self._data[start:end]


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
