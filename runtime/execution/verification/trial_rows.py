"""Rows to try a model on: of other values and ranges than a given row, and of other lengths.

Each input's values come from the row's own, since not every number is a valid one: a place in a
table, a class. Integers are also drawn from common ranges; what the model does not run on is left
out by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.types.tensors import TensorSpec

Array = NDArray[Any]
NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
Tensors = Mapping[str, Array]

INTEGER_RANGES: Final = (1, 9, 255)
"""Largest number of integers that are drawn: flags, classes, bytes."""

SEARCHED_RANGES: Final = (1, 2, 9, 30, 99, 255, 999, 9999)
"""The same for a search."""

SMALL_RANGES: Final = (1, 2, 3, 5)

SCALES: Final = ((-2.0, 1.5), (-3.0, 5.0))
"""Powers of ten between which the sizes of random floats lie: usual ones, and all."""


def vary(row: Tensors, masks: Collection[str] = ()) -> list[Tensors]:
    """Rows of the same shapes and of other values: larger, smaller, negated, constant, all above 0
    and all below; of integers, the least and the most of the row alone, and the common ranges.

    Args:
        masks: inputs that keep their values.
    """
    makers = {name: [array] if name in masks else _variants(array) for name, array in row.items()}
    count = max(map(len, makers.values()), default=0)
    return [
        {name: variants[at % len(variants)] for name, variants in makers.items()}
        for at in range(count)
    ]


def _variants(array: Array) -> list[Array]:
    random = np.random.default_rng(1)
    turned = np.array(array[(slice(None, None, -1),) * array.ndim])
    if not array.size:
        return [turned]
    if array.dtype.hasobject:
        return [turned, *_texts(array)]
    if array.dtype.kind not in "fiu":
        return [turned, np.array(np.roll(array, 1), array.dtype)]
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values: Sequence[Array] = (
                turned + 1,
                random.standard_normal(array.shape),
                array * 100,
                array * 0.01,
                -array,
                np.full(array.shape, array.flat[0]),
                np.abs(array) + 1,
                -np.abs(array) - 1,
                random.standard_normal(array.shape) * 1e4,
            )
            return [_as(value, array) for value in values]
    least, most = int(array.min()), int(array.max())
    return [
        turned,
        _as(np.roll(array, 1), array),
        _as(random.integers(least, most, array.shape, endpoint=True), array),
        np.full_like(array, least),
        np.full_like(array, most),
        np.full_like(array, array.flat[array.size // 2]),
        *(
            _as(random.integers(0, top, array.shape, endpoint=True), array)
            for top in INTEGER_RANGES
        ),
    ]


def _texts(array: Array) -> Iterator[Array]:
    for change in (
        lambda text: f"{text} {text}",
        lambda text: text[::2],
        lambda text: " ".join([text] * 20),
        lambda text: text[::-1],
        lambda _: "a",
    ):
        yield np.array([change(str(text)) for text in array.flat], object).reshape(array.shape)


def find_masks(row: Tensors) -> frozenset[str]:
    """Inputs that say which numbers of the others count: by their name, or since they are 0 and 1
    in floats. A model that is padded is right for such numbers alone.
    """
    if len(row) < 2:
        return frozenset()
    return frozenset(
        name
        for name, array in row.items()
        if array.dtype.kind in "fiub"
        and ("mask" in name.lower() or (array.dtype.kind == "f" and np.isin(array, (0, 1)).all()))
    )


def draw_row(
    row: Tensors,
    random: np.random.Generator,
    masks: Collection[str] = (),
    largest: Mapping[str, int] = NOTHING,
) -> Tensors:
    """A row of the same shapes and of random values, of a random range.

    Args:
        masks: inputs that keep theirs.
        largest: by input, the largest integer that it takes.
    """
    return {
        name: array if name in masks else _draw(array, random, largest.get(name, MOST))
        for name, array in row.items()
    }


MOST: Final = 1 << 20
"""Largest integer that is tried."""


def _draw(array: Array, random: np.random.Generator, largest: int) -> Array:
    if not array.size:
        return array
    if array.dtype.hasobject:
        words = np.array([str(text) for text in array.flat] + ["a", "", "The end.", "0"], object)
        return random.choice(words, array.shape)
    if array.dtype.kind not in "fiu":
        return random.permutation(array.ravel()).reshape(array.shape)
    if array.dtype.kind == "f":
        return _as(_draw_floats(array, random), array)
    if random.random() < 0.2:  # the smallest numbers, which thresholds and counts are made for
        return _as(
            random.integers(0, _choose(SMALL_RANGES, random), array.shape, endpoint=True), array
        )
    if largest < MOST and random.random() < 0.5:  # all places of a table alike, as texts have them
        return _as(random.integers(0, largest, array.shape, endpoint=True), array)
    least, most = int(array.min()), int(array.max())
    if random.random() < 2 / 3:
        least, most = 0, min(largest, _choose(SEARCHED_RANGES, random))
    if random.random() < 0.1 and array.dtype.kind == "i":
        least = min(least, -abs(most))
    # narrow ones as often as wide ones, and a third as wide as can be
    span = int((most - least + 1) ** min(1.0, 1.5 * random.random()))
    low = int(random.integers(least, most - span + 1, endpoint=True))
    if random.random() < 0.25:  # the least and the most alone, as of black and white
        return _as(low + (span - 1) * _draw_flags(array, random), array)
    return _as(random.integers(low, low + span, array.shape), array)


def _choose(numbers: Sequence[int], random: np.random.Generator) -> int:
    return numbers[int(random.integers(len(numbers)))]


def _draw_flags(array: Array, random: np.random.Generator) -> Array:
    """Of 0 and 1; one or the other may be rare."""
    return np.asarray(random.random(array.shape) < random.choice([0.1, 0.3, 0.5, 0.9]), np.int64)


def _draw_floats(array: Array, random: np.random.Generator) -> Array:
    size = float(10 ** random.uniform(*SCALES[int(random.integers(len(SCALES)))]))
    match int(random.integers(11)):
        case 0:
            return random.uniform(0, size, array.shape)
        case 8:
            return size * (2 * _draw_flags(array, random) - 1)
        case 7:  # close to each other
            width = float(10 ** random.uniform(*SCALES[0]))
            return random.normal(random.choice([-size, size]), width, array.shape)
        case 1:
            return -random.uniform(0, size, array.shape)
        case 2:
            return np.full(array.shape, random.uniform(-size, size))
        case 3 | 9:  # one that outweighs all others
            size = float(10 ** random.uniform(0, 6))
            values = random.standard_normal(array.shape)
            values.flat[int(random.integers(array.size))] = random.choice([-size, size])
            return values
        case 4:
            return np.round(random.normal(0, 5, array.shape))
        case 5:
            return array * float(random.choice([-size, size]))
        case 6:
            return array + random.uniform(-size, size)
    return random.normal(0, size, array.shape)


def between(one: Tensors, other: Tensors) -> Tensors:
    """The row half-way between two of the same shapes; texts are the first's."""
    return {
        name: _as(_middle(array, other[name]), array) if array.dtype.kind in "fiu" else array
        for name, array in one.items()
    }


