"""Hours within which a function is kept awake, as tables: moments, changes of the clock, mistakes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic_core import PydanticCustomError

from runtime.declaration.awake_hours import is_awake, parse_hours
from runtime.declaration.function_spec import FunctionArgs
from runtime.declaration.validation import format_path, validate_all

OFFICE = "Mon-Fri 08:00-18:00 Europe/Vienna"
NIGHT = "Fri 22:00-06:00 UTC"
SEVERAL = "Mon-Fri 08:00-12:00, Sat-Mon 13:00-14:30 UTC"


@pytest.mark.parametrize(
    ("text", "moment", "expected"),
    [
        (OFFICE, "2026-01-05T07:00", True),  # 08:00 in winter, a Monday
        (OFFICE, "2026-01-05T06:59", False),
        (OFFICE, "2026-01-05T16:59", True),
        (OFFICE, "2026-01-05T17:00", False),  # the end does not count
        (OFFICE, "2026-07-06T06:00", True),  # 08:00 in summer
        (OFFICE, "2026-07-06T16:00", False),
        (OFFICE, "2026-01-10T10:00", False),  # a Saturday
        (NIGHT, "2026-01-09T22:00", True),  # a Friday
        (NIGHT, "2026-01-10T05:59", True),
        (NIGHT, "2026-01-10T06:00", False),
        (NIGHT, "2026-01-10T22:00", False),
        (NIGHT, "2026-01-09T05:00", False),  # Thursday's night is not declared
        ("Sun 22:00-06:00 UTC", "2026-01-12T03:00", True),  # into a Monday
        ("Sat-Mon 00:00-24:00 UTC", "2026-01-11T12:00", True),  # days over the week's end
        ("Sat-Mon 00:00-24:00 UTC", "2026-01-13T12:00", False),
        (SEVERAL, "2026-01-05T11:59", True),
        (SEVERAL, "2026-01-05T12:30", False),
        (SEVERAL, "2026-01-05T14:29", True),
        (SEVERAL, "2026-01-06T14:00", False),
        ("00:00-24:00 UTC", "2026-01-11T23:59", True),
        ("08:00-09:00 Asia/Kolkata", "2026-01-11T02:30", True),
        ("mon 08:00-09:00 UTC", "2026-01-05T08:30", True),
        (None, "2026-01-05T08:30", False),
    ],
)
def test_a_moment_is_within_or_not(text: str | None, moment: str, expected: bool) -> None:
    """Moments are given in UTC."""
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    assert is_awake(text, now) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        # 29 March 2026: the clock in Vienna goes from 02:00 to 03:00
        ("2026-03-29T00:59", False),  # 01:59
        ("2026-03-29T01:00", False),  # 03:00: the hour did not come
        ("2026-03-30T00:30", True),  # 02:30 of the next day
        # 25 October 2026: it shows the hour from 02:00 twice
        ("2026-10-24T23:59", False),
        ("2026-10-25T00:30", True),  # 02:30 in summer time
        ("2026-10-25T01:30", True),  # 02:30 again
        ("2026-10-25T02:00", False),  # 03:00
    ],
)
def test_the_clock_on_the_wall_decides(moment: str, expected: bool) -> None:
    """Also where it is put forward or back."""
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    assert is_awake("02:00-03:00 Europe/Vienna", now) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon-Fri 08:00-18:00",
        "08:00-18:00",
        "Mon-Fri",
        "Mon-Fri 08:00-18:00 Europe/Viena",
        "Mon-Fri 08:00-18:00 ../../etc/passwd",
        "Mon-Fri 8-18 UTC",
        "Mo-Fr 08:00-18:00 UTC",
        "Mon-Fri 08:00-25:00 UTC",
        "Mon-Fri 08:61-18:00 UTC",
        "Mon-Fri 08:00-08:00 UTC",
        "Mon-Fri 24:00-06:00 UTC",
        "Mon, Wed 08:00-18:00 UTC",
        "Mon 08:00-18:00,, Tue 08:00-18:00 UTC",
        "Mon 08:00-24:30 UTC",
        ", ".join(["Mon 08:00-09:00"] * 31) + " UTC",  # 529 characters
    ],
)
def test_a_mistake_is_refused_at_its_key(text: str) -> None:
    """The key is that of the file, so its line is known."""
    assert parse_hours(", ".join(["Mon 08:00-09:00"] * 29) + " UTC")  # 495: all that are taken
    with pytest.raises(PydanticCustomError):
        parse_hours(text)
    args = {"graph": [{"stage": "a", "onnx": "m.onnx"}], "autoscaling": {"awake": text}}
    assert [format_path(issue.path) for issue in validate_all(FunctionArgs, args)[1]] == [
        "autoscaling.awake"
    ]
