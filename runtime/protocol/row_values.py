"""What goes from one function to another, in one process as over a network: the same values on the
other side, whichever it is.

Numbers, texts, bytes, arrays and numpy's scalars, lists, tuples, dicts with text for keys, dates,
times, UUIDs and decimals go as they are. Of everything else, an object of a class of the author's
above all, goes what JSON says of it: the function that is called reads it as what its annotation
says, and the one that calls gets what any client would be answered.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from runtime.errors import FunctionError, WakefulError
from runtime.protocol.json_text import MAX_DEPTH, dumps, loads
from runtime.types import tensors
from runtime.types.own_values import own_value

DEEPEST: Final = MAX_DEPTH - 8
"""A call has its rows around the values."""


def _seconds(value: datetime.timedelta) -> str:
    return f"{value.days * 86400 + value.seconds}.{value.microseconds:06}"


def _of_seconds(text: str) -> datetime.timedelta:
    seconds, _, microseconds = text.partition(".")
    return datetime.timedelta(seconds=int(seconds), microseconds=int(microseconds))


NAMED: Final[Mapping[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]]] = {
    datetime.date: ("date", datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.datetime: ("datetime", datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.time: ("time", datetime.time.isoformat, datetime.time.fromisoformat),
    datetime.timedelta: ("timedelta", _seconds, _of_seconds),
    uuid.UUID: ("uuid", str, uuid.UUID),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
}
"""By type: its name, the text that stands for it, and how that is read."""

ATOMS: Final = frozenset({str, int, bool, float, bytes, type(None), *NAMED})
_LISTS: Final = frozenset({list, tuple})
_TEXT: Final = frozenset({str})
_NUMBERS: Final = frozenset({int, float, bool})


def carried(value: Any, place: str) -> Any:
    """A value as it goes to another function: no list or dict of it is the other's too, and its
    arrays are read-only, as those of a body are.

    Args:
        place: of the value, for the message.

    Raises:
        FunctionError: there is no form for it.
    """
    try:
        return _carried(value, 0)
    except _StaysError as error:
        raise FunctionError(f"{place}{''.join(reversed(error.steps))} {error}") from None
    except Exception as error:  # whatever an object of the author's raises when it is read
        raise FunctionError(
            f"{place} cannot be read to go to another function: {type(error).__name__}."
        ) from error


class _StaysError(ValueError):
    """Why a value does not go; ``steps`` lead to it, the last one first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.steps: list[str] = []


def _carried(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    if (
        kind is dict
        and ATOMS.issuperset(map(type, value.values()))
        and _TEXT.issuperset(map(type, value))
    ):
        return value.copy()
    if isinstance(value, np.ndarray):
        return own_value(_array(np.asarray(value)))
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if depth > DEEPEST:
        raise _StaysError("nests deeper than goes to another function. Flatten it.")
    if kind in _LISTS:
        if ATOMS.issuperset(map(type, value)):
            return kind(value)
        return kind(_each(enumerate(value), "[{}]", depth))
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return dict(zip(value, _each(value.items(), ".{:.64}", depth), strict=True))
    try:
        return loads(dumps(value))
    except WakefulError:
        what = (
            "has keys that are no text" if isinstance(value, Mapping) else f"is a {kind.__name__}"
        )
        raise _StaysError(
            f"{what}, which cannot go to another function. Give it what JSON can say, bytes or an"
            " array."
        ) from None


def _each(values: Iterable[tuple[Any, Any]], step: str, depth: int) -> Iterator[Any]:
    """Each of them as it goes; of the first that does not, the error with its step."""
    for at, one in values:
        try:
            yield _carried(one, depth + 1)
        except _StaysError as error:
            error.steps.append(step.format(at))
            raise


def _array(array: np.ndarray) -> np.ndarray:
    try:
        tensors.from_numpy(array.dtype)
    except KeyError:
        raise _StaysError(
            f"is an array of {array.dtype}, which has no datatype and cannot go to another"
            " function."
        ) from None
    if array.dtype.kind in "SU":
        return array.astype(object)
    if array.dtype.hasobject:
        elements = array.reshape(-1).tolist()
        if not any(all(isinstance(one, kind) for one in elements) for kind in (str, bytes)):
            raise _StaysError(
                "is an array of objects that are not all text, or all bytes, and cannot go to"
                " another function. Give a list."
            )
    return array


def least_bytes(value: Any) -> int:
    """How many bytes a value takes at least when it is sent, its arrays and texts counted."""
    if isinstance(value, np.ndarray):
        return (
            value.nbytes
            if not value.dtype.hasobject
            else sum(map(least_bytes, value.reshape(-1).tolist()))
        )
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(least_bytes, value.values()))
    if type(value) in _LISTS:
        return (
            2 * len(value)
            if _NUMBERS.issuperset(map(type, value))
            else sum(map(least_bytes, value))
        )
    return 1
