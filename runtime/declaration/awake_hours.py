"""Hours within which a function is kept awake: ``Mon-Fri 08:00-18:00 Europe/Vienna``.

    WINDOW[, WINDOW ...] ZONE        WINDOW: [DAY[-DAY]] HH:MM-HH:MM

Without days a window is of every day. One that ends before it begins ends on the next day; the days
are those on which it begins. The zone is a name of the IANA time zone database, for all windows.
The clock on a wall there decides: an hour that it shows twice, in autumn, counts twice; one that it
skips, in spring, does not come.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from runtime.declaration.validation import validation_error
from runtime.system.messages import did_you_mean, quote

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

DAY_MINUTES: Final = 24 * 60

FORM: Final = "Mon-Fri 08:00-18:00 Europe/Vienna"

MAX_TEXT: Final = 512
"""Characters: some twenty windows."""

_WINDOW: Final = re.compile(
    r"(?:(?P<first>[A-Za-z]+)(?:-(?P<last>[A-Za-z]+))?\s+)?"
    r"(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)"
)


@dataclass(frozen=True, slots=True)
class AwakeWindow:
    """One window.

    Attributes:
        days: on which it begins, Monday is 0.
        begin: minutes since midnight.
        end: likewise, up to 1440; not above ``begin``: of the next day.
    """

    days: frozenset[int]
    begin: int
    end: int

    def contains(self, day: int, minute: int) -> bool:
        """Whether a moment is within it: day of the week and minute of the day."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class AwakeHours:
    """All windows, and the zone whose clock they go by."""

    windows: tuple[AwakeWindow, ...]
    zone: zoneinfo.ZoneInfo


def is_awake(text: str | None, now: float) -> bool:
    """Whether a function with these hours is to be awake.

    Args:
        text: checked before; None: there are no such hours.
        now: seconds since the epoch.
    """
    if not text:
        return False
    hours = parse_hours(text)
    local = datetime.fromtimestamp(now, hours.zone)
    day, minute = local.weekday(), local.hour * 60 + local.minute
    return any(window.contains(day, minute) for window in hours.windows)


@lru_cache(maxsize=1024)
def parse_hours(text: str) -> AwakeHours:
    """Return the hours that a text names.

    Raises:
        PydanticCustomError: a ``ValueError`` that says what is wrong with it.
    """
    if len(text) > MAX_TEXT:
        raise validation_error(f"hours of more than {MAX_TEXT} characters. Write fewer windows.")
    rest, _, zone = text.strip().rpartition(" ")
    if re.fullmatch(r"[\d:,-]*|[A-Za-z]{3}-[A-Za-z]{3}", zone) or not rest.strip():
        raise validation_error(
            f"{quote(text)} names no time zone. Write one last, as in {quote(FORM)}, or UTC."
        )
    return AwakeHours(tuple(_windows(rest)), _zone(zone))


def check_hours(text: str) -> str:
    """Return a text that names hours. Raises as ``parse_hours``."""
    parse_hours(text)
    return text


def _windows(text: str) -> Iterator[AwakeWindow]:
    for part in text.split(","):
        found = _WINDOW.fullmatch(part.strip())
        if found is None:
            raise validation_error(
                f"{quote(part.strip())} is not a window of hours: [DAY[-DAY]] HH:MM-HH:MM, as in"
                f" {quote(FORM)}; windows are separated by commas."
            )
        begin, end = _minutes(found["begin"]), _minutes(found["end"])
        if begin in (end, DAY_MINUTES):
            raise validation_error(
                f"{quote(part.strip())} has no length. A whole day is 00:00-24:00."
            )
        yield AwakeWindow(_days(found["first"], found["last"]), begin, end)


def _minutes(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > DAY_MINUTES:
        raise validation_error(f"{quote(text)} is not a time: 00:00 to 24:00.")
    return hours * 60 + minutes


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    begin = _day(first)
    count = (_day(last or first) - begin) % 7 + 1
    return frozenset((begin + offset) % 7 for offset in range(count))


def _day(text: str) -> int:
    if text.title() not in DAYS:
        raise validation_error(f"{quote(text)} is not a day. Days are {', '.join(DAYS)}.")
    return DAYS.index(text.title())


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        advice = did_you_mean(name, known) or ", such as Europe/Vienna or UTC."
        if not known:
            advice = ": this machine has no time zones. `pip install tzdata` brings them."
        raise validation_error(f"{quote(name)} is not a time zone{advice}") from None
