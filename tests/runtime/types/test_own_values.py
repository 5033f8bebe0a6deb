"""What one reader of a value changes, no other sees."""

from __future__ import annotations

import copy
import random
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from runtime.types.own_values import own_default, own_value


@dataclass(eq=False)
class Box:
    """An object with a hash, which pydantic takes for one that never changes."""

    tags: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        [],
        [[1], [2, [3]]],
        {"a": [1]},
        {"a": {"b": {"c": [1]}}},
        {1, 2},
        ([1], 2),
        {"a": ([1], {"b": deque([[1]])})},
        OrderedDict(a=[1]),
        Counter("aab"),
        bytearray(b"ab"),
        [bytearray(b"ab")],
    ],
)
def test_a_container_is_copied_however_deep(value):
    """Equal and of the same type, without a part that could be changed in both."""
    own = own_value(value)
    assert own == value
    assert type(own) is type(value)
    assert not _mutable_ids(own) & _mutable_ids(value)


@pytest.mark.parametrize("value", [1, "a", None, b"a", 1.5, (1, "a"), frozenset({1}), Box()])
def test_what_cannot_change_or_is_no_container_stays_the_same_object(value):
    """Nothing is copied that need not be, and no object of the author's."""
    assert own_value(value) is value


def test_an_array_is_a_read_only_view_wherever_it_is():
    """Its memory is not copied."""
    array = np.zeros(3)
    for own in (own_value(array), own_value([array])[0], own_value({"a": (array,)})["a"][0]):
        assert np.shares_memory(own, array)
        with pytest.raises(ValueError, match="read-only"):
            own[0] = 1
    assert array.flags.writeable


def test_a_default_factory_stays():
    """A ``defaultdict`` goes on making what it lacks."""
    own = own_value(defaultdict(list, a=[1]))
    assert own["b"] == []


def test_what_contains_itself_does_so_in_the_copy():
    """And an object that is there twice is one object there."""
    ring: list[Any] = [1]
    ring.append(ring)
    own = own_value(ring)
    assert own is not ring
    assert own[1] is own
    twice: list[Any] = [[]]
    twice.append(twice[0])
    own = own_value(twice)
    assert own[0] is own[1]


def test_what_is_deeper_than_python_goes_is_passed_on():
    """It fails nothing."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert own_value(deep) is deep
    while deep:  # or its end is too deep as well
        deep = deep[0]


def test_a_default_is_a_copy_also_of_an_object():
    """And one that cannot be copied is shared."""
    box = Box(["a"])
    own = own_default(box)
    assert own is not box
    assert own.tags == ["a"]
    assert own.tags is not box.tags
    lines = (line for line in "ab")
    assert own_default(lines) is lines
    assert own_default([1]) == [1]


def test_random_values_are_as_deepcopy_has_them():
    """Of 300 values: equal, and nothing that can be changed is in both."""
    rng = random.Random(1)
    for _ in range(300):
        value = _random_value(rng, 4)
        before = copy.deepcopy(value)
        own = own_value(value)
        assert own == before
        assert not _mutable_ids(own) & _mutable_ids(value)


def _random_value(rng: random.Random, depth: int) -> Any:
    count = rng.randrange(4) if depth else 0
    inner = [_random_value(rng, depth - 1) for _ in range(count)]
    return rng.choice(
        [
            lambda: inner,
            lambda: tuple(inner),
            lambda: {str(index): one for index, one in enumerate(inner)},
            lambda: deque(inner),
            lambda: rng.choice([1, "a", None, 2.5, b"x"]),
        ]
    )()


def _mutable_ids(value: Any) -> set[int]:
    found = {id(value)} if isinstance(value, list | dict | set | bytearray | deque) else set()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | deque):
        for inner in value:
            found |= _mutable_ids(inner)
    return found
