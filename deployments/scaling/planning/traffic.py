"""The calls that are planned for: at a rate, or as they were recorded.

A recorded call has the length of its row by the bytes of its body, as the profile knows them. Where
a share of the calls was recorded, it stands for those that were not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from deployments.scaling.simulation import Arrival, poisson_arrivals, read_arrivals
from deployments.scaling.simulation.arrivals import LONGEST_S
from runtime.errors import MalformedBody, NotFound, RequestError, TooLarge
from runtime.protocol.json_text import dumps, loads
from runtime.system.messages import did_you_mean, quote
from runtime.system.setting_values import to_number

WARM_UP_S: Final = 60.0
"""Before a steady rate counts: replicas have started, and what comes of calls that found it asleep
is over. A recorded traffic counts from its first call.
"""

MOST_CALLS: Final = 2_000_000
"""That are run through: a minute of processor time, and 0.3 GB."""

END_S: Final = 1.0
"""After the last recorded call, in which it is answered."""

NEIGHBOURS: Final = 10
"""Recorded calls before one and after it, within whose times those come that it stands for. How
close so many are is no chance; of what is over sooner a share of the calls says nothing.
"""


@dataclass(frozen=True, slots=True)
class PlannedTraffic:
    """Calls, and which part of their time is looked at.

    Attributes:
        words: what it is, for people.
        arrivals: in the order of time.
        since, until: seconds of it.
        again: other calls of the same kind, by another seed; None: all of these were recorded.
        called: functions that are looked at though no call of theirs may come.
    """

    words: str
    arrivals: Sequence[Arrival]
    since: float
    until: float
    again: Callable[[int], Sequence[Arrival]] | None = None
    called: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """That are looked at."""
        return self.until - self.since

    @property
    def functions(self) -> tuple[str, ...]:
        """That are called, by name."""
        return tuple(sorted({*self.called, *(arrival.function for arrival in self.arrivals)}))


def steady_traffic(rates: Mapping[str, float], seconds: float, seed: int) -> PlannedTraffic:
    """Independent calls at a rate a second, by function.

    Raises:
        RequestError: they are more than can be run through.
    """
    whole_s = seconds + WARM_UP_S
    _refuse_too_many(sum(rates.values()) * whole_s, whole_s)
    words = ", ".join(f"{name} {rate:g}/s" for name, rate in rates.items())

    def make(seed: int) -> list[Arrival]:
        return poisson_arrivals(rates, whole_s, seed)

    arrivals = make(seed)
    _refuse_none(arrivals, WARM_UP_S, seconds)
    return PlannedTraffic(
        f"{words}, independent calls", arrivals, WARM_UP_S, whole_s, make, tuple(rates)
    )


def shaped_traffic(
    words: str,
    make: Callable[[int], Iterable[Arrival]],
    rates: Mapping[str, float],
    seconds: float,
    seed: int,
) -> PlannedTraffic:
    """Made-up calls at a rate that changes, all of which count.

    Args:
        make: the calls in the order of time, by a seed.
        rates: calls a second by function, on average.

    Raises:
        RequestError: they are more than can be run through.
    """
    _refuse_too_many(sum(rates.values()) * seconds, seconds)
    arrivals = list(make(seed))
    _refuse_none(arrivals, 0.0, seconds)
    return PlannedTraffic(
        words, arrivals, 0.0, seconds, lambda seed: list(make(seed)), tuple(rates)
    )


def _refuse_none(arrivals: Sequence[Arrival], since: float, seconds: float) -> None:
    if not arrivals or arrivals[-1].at < since:
        raise RequestError(
            f"no call comes within {seconds:g} s. Raise it, or the rate.", where="--for"
        )


def _refuse_too_many(calls: float, seconds: float) -> None:
    if calls > MOST_CALLS:
        raise RequestError(
            f"{calls:,.0f} calls come in {seconds:g} s; {MOST_CALLS:,} are run through at most."
            " Lower `--for`.",
            where="--for",
        )


def parse_rates(texts: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """Rates a second by function: ``embed=200``, or a bare ``200`` where there is one function.

    Raises:
        RequestError: one is not a rate above 0, or names no function, or one twice.
        NotFound: there is no such function.
    """
    rates: dict[str, float] = {}
    for text in texts:
        name, is_named, number = text.rpartition("=")
        rate = to_number(number)
        if not (math.isfinite(rate) and rate > 0):
            raise RequestError(
                f"{quote(text)} is given, a number of calls a second above 0 is wanted, such as"
                " 200 or embed=200.",
                where="--rps",
            )
        if not is_named:
            if len(known) != 1:
                raise RequestError(
                    f"of which function are {number} calls a second? `--rps NAME={number}`, with"
                    f" one of {', '.join(known)}.",
                    where="--rps",
                )
            name = known[0]
        if name not in known:
            others = ", ".join(known) or "none"
            near = did_you_mean(name, list(known)) or f"; there are: {others}."
            raise NotFound(f"there is no function {name!r}{near}")
        if name in rates:
            raise RequestError(f"{name!r} has two rates. Give it one.", where="--rps")
        rates[name] = rate
    return rates


class RecordedCall(Protocol):
    """A call that was recorded.

    Attributes:
        at: when it came, seconds since the epoch.
        path: that it was sent to.
        body: its bytes; None: it was not kept.
        omitted: fields that were taken out of the body.
        rate: share of the calls that was recorded when it came.
        was_refused: it computed nothing.
    """

    @property
    def at(self) -> float: ...
    @property
    def path(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def omitted(self) -> Sequence[str]: ...
    @property
    def rate(self) -> float: ...
    @property
    def was_refused(self) -> bool: ...


def listed_traffic(path: Path, known: Collection[str]) -> PlannedTraffic:
    """The calls of a CSV, as of ``wakeful scale``.

    Raises:
        DeclarationError: with the problems, each with its line.
        RequestError: they are more than can be run through.
    """
    arrivals = read_arrivals(path, known)
    _refuse_unfit(str(path), len(arrivals), arrivals[-1].at)
    return _recorded(str(path), arrivals)


def captured_traffic(
    words: str,
    function: str,
    prefix: str,
    calls: Sequence[RecordedCall],
    length_of: Callable[[int], float],
    seed: int,
) -> PlannedTraffic:
    """Recorded calls of one function, from the first one on, without those that were refused for
    what they are. Each row of an array of them is a call of its own. Where a share of the calls was
    recorded, those that were not come beside them, by chance.

    Args:
        prefix: where the function is called with JSON; rows that were sent elsewhere, or not kept
            whole, are as long as the example.
        length_of: the length of a row by the bytes of its JSON.

    Raises:
        RequestError: they are more than can be run through, or say too little.
    """
    taken = sorted((call for call in calls if not call.was_refused), key=lambda call: call.at)
    if not taken:
        raise RequestError(
            f"{words}: all calls were refused for what they are, and computed nothing.",
            where="--trace",
        )
    if refused := len(calls) - len(taken):
        words += f", {refused:,} left out that were refused for what they are"
    came = [
        _Came(
            call.at - taken[0].at,
            call.rate,
            _lengths(call if call.path.rstrip("/") == prefix else None, length_of),
        )
        for call in taken
    ]
    last = came[-1].at
    whole = sum(1 / call.rate for call in came)
    _refuse_unfit(words, sum(len(call.lengths) / call.rate for call in came), last)
    make = partial(_fill_up, function, came)
    if whole == len(came):
        return _recorded(words, make(seed))
    share = f"{100 * len(came) / whole:.3g} %"
    if not last:
        raise RequestError(
            f"{words} has {share} of the calls, all of one moment, which says nothing of when the"
            " others came.",
            where="--trace",
        )
    words = f"about {whole:,.0f} calls, of which {share} are recorded in {words}"
    return PlannedTraffic(words, make(seed), 0.0, last + END_S, make)


class _Came(NamedTuple):
    """A call that was recorded.

    Attributes:
        at: seconds from the first.
        rate: share of the calls that was recorded.
        lengths: of its rows.
    """

    at: float
    rate: float
    lengths: Sequence[float | None]


def _fill_up(function: str, came: Sequence[_Came], seed: int) -> list[Arrival]:
    """The recorded calls, and those that they stand for."""
    dice, last = random.Random(seed), len(came) - 1
    found: list[Arrival] = []
    for index, call in enumerate(came):
        others = 1 / call.rate - 1
        begin, end = came[max(0, index - NEIGHBOURS)].at, came[min(last, index + NEIGHBOURS)].at
        count = int(others) + (dice.random() < others % 1)
        times = [call.at, *(dice.uniform(begin, end) for _ in range(count))]
        found += [Arrival(at, function, length=length) for at in times for length in call.lengths]
    return sorted(found, key=lambda arrival: arrival.at)


def _refuse_unfit(words: str, calls: float, last: float) -> None:
    """Raises what is too much to be run through."""
    if calls > MOST_CALLS:
        raise RequestError(
            f"{words} has {calls:,.0f} calls; {MOST_CALLS:,} are run through at most. Cut it.",
            where="--trace",
        )
    if last > LONGEST_S:
        raise RequestError(
            f"{words} has {last / 86400:.0f} days of calls; {LONGEST_S / 86400:.0f} at most are run"
            " through. Cut it.",
            where="--trace",
        )


def _recorded(words: str, arrivals: Sequence[Arrival]) -> PlannedTraffic:
    words = f"{len(arrivals):,} calls of {words}"
    return PlannedTraffic(words, arrivals, 0.0, arrivals[-1].at + END_S)


def _lengths(
    call: RecordedCall | None, length_of: Callable[[int], float]
) -> Sequence[float | None]:
    """Of each row of a call; None: it is not known."""
    if call is None or call.body is None or call.omitted:
        return (None,)
    try:
        data = loads(call.body)
    except (MalformedBody, TooLarge):  # a file, or a form
        return (None,)
    rows = data if isinstance(data, list) and data else [data]
    return [length_of(len(dumps(row))) if isinstance(row, dict) else None for row in rows]


def rows_of(arrivals: Iterable[Arrival], profiled: Mapping[str, float]) -> list[str]:
    """Functions whose recorded rows are longer than any that was measured, in words.

    Args:
        profiled: the longest row that was measured, by function; 0: length plays no part.
    """
    longest: dict[str, float] = {}
    for arrival in arrivals:
        if arrival.length is not None:
            longest[arrival.function] = max(longest.get(arrival.function, 0.0), arrival.length)
    return [
        f"{name} has rows of {length:.0f} elements, {profiled[name]:.0f} were measured at most:"
        " what lies beyond goes on in a line."
        for name, length in longest.items()
        if 0 < profiled.get(name, 0.0) < length
    ]
