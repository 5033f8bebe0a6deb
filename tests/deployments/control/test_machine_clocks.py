"""How old a call is that another machine's HAProxy had first, whatever its clock says."""

from __future__ import annotations

import random

import pytest

from deployments.control import machine_clocks
from deployments.control.machine_clocks import MOST_MACHINES, WINDOW_S, MachineClocks
from deployments.serving.forwarding import name_clock
from runtime.http.request_headers import (
    ARRIVAL,
    RequestDeadline,
    arrival_age_s,
    call_name,
    with_arrival_header,
)

CLOCK = 1_700_000_000.0


def stamp(machine: str, at: float) -> bytes:
    """What HAProxy writes at a moment of its clock."""
    return f"{machine}/{round(at * 1e6)}-77-5".encode()


def age_s(clocks: MachineClocks, machine: str, at: float, clock: float = CLOCK) -> float:
    """The age of a call, as the process that has it reads it."""
    return arrival_age_s({ARRIVAL: clocks.localize(stamp(machine, at), clock)}, clock)


def test_a_call_of_this_machine_is_as_old_as_it_says():
    """From the first one on."""
    clocks = MachineClocks("10.0.0.1")
    assert clocks.localize(stamp("10.0.0.1", CLOCK - 3), CLOCK) == b"%d-77-5" % ((CLOCK - 3) * 1e6)
    assert age_s(clocks, "10.0.0.1", CLOCK - 3) == pytest.approx(3, abs=1e-5)
    plain = b"1700000000000000-77-5"
    assert clocks.localize(plain, CLOCK) == plain


@pytest.mark.parametrize("ahead_s", [-7200.0, -31.0, -0.5, 0.0, 0.5, 31.0, 7200.0])
def test_clocks_may_differ_by_anything(ahead_s):
    """The age is right to within the fastest way, of a call that was sent again too."""
    clocks, draw = MachineClocks("10.0.0.1"), random.Random(1)
    for number in range(200):
        clock = CLOCK + number / 10
        way_s = 0.0003 + draw.random() * 0.02
        age_s(clocks, "10.0.0.2", clock - way_s + ahead_s, clock)
    clock = CLOCK + 30
    assert age_s(clocks, "10.0.0.2", clock - 4 + ahead_s, clock) == pytest.approx(4, abs=0.01)
    assert age_s(clocks, "10.0.0.2", clock - 0.001 + ahead_s, clock) < 0.01


def test_the_first_call_of_a_machine_has_just_arrived():
    """Whatever its clock says; and each machine has a clock of its own."""
    clocks = MachineClocks("10.0.0.1")
    for machine, ahead_s in (("10.0.0.2", -31), ("10.0.0.3", 600)):
        assert age_s(clocks, machine, CLOCK + ahead_s) == pytest.approx(0, abs=1e-5)
    assert age_s(clocks, "10.0.0.2", CLOCK - 33) == pytest.approx(2, abs=1e-5)


def test_a_clock_that_was_set_is_known_after_two_windows():
    """Forward, when all calls seem late by as much; back it is known at once."""
    clocks = MachineClocks("10.0.0.1")
    assert age_s(clocks, "10.0.0.2", CLOCK) == pytest.approx(0, abs=1e-5)
    behind = [age_s(clocks, "10.0.0.2", CLOCK + s - 10, CLOCK + s) for s in range(1, 130, 10)]
    assert behind[0] == pytest.approx(10, abs=1e-5)
    assert behind[-1] == pytest.approx(0, abs=1e-5)
    assert 2 * WINDOW_S < 130
    clock = CLOCK + 200
    assert age_s(clocks, "10.0.0.2", clock + 50, clock) == pytest.approx(0, abs=1e-5)


