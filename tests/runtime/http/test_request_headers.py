"""The deadline of a request, by its headers."""

from __future__ import annotations

import math

import pytest

from runtime.http.request_headers import (
    ARRIVAL,
    TIMEOUTS,
    RequestDeadline,
    declared_timeout_s,
    read_deadline,
    with_arrival_header,
)

NOW, CLOCK = 1000.0, 1_700_000_000.0
LIMIT_S = 30.0


def arrived(before_s: float) -> bytes:
    """The edge's header of a call that it had so many seconds before now."""
    return b"%d-12-7" % ((CLOCK - before_s) * 1e6)


@pytest.mark.parametrize(
    ("headers", "left_s"),
    [
        ({}, 30.0),
        ({TIMEOUTS[0]: b"5"}, 5.0),
        ({TIMEOUTS[1]: b"0.25"}, 0.25),
        ({TIMEOUTS[0]: b"7", TIMEOUTS[1]: b"3"}, 3.0),
        ({TIMEOUTS[0]: b"31"}, 30.0),
        ({TIMEOUTS[0]: b"1e-3"}, 0.001),
        ({ARRIVAL: arrived(2)}, 28.0),
        ({ARRIVAL: arrived(2), TIMEOUTS[0]: b"5"}, 3.0),
        ({ARRIVAL: arrived(31)}, -1.0),
        ({ARRIVAL: arrived(-5)}, 30.0),
        ({ARRIVAL: arrived(3601)}, 30.0),
        ({ARRIVAL: b""}, 30.0),
        ({ARRIVAL: b"-1-2-3"}, 30.0),
        ({ARRIVAL: b"yesterday-1-1"}, 30.0),
        ({ARRIVAL: b"9" * 400}, 30.0),
        ({ARRIVAL: "²".encode("latin-1") * 16}, 30.0),
    ],
)
def test_what_is_left(headers, left_s):
    """The function's limit, lowered by the caller and by the age of the call; never raised,
    whatever is sent.
    """
    assert read_deadline(headers, LIMIT_S, NOW, CLOCK).remaining_s(NOW) == pytest.approx(
        left_s, abs=1e-4
    )


@pytest.mark.parametrize(
    "value",
    [
        b"0",
        b"-1",
        b"nan",
        b"inf",
        b"-inf",
        b"1e309",
        b"0xff",
        b"abc",
        b"",
        b"\xff",
        b"1 2",
        b"9" * 5000,
    ],
)
def test_what_is_no_time_changes_nothing(value):
    """Not finite, not above 0, or no number: the function's own deadline holds."""
    assert declared_timeout_s(value) == math.inf
    for name in TIMEOUTS:
        assert read_deadline({name: value}, LIMIT_S, NOW, CLOCK) == RequestDeadline(NOW, LIMIT_S)


def test_a_body_lowers_it_as_well():
    """And never raises it; an infinite timeout is none."""
    one = RequestDeadline(NOW, 5.0)
    assert one.shortened(2.0).remaining_s(NOW + 0.5) == 1.5
    assert one.shortened(9.0) is one
    assert one.shortened(math.inf) is one


@pytest.mark.parametrize(
    ("headers_before", "rest"),
    [([], b"-0-0"), ([(ARRIVAL, arrived(0))], b"-12-7"), ([(ARRIVAL, b"nonsense")], b"-0-0")],
)
def test_a_call_that_is_passed_on_keeps_its_age(headers_before, rest):
    """The next process counts from the same moment, whatever the first was given; the rest of the
    call's name stays.
    """
    headers = [(b"accept", b"*/*"), *headers_before]
    passed = with_arrival_header(headers, RequestDeadline(NOW, LIMIT_S), NOW + 4, CLOCK + 4)
    assert [key for key, _ in passed] == [b"accept", ARRIVAL]
    assert passed[-1][1].endswith(rest)
    assert read_deadline(dict(passed), LIMIT_S, NOW + 6, CLOCK + 6).remaining_s(
        NOW + 6
    ) == pytest.approx(24.0, abs=1e-4)
