"""A value as one more reader is given it: what the reader changes, no other reader sees.

Lists, dicts, sets and their kin are copied, however deep; an array is a read-only view, since
copies of pixels cost more than what reads them. Any other object (a dataclass, a picture) is passed
on as it is: only its author knows how to copy it. What passes values on (to a stage, to the
elements of ``each``, as a default) passes them through here, so that a function answers the same
whether its stages are in one process or in several.

Cost: a look into a dict for text and numbers, 10 ns an element for a list of them.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np


def own_value(value: Any) -> Any:
    """A copy of containers, a read-only view of an array, any other value as it is. What contains
    itself, or one object twice, does so in the copy.
    """
    copied = _COPIES.get(type(value))
    if copied is None:
        return value
    try:
        return copied(value, {})
    except RecursionError:  # deeper than any answer may be
        return value


def own_default(value: Any) -> Any:
    """A default for one row: a copy also of an object, if it can be copied."""
    if type(value) in _COPIES:
        return own_value(value)
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever copying a user's object raises; it is shared then
        return value


Memo = dict[int, Any]
"""Copies made so far, by the ``id`` of what they are of."""


def _own(value: Any, memo: Memo) -> Any:
    copied = _COPIES.get(type(value))
    if copied is None:
        return value
    known = memo.get(id(value), memo)
    return copied(value, memo) if known is memo else known


def _own_flat(value: Any, memo: Memo) -> Any:
    made = memo[id(value)] = value.copy()
    return made


def _own_sequence(value: Any, memo: Memo) -> Any:
    made = memo[id(value)] = value.copy()
    if not CONTAINERS.isdisjoint(map(type, value)):
        for index, inner in enumerate(value):
            made[index] = _own(inner, memo)
    return made


def _own_mapping(value: Any, memo: Memo) -> Any:
    made = memo[id(value)] = value.copy()
    if not CONTAINERS.isdisjoint(map(type, value.values())):
        for key, inner in value.items():
            made[key] = _own(inner, memo)
    return made


def _own_tuple(value: Any, memo: Memo) -> Any:
    if CONTAINERS.isdisjoint(map(type, value)):
        return value
    return tuple([_own(inner, memo) for inner in value])


def _read_only(value: np.ndarray[Any, Any], memo: Memo) -> Any:
    if not value.flags.writeable:
        return value
    view = value.view()
    view.flags.writeable = False
    return view


_COPIES: Final[dict[type, Callable[[Any, Memo], Any]]] = {
    **dict.fromkeys((list, deque), _own_sequence),
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), _own_mapping),
    **dict.fromkeys((set, bytearray), _own_flat),
    tuple: _own_tuple,
    np.ndarray: _read_only,
}
CONTAINERS: Final = frozenset(_COPIES)
"""Types of which ``own_value`` gives another object. Where nearly all values are numbers or text,
to look here costs half as much as to call it.
"""


def as_python(value: Any) -> Any:
    """A value with Python's scalars for numpy's; the same object if it has none."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        items = [as_python(item) for item in value]
        return value if all(map(operator.is_, items, value)) else type(value)(items)
    if type(value) is dict:
        items = [as_python(item) for item in value.values()]
        return (
            value
            if all(map(operator.is_, items, value.values()))
            else dict(zip(value, items, strict=True))
        )
    return value
