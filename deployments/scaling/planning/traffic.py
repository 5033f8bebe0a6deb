"""The calls that are planned for: at a rate, or as they were recorded.

A recorded call has the length of its row by the bytes of its body, as the profile knows them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

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


@dataclass(frozen=True, slots=True)
class PlannedTraffic:
    """Calls, and which part of their time is looked at.

    Attributes:
        words: what it is, for people.
        arrivals: in the order of time.
        since, until: seconds of it.
        again: other calls of the same kind, by another seed; None: these were recorded.
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
    """

    @property
    def at(self) -> float: ...
    @property
    def path(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def omitted(self) -> Sequence[str]: ...


def listed_traffic(path: Path, known: Collection[str]) -> PlannedTraffic:
    """The calls of a CSV, as of ``wakeful scale``.

    Raises:
        DeclarationError: with the problems, each with its line.
        RequestError: they are more than can be run through.
    """
    return _recorded(str(path), read_arrivals(path, known))


def captured_traffic(
    words: str,
    function: str,
    prefix: str,
    calls: Iterable[RecordedCall],
    length_of: Callable[[int], float],
) -> PlannedTraffic:
    """Recorded calls of one function, from the first one on. Each row of an array of them is a call
    of its own.

    Args:
        prefix: where the function is called with JSON; rows that were sent elsewhere, or not kept
            whole, are as long as the example.
        length_of: the length of a row by the bytes of its JSON.

    Raises:
        RequestError: they are more than can be run through.
    """
    found = [
        (call.at, length)
        for call in calls
        for length in _lengths(call if call.path.rstrip("/") == prefix else None, length_of)
    ]
    found.sort(key=lambda row: row[0])
    first = found[0][0]
    return _recorded(words, [Arrival(at - first, function, length=length) for at, length in found])


def _recorded(words: str, arrivals: Sequence[Arrival]) -> PlannedTraffic:
    if len(arrivals) > MOST_CALLS:
        raise RequestError(
            f"{words} has {len(arrivals):,} calls; {MOST_CALLS:,} are run through at most. Cut it.",
            where="--trace",
        )
    if (last := arrivals[-1].at) > LONGEST_S:
        raise RequestError(
            f"{words} has {last / 86400:.0f} days of calls; {LONGEST_S / 86400:.0f} at most are run"
            " through. Cut it.",
            where="--trace",
        )
    return PlannedTraffic(f"{len(arrivals):,} calls of {words}", arrivals, 0.0, last + END_S)


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
