"""The shapes of traffic: their options, what is refused of them, and the arrivals they come to."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from deployments.loadtest.arrivals import curves
from deployments.scaling.simulation import Arrival, RateCurve, draw_arrivals
from runtime.errors import DeclarationError, Problem
from runtime.system.messages import did_you_mean, quote
from runtime.system.setting_values import to_number

LONGEST_S: Final = 86400.0
"""Of a load test: a day."""

MOST_CALLS: Final = 4_000_000
"""Of a load test, as they are to be expected: the record of each is kept until the report, some 530
bytes with the parts of the server's time, two gigabytes of all, and written then. Chance sends a
few more, which a file takes (``results.files``).
"""

MOST_PIECES: Final = 10_000
"""Pieces that the mean of a rate that changes all the time is added up from."""


class ShapeOption(NamedTuple):
    """A number that a shape takes.

    Attributes:
        default: None: as the shape decides.
        least, most: that it may be.
        words: what it is.
    """

    default: float | None
    least: float
    most: float
    words: str


class ShapeKind(NamedTuple):
    """One of the shapes.

    Attributes:
        words: what it does, for the help of the command.
        options: by name.
        curve: how its rate goes with time; None: it sends what was recorded.
    """

    words: str
    options: Mapping[str, ShapeOption]
    curve: Callable[[curves.Options, float, random.Random], curves.Curve] | None


_FACTOR: Final = ShapeOption(10.0, 1.0, 1000.0, "times the rate")

SHAPES: Final[Mapping[str, ShapeKind]] = {
    "steady": ShapeKind("one rate", {}, curves.steady),
    "steps": ShapeKind(
        "rising to the rate in equal steps, which shows where the server saturates",
        {"steps": ShapeOption(10.0, 2.0, 100.0, "how many")},
        curves.steps,
    ),
    "ramp": ShapeKind(
        "rising to the rate in a straight line",
        {"from": ShapeOption(0.0, 0.0, 1.0, "share of the rate that it begins with")},
        curves.ramp,
    ),
    "burst": ShapeKind(
        "the rate, and ten times as much for 10 s of each minute",
        {
            "factor": _FACTOR,
            "width": ShapeOption(10.0, 0.1, LONGEST_S, "seconds of a burst"),
            "every": ShapeOption(None, 0.2, LONGEST_S, "seconds from one to the next"),
        },
        curves.burst,
    ),
    "spike": ShapeKind(
        "nothing until functions sleep, then ten times the rate for a second, and the rate",
        {
            "quiet": ShapeOption(70.0, 1.0, LONGEST_S, "seconds without a call"),
            "factor": _FACTOR,
            "width": ShapeOption(20.0, 1.0, LONGEST_S, "seconds with calls"),
        },
        curves.spike,
    ),
    "day": ShapeKind(
        "a sine about the rate, with noise; the whole time is one day",
        {
            "period": ShapeOption(None, 10.0, LONGEST_S, "seconds of a day"),
            "depth": ShapeOption(0.8, 0.0, 1.0, "share of the rate that it rises and falls by"),
            "noise": ShapeOption(0.2, 0.0, 1.0, "its standard deviation, as a share"),
        },
        curves.day,
    ),
    "trace": ShapeKind(
        "what was recorded, at its times",
        {"speed": ShapeOption(1.0, 0.001, 1000.0, "times as fast")},
        None,
    ),
}


@dataclass(frozen=True, slots=True)
class LoadShape:
    """When calls are sent, as it was checked.

    Attributes:
        name: of ``SHAPES``.
        options: every one that the shape has.
        rates: calls a second by function, which the shape multiplies; those on average for a trace.
        seconds: for which calls are sent.
        recorded: of a trace, in the order of time, ``at`` as it was recorded.
    """

    name: str
    options: Mapping[str, float]
    rates: Mapping[str, float]
    seconds: float
    recorded: Sequence[Arrival] = ()

    @property
    def average_rates(self) -> dict[str, float]:
        """Calls a second that are to be expected, by function."""
        if (make := SHAPES[self.name].curve) is None:
            return dict(self.rates)
        curve = make(self.options, self.seconds, random.Random(self.name))
        parts = curves.pieces(curve, self.seconds, MOST_PIECES)
        multiple = sum(curve.at(middle) * length for middle, length in parts) / self.seconds
        return {name: rate * multiple for name, rate in self.rates.items()}

    @property
    def highest_rate(self) -> float:
        """Calls a second of all functions together that are ever intended; of a trace, of its
        busiest second.
        """
        if (make := SHAPES[self.name].curve) is None:
            return _busiest_second(
                [arrival.at / self.options["speed"] for arrival in self.recorded]
            )
        curve = make(self.options, self.seconds, random.Random(self.name))
        return curve.highest * sum(self.rates.values())

    def __str__(self) -> str:
        """As it is given: ``burst:factor=5,width=10,every=60``."""
        options = ",".join(f"{key}={value:g}" for key, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


def make_arrivals(shape: LoadShape, seed: int) -> Iterator[Arrival]:
    """The calls of a shape, in the order of time, each made when it is asked for.

    The same shape and seed give the same calls; what a function gets does not depend on the others.
    """
    make = SHAPES[shape.name].curve
    if make is None:
        yield from _replay(shape)
        return
    by_function = {}
    for name, rate in shape.rates.items():
        curve = make(shape.options, shape.seconds, random.Random(f"{seed} {name} {shape.name}"))
        by_function[name] = RateCurve(_times(curve.at, rate), curve.highest * rate)
    yield from draw_arrivals(by_function, shape.seconds, seed)


def _times(multiple: Callable[[float], float], rate: float) -> Callable[[float], float]:
    return lambda at: multiple(at) * rate


def _replay(shape: LoadShape) -> Iterator[Arrival]:
    speed = shape.options["speed"]
    for arrival in shape.recorded:
        if (at := arrival.at / speed) >= shape.seconds:
            return
        yield replace(arrival, at=at)


def parse_shape(
    text: str,
    options: Mapping[str, str | float],
    rates: Mapping[str, float],
    seconds: float | None,
    recorded: Sequence[Arrival] = (),
) -> LoadShape:
    """A shape of what the command was given.

    Args:
        text: its name, options may follow: ``burst:factor=5,width=20``.
        options: others, which stand above those of ``text``.
        rates: calls a second by function; empty for a trace.
        seconds: None: as long as the shape takes: its quiet time and its calls for a spike, all of
            it for a trace, 60 else.
        recorded: of a trace, ``at`` from its beginning.

    Raises:
        DeclarationError: with each problem; its place is the option.
    """
    name, _, tail = text.partition(":")
    if name not in SHAPES:
        meant = did_you_mean(name, SHAPES) or f"; known are {', '.join(SHAPES)}."
        raise _refused("", f"there is no shape {quote(name)}{meant}")
    problems: list[Problem] = []
    numbers = _options(name, {**_pairs(tail, problems), **options}, problems)
    if name == "trace":
        rates, seconds = _recorded_rates(rates, seconds, recorded, numbers, problems)
    elif recorded:
        problems.append(_problem("", f"recorded calls are sent by the shape trace, not by {name}."))
    length = _usual_length(name, numbers) if seconds is None else seconds
    if not (math.isfinite(length) and 0 < length <= LONGEST_S):
        problems.append(
            _problem(
                "seconds", f"{length:g} is given, more than 0 and {LONGEST_S:g} at most are wanted."
            )
        )
    for function, rate in rates.items():
        if not (math.isfinite(rate) and rate >= 0):
            words = f"{rate:g} a second is given, a finite number from 0 is wanted."
            problems.append(_problem(f"rate of {function}", words))
    if not problems and not sum(rates.values()) > 0:
        problems.append(_problem("rate", "no function has a rate, so nothing would be sent."))
    if problems:
        raise DeclarationError(problems)
    shape = LoadShape(name, _supply(name, numbers, length), dict(rates), length, recorded)
    _check_length(shape)
    return shape


def _pairs(text: str, problems: list[Problem]) -> dict[str, str | float]:
    pairs: dict[str, str | float] = {}
    for item in filter(None, text.split(",")):
        key, sign, value = (part.strip() for part in item.partition("="))
        if not sign:
            problems.append(_problem(key, f"{quote(item)} is given, NAME=NUMBER is wanted."))
        elif key in pairs:
            problems.append(_problem(key, "it is given twice."))
        else:
            pairs[key] = value
    return pairs


def _options(
    name: str, given: Mapping[str, str | float], problems: list[Problem]
) -> dict[str, float]:
    """Those given, as numbers; problems are added to ``problems``."""
    known, numbers = SHAPES[name].options, {}
    for key, value in given.items():
        if (option := known.get(key)) is None:
            has = f"; it has {', '.join(known)}." if known else "; it has none."
            meant = did_you_mean(key, known) or has
            problems.append(_problem(key, f"the shape {name} has no such option{meant}"))
            continue
        number = to_number(value)
        if not option.least <= number <= option.most:
            wanted = f"a number from {option.least:g} to {option.most:g} is wanted"
            problems.append(_problem(key, f"{quote(value)} is given, {wanted}: {option.words}."))
        elif name == "steps" and number != int(number):
            problems.append(_problem(key, f"{quote(value)} is given, a whole number is wanted."))
        else:
            numbers[key] = number
    return numbers


def _supply(name: str, numbers: Mapping[str, float], seconds: float) -> dict[str, float]:
    """The options that were left out."""
    decided = {"every": min(60.0, seconds), "period": max(seconds, 10.0)}
    return {
        key: numbers.get(key, decided[key] if option.default is None else option.default)
        for key, option in SHAPES[name].options.items()
    }


def _usual_length(name: str, numbers: Mapping[str, float]) -> float:
    """Seconds that a shape takes where none are given."""
    if name != "spike":
        return 60.0
    options = _supply(name, numbers, 0.0)
    return options["quiet"] + options["width"]


def _recorded_rates(
    rates: Mapping[str, float],
    seconds: float | None,
    recorded: Sequence[Arrival],
    numbers: Mapping[str, float],
    problems: list[Problem],
) -> tuple[dict[str, float], float]:
    """Calls a second by function of a trace, and for how long."""
    if rates:
        problems.append(_problem("rate", "a trace has its own rate. Leave it out, or use `speed`."))
    if not recorded:
        problems.append(_problem("", "the shape trace needs recorded calls."))
        return {}, 1.0
    if any(one.at > other.at for one, other in pairwise(recorded)):
        problems.append(_problem("", "the recorded calls are not in the order of time."))
    speed = numbers.get("speed", 1.0)
    # a thousandth of a second beyond the last call, which is to be sent as well
    length = recorded[-1].at / speed + 0.001 if seconds is None else seconds
    if seconds is None and length > LONGEST_S:
        words = (
            f"the recorded calls take {length / 86400:,.1f} days, one at most is sent. Give the"
            " seconds that are to be sent, or a higher `speed`; from times of the clock, take off"
            " that of the first call."
        )
        problems.append(_problem("", words))
        return {}, 1.0
    counts: dict[str, int] = {}
    for arrival in recorded:
        if arrival.at / speed < length:
            counts[arrival.function] = counts.get(arrival.function, 0) + 1
    return {name: count / length for name, count in counts.items() if length > 0}, length


def _check_length(shape: LoadShape) -> None:
    """Refuses what does not fit in the time, and more calls than can be kept."""
    options, seconds = shape.options, shape.seconds
    if shape.name == "burst" and options["width"] >= options["every"]:
        words = (
            f"a burst of {options['width']:g} s does not fit in {options['every']:g} s."
            " Make the load longer, or `width` less."
        )
        raise _refused("width", words)
    if shape.name == "burst" and seconds < (options["every"] + options["width"]) / 2:
        least = (options["every"] + options["width"]) / 2
        raise _refused(
            "seconds",
            f"no burst ends within {seconds:g} s. Give it {least:g}, or lower `every`.",
        )
    if shape.name == "spike" and seconds < (least := options["quiet"] + options["width"]):
        raise _refused(
            "seconds",
            f"{options['quiet']:g} s without a call and {options['width']:g} s with calls do not"
            f" fit in {seconds:g}. Give it {least:g}, or lower `quiet`.",
        )
    calls = sum(shape.average_rates.values()) * seconds
    if calls > MOST_CALLS:
        raise _refused(
            "rate",
            f"that is {calls:,.0f} calls, {MOST_CALLS:,} at most are sent. Lower the rate, or send"
            " for less time.",
        )


def _busiest_second(times: Sequence[float]) -> float:
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return float(most)


def _problem(key: str, message: str) -> Problem:
    return Problem("shape", 0, key, message)


def _refused(key: str, message: str) -> DeclarationError:
    return DeclarationError([_problem(key, message)])
