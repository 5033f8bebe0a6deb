"""How the rate of a shape goes with time, as a multiple of the rate that is given."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

NOISE_STEPS: Final = 96
"""Pieces of a day's noise: one is a quarter of an hour of a day."""

MOST_NOISE: Final = 3.0
"""Standard deviations at which the noise is cut, so that a highest rate is known."""

Options = Mapping[str, float]


class Curve(NamedTuple):
    """A multiple of the given rate by time.

    Attributes:
        at: the multiple, of seconds from the beginning.
        highest: that ``at`` ever gives.
        begins: the second with which ``at`` is of another rate than before; ascending, 0 first.
            Empty where it changes all the time.
    """

    at: Callable[[float], float]
    highest: float
    begins: tuple[float, ...] = ()


def steady(_: Options, seconds: float, dice: random.Random) -> Curve:
    """The rate that is given, all the time."""
    return Curve(lambda _: 1.0, 1.0, (0.0,))


def steps(options: Options, seconds: float, dice: random.Random) -> Curve:
    """So many steps of equal length and height, up to the rate that is given."""
    count = int(options["steps"])
    return Curve(
        lambda at: min(int(at / seconds * count) + 1, count) / count,
        1.0,
        tuple(seconds * index / count for index in range(count)),
    )


def ramp(options: Options, seconds: float, dice: random.Random) -> Curve:
    """From a share of the rate to the whole, in a straight line."""
    first = options["from"]
    return Curve(lambda at: first + (1 - first) * at / seconds, 1.0)


def burst(options: Options, seconds: float, dice: random.Random) -> Curve:
    """The rate that is given, and many times as much in the middle of each period."""
    factor, width, every = options["factor"], options["width"], options["every"]
    first = (every - width) / 2
    starts = [every * index + first for index in range(math.ceil(seconds / every))]
    begins = sorted({0.0, *starts, *(start + width for start in starts)})
    return Curve(
        lambda at: factor if first <= at % every < first + width else 1.0,
        max(factor, 1.0),
        tuple(begin for begin in begins if begin < seconds),
    )


def spike(options: Options, seconds: float, dice: random.Random) -> Curve:
    """Nothing until functions sleep; then many times the rate for a second, and the rate; again."""
    quiet, factor, width = options["quiet"], options["factor"], options["width"]
    every = quiet + width

    def at(now: float) -> float:
        since = now % every - quiet
        return 0.0 if since < 0 else factor if since < 1 else 1.0

    starts = [every * index for index in range(math.ceil(seconds / every))]
    begins = [start + add for start in starts for add in (0.0, quiet, quiet + 1)]
    return Curve(at, max(factor, 1.0), tuple(begin for begin in begins if begin < seconds))


def day(options: Options, seconds: float, dice: random.Random) -> Curve:
    """A sine about the rate that is given, least at the beginning, with noise that goes up and down
    in a quarter of an hour of such a day.
    """
    period, depth, noise = options["period"], options["depth"], options["noise"]
    count = math.ceil(seconds / period * NOISE_STEPS) + 1
    knots = [
        math.exp(noise * max(-MOST_NOISE, min(MOST_NOISE, dice.gauss(0, 1)))) for _ in range(count)
    ]

    def at(now: float) -> float:
        place = min(now / period * NOISE_STEPS, count - 1.000001)
        left = int(place)
        random_part = knots[left] + (knots[left + 1] - knots[left]) * (place - left)
        return (1 - depth * math.cos(2 * math.pi * now / period)) * random_part

    return Curve(at, (1 + depth) * max(knots))


def pieces(curve: Curve, seconds: float, count: int) -> list[tuple[float, float]]:
    """Middles and lengths of pieces of the time within which the curve is constant, or nearly so
    where it changes all the time.
    """
    begins = curve.begins or tuple(seconds * index / count for index in range(count))
    ends = (*begins[1:], seconds)
    return [((begin + end) / 2, end - begin) for begin, end in zip(begins, ends, strict=True)]