def _middle(one: Array, other: Array) -> Array:
    middle = one.astype(np.float64) / 2 + other.astype(np.float64) / 2
    return middle if one.dtype.kind == "f" else np.round(middle)


def is_padding(row: Tensors, pad: Mapping[str, float]) -> bool:
    """Whether an input of integers has nothing but the number that pads it, as no row does."""
    return any(
        row[name].dtype.kind in "iu" and bool((row[name] == number).all())
        for name, number in pad.items()
    )


def _as(values: Array, like: Array) -> Array:
    """Values in another's datatype, at most as large as it holds."""
    if like.dtype.kind == "f":
        with np.errstate(over="ignore"):
            largest = float(np.finfo(like.dtype).max) / 16
            return np.asarray(np.clip(values, -largest, largest), like.dtype)
    info = np.iinfo(like.dtype)
    return np.asarray(np.clip(values, info.min, info.max), like.dtype)


Resize = Callable[[int], int]


def resize(row: Tensors, inputs: Sequence[TensorSpec], change: Resize) -> Tensors:
    """A row with other sizes of the free axes of some inputs; its values are repeated."""
    resized = dict(row)
    for spec in inputs:
        for axis, dim in enumerate(spec.shape[1:]):
            if dim == -1:
                array = resized[spec.name]
                size = max(0, change(array.shape[axis]))
                resized[spec.name] = np.take(array, np.arange(size), axis, mode="wrap")
    return resized


def plan_companies(mates: int, most: int) -> list[list[int]]:
    """Rows of runs: 0 is the row in question, which is first, in the middle and last among others;
    every other row is in one of them.

    Sizes differ, since an axis that is not the rows axis may have one of them by chance.

    Args:
        mates: how many others there are; 0: copies of the row.
        most: rows of a run, at least 2.
    """
    plan, used = [], 0
    for at in range(3 + max(0, mates)):
        size, place = COMPANIES[min(at, len(COMPANIES) - 1)]
        size = min(size, most)
        others = [1 + (used + index) % mates if mates else 0 for index in range(size - 1)]
        used += size - 1
        others.insert(min(place, size - 1), 0)
        plan.append(others)
        if at >= 2 and used >= mates:
            break
    return plan


COMPANIES: Final = ((2, 0), (3, 1), (5, 4))
"""Sizes of the first runs and the place of the row in them; the last is that of all others."""
