"""The calls that are planned for: at a rate, or as they were recorded.

A recorded call has the length of its row by the bytes of its body, as the profile knows them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deployments.scaling.simulation import Arrival, poisson_arrivals, read_arrivals
from runtime.errors import DeclarationError, NotFound, Problem, RequestError
from runtime.system.messages import did_you_mean, quote

WARM_UP_S: Final = 60.0
"""Before a steady rate counts: replicas have started, and what comes of calls that found it asleep
is over. A recorded traffic counts from its first call.
"""

MOST_CALLS: Final = 2_000_000
"""That are run through: a minute of processor time, and 0.3 GB."""

END_S: Final = 1.0
"""After the last recorded call, in which it is answered."""

MOST_PROBLEMS: Final = 20

LengthOf = Callable[[str, int], float]
"""The length of a row, by its function and the bytes of its body."""


@dataclass(frozen=True, slots=True)
class PlannedTraffic:
    """Calls, and which part of their time is looked at.

    Attributes:
        words: what it is, for people.
        arrivals: in the order of time.
        since, until: seconds of it.
    """

    words: str
    arrivals: Sequence[Arrival]
    since: float
    until: float

    @property
    def seconds(self) -> float:
        """That are looked at."""
        return self.until - self.since

    @property
    def functions(self) -> tuple[str, ...]:
        """That are called, by name."""
        return tuple(sorted({arrival.function for arrival in self.arrivals}))


def steady_traffic(rates: Mapping[str, float], seconds: float, seed: int) -> PlannedTraffic:
    """Independent calls at a rate a second, by function.

    Raises:
        RequestError: they are more than can be run through.
    """
    whole_s = seconds + WARM_UP_S
    _refuse_too_many(sum(rates.values()) * whole_s, whole_s)
    words = ", ".join(f"{name} {rate:g}/s" for name, rate in rates.items())
    arrivals = poisson_arrivals(rates, whole_s, seed)
    return PlannedTraffic(f"{words}, independent calls", arrivals, WARM_UP_S, whole_s)


def shaped_traffic(
    words: str, arrivals: Iterable[Arrival], expected: float, seconds: float
) -> PlannedTraffic:
    """Made-up calls at a rate that changes, all of which count.

    Args:
        arrivals: in the order of time; made when they are asked for.
        expected: how many they will be.

    Raises:
        RequestError: they are more than can be run through.
    """
    _refuse_too_many(expected, seconds)
    made = list(arrivals)
    if not made:
        raise RequestError(
            f"no call comes within {seconds:g} s. Raise it, or the rate.", where="--for"
        )
    return PlannedTraffic(words, made, 0.0, seconds)


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
        try:
            rate = float(number)
        except ValueError:
            rate = math.nan
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


def read_trace(path: Path, known: Sequence[str], length_of: LengthOf) -> PlannedTraffic:
    """Recorded calls: a CSV of ``wakeful scale``, or what ``capture`` has written (``.jsonl``).

    Raises:
        DeclarationError: with the problems, each with its line.
        RequestError: they are more than can be run through.
    """
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        arrivals = _read_capture(path, known, length_of)
    else:
        arrivals = read_arrivals(path, known)
    if len(arrivals) > MOST_CALLS:
        raise RequestError(
            f"{path} has {len(arrivals):,} calls; {MOST_CALLS:,} are run through at most. Cut it.",
            where="--trace",
        )
    last = arrivals[-1].at
    return PlannedTraffic(f"{len(arrivals):,} calls of {path}", arrivals, 0.0, last + END_S)


def _read_capture(path: Path, known: Sequence[str], length_of: LengthOf) -> list[Arrival]:
    """The calls of a file that `capture` has written, from the first one on."""
    problems: list[Problem] = []
    found: list[tuple[float, str, int]] = []
    function = ""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                record = _parse_line(str(path), number, line, problems)
                if record is None:
                    pass
                elif "wakeful_capture" in record:
                    function = str(record.get("function", ""))
                    if function not in known:
                        near = did_you_mean(function, list(known)) or "."
                        message = f"there is no function {quote(function)}{near}"
                        problems.append(Problem(str(path), number, "function", message))
                elif not function:
                    message = "calls stand before the line that begins a capture."
                    problems.append(Problem(str(path), number, "", message))
                elif (at := _time_of(str(path), number, record, problems)) is not None:
                    found.append((at, function, _body_bytes(record)))
                if len(problems) >= MOST_PROBLEMS:
                    break
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(
            [Problem(str(path), 1, "", f"it cannot be read: {error}")]
        ) from error
    if not problems and not found:
        problems = [Problem(str(path), 1, "", "there are no calls in it.")]
    if problems:
        raise DeclarationError(problems)
    found.sort()
    first = found[0][0]
    return [
        Arrival(at - first, name, length=length_of(name, size) if size else None)
        for at, name, size in found
    ]


def _parse_line(
    file: str, number: int, line: str, problems: list[Problem]
) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError as error:
        problems.append(Problem(file, number, "", f"it is no JSON: {error}."))
        return None
    if not isinstance(record, dict):
        problems.append(Problem(file, number, "", "an object is wanted on each line."))
        return None
    return record


def _time_of(
    file: str, number: int, record: Mapping[str, Any], problems: list[Problem]
) -> float | None:
    at = record.get("at")
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        message = f"{quote(str(at))} is given, seconds since the epoch are wanted."
        problems.append(Problem(file, number, "at", message))
        return None
    return float(at)


def _body_bytes(record: Mapping[str, Any]) -> int:
    """Of the JSON that the call brought; 0: it brought another body, or only a part was kept."""
    body = record.get("body")
    if record.get("omitted") or not isinstance(body, dict):
        return 0
    return len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


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