def test_what_was_known_long_ago_counts_no_more():
    """A clock that was set back while nothing came has no call refused as late."""
    clocks, clock = MachineClocks("10.0.0.1"), CLOCK + 2 * WINDOW_S
    age_s(clocks, "10.0.0.2", CLOCK)
    assert age_s(clocks, "10.0.0.2", clock - 31, clock) == pytest.approx(0, abs=1e-5)
    assert age_s(clocks, "10.0.0.2", clock - 33, clock) == pytest.approx(2, abs=1e-5)


def test_this_machines_clock_may_be_set():
    """Back by an hour: nothing is older than it is."""
    clocks = MachineClocks("10.0.0.1")
    age_s(clocks, "10.0.0.2", CLOCK)
    assert age_s(clocks, "10.0.0.2", CLOCK - 0.1, CLOCK - 3600) < 0.2
    assert age_s(clocks, "10.0.0.2", CLOCK, CLOCK - 3600) < 0.2


@pytest.mark.parametrize(
    "value",
    [b"", b"/", b"a/", b"/-1", b"m/x-1-2", b"m/-1-2", b"m/99999999999999999999-1", b"a/b/1-2"],
)
def test_what_is_no_arrival_says_nothing(value):
    """Whatever wrote it."""
    clocks = MachineClocks("10.0.0.1")
    for clock in (CLOCK, 0.0):
        found = arrival_age_s({ARRIVAL: clocks.localize(value, clock)}, clock)
        assert found == pytest.approx(0, abs=1e-5)


def test_machines_are_bounded(monkeypatch):
    """The one that was known first is forgotten for another."""
    monkeypatch.setattr(machine_clocks, "MOST_MACHINES", 3)
    clocks = MachineClocks("10.0.0.1")
    for number in range(10):
        age_s(clocks, f"10.0.1.{number}", CLOCK)
    assert len(clocks._seen) == 3
    assert MOST_MACHINES > 3


def test_a_process_without_other_machines_ignores_their_clocks():
    """The name before the time is none of its digits."""
    assert arrival_age_s({ARRIVAL: stamp("10.0.0.2", CLOCK - 30)}, CLOCK) == 0


def test_a_host_names_its_clock_to_another_machine():
    """By which that reads it."""
    headers = [(b"x", b"1"), (ARRIVAL, b"%d-77-5" % ((CLOCK - 2) * 1e6))]
    named = dict(name_clock(headers, b"10.0.0.2"))
    assert named == {b"x": b"1", ARRIVAL: stamp("10.0.0.2", CLOCK - 2)}
    clocks = MachineClocks("10.0.0.1")
    age_s(clocks, "10.0.0.2", CLOCK - 0.001)
    assert arrival_age_s(clocks.localize_headers(named, CLOCK), CLOCK) == pytest.approx(2, abs=0.01)
    assert clocks.localize_headers({b"x": b"1"}, CLOCK) == {b"x": b"1"}


def test_a_call_keeps_its_name_on_every_way():
    """By its own machine, by another, passed on from host to host, and again: so one that HAProxy
    sends again is known.
    """
    sent = stamp("10.0.0.2", CLOCK)
    clocks, others = MachineClocks("10.0.0.1"), MachineClocks("10.0.0.3")
    ways = [sent, MachineClocks("10.0.0.2").localize(sent, CLOCK)]
    for later_s in (0.5, 0.0, 7.0):
        here = clocks.localize(sent, CLOCK + later_s)
        deadline = RequestDeadline(10.0, 30.0)
        (passed,) = with_arrival_header(
            [(ARRIVAL, sent)], deadline, 11.0 + later_s, CLOCK + later_s
        )
        (named,) = name_clock([passed], b"10.0.0.1")
        ways += [here, passed[1], named[1], others.localize(named[1], CLOCK + later_s)]
        (again,) = with_arrival_header([(ARRIVAL, named[1])], deadline, 12.0, CLOCK)
        ways.append(again[1])
    assert {call_name({ARRIVAL: value}) for value in ways} == {f"{round(CLOCK * 1e6)}-77-5"}
    assert call_name({}) == ""
