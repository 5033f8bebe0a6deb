"""Numbers made of calls: how many were lost, how long the good ones took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.wake.calls import Answer

MS = 1e3


def taken_ms(answers: Iterable[Answer]) -> tuple[float, ...]:
    """Milliseconds of the good ones, in their order."""
    return tuple(answer.seconds * MS for answer in answers if answer.is_good)


def lost(what: str, answers: Sequence[Answer], note: str = "") -> Number:
    """How many were not served, and in whose words the first was not; none may be."""
    bad = [answer for answer in answers if not answer.is_good]
    said = [f"first: {bad[0].status} {bad[0].body[:120].decode(errors='replace')}"] if bad else []
    return Number(
        f"{what}: calls lost", (len(bad),), "", Target("at most", 0), "; ".join(filter(None, [f"of {len(answers)}", note, *said]))
    )


def slowest(what: str, answers: Iterable[Answer], limit_ms: float | None = None, note: str = "") -> Number:
    """The slowest that was served."""
    found = taken_ms(answers)
    return Number(f"{what}: slowest", (max(found),) if found else (), "ms", None if limit_ms is None else Target("at most", limit_ms), note)


def p99_ms(answers: Iterable[Answer]) -> tuple[float, ...]:
    """As one value, or none."""
    found = taken_ms(answers)
    return (percentile(found, 0.99),) if found else ()


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Round by round; a round without one of the two counts as none."""
    return tuple(high / low for high, low in zip(over, under, strict=False) if low > 0)
