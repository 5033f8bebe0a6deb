"""What fits, who lacks room and who gives it."""

from __future__ import annotations

import os

import pytest

from deployments.room import Claim, Room, how_many, roomiest

CPU = {"CPU": 1.0}


@pytest.mark.parametrize(
    ("free", "needs", "count"),
    [
        ({"CPU": 3.5}, CPU, 3),
        ({"CPU": 0.3}, {"CPU": 0.1}, 3),
        ({"CPU": 8.0}, {"CPU": 1.0, "GPU": 0.5}, 0),
        ({}, CPU, 0),
        ({"CPU": -2.0}, CPU, 0),
    ],
)
def test_the_scarcest_resource_decides(free, needs, count):
    """A resource of which all is taken is not listed at all."""
    assert how_many(free, needs) == count


def asked(*answers: dict[str, float] | list[dict[str, float]]) -> Room:
    """A room that has been told once, and will be told the rest: what one machine has free, or several."""
    coming = iter(answers)
    room = Room(lambda: answer if isinstance(answer := next(coming), list) else [answer])
    room.refresh().join()
    return room


def test_what_fits_is_known_until_it_is_old():
    """Then it is not known, which is not the same as nothing."""
    room = asked({"CPU": 3.0})
    assert room.fits(CPU, room._at + 1) == 3
    assert room.fits({}, room._at + 1) is None
    assert room.fits(CPU, room._at + 100) is None


def test_what_is_being_started_is_not_free():
    """Until Ray is asked again."""
    room = asked({"CPU": 3.0}, {"CPU": 2.0})
    room.take(CPU, 2)
    assert room.fits(CPU, room._at) == 1


def test_a_failing_answer_is_none(caplog):
    """Scaling goes on without knowing what fits."""
    room = Room(lambda: (_ for _ in ()).throw(ConnectionError("no GCS")))
    room.refresh().join()
    assert room.fits(CPU, 0.0) is None
    assert "no GCS" in caplog.text


def test_two_halves_on_two_machines_are_no_whole():
    """A replica is on one machine; what is being started is taken where there is most."""
    room = asked([{"CPU": 1.5}, {"CPU": 3.5}])
    assert room.fits(CPU, room._at) == 4
    assert room.fits({"CPU": 4.0}, room._at) == 0
    room.take(CPU, 3)
    assert room.fits(CPU, room._at) == 1
    assert roomiest([{"CPU": 1.5, "GPU": 0.5}, {"CPU": 3.5}]) == {"CPU": 3.5, "GPU": 0.5}


def test_replicas_start_one_for_each_core_of_each_machine():
    """As far as they are alike."""
    cores = len(os.sched_getaffinity(0))
    assert asked({"CPU": 1.0}).starts() == cores
    assert asked([{"CPU": 1.0}, {"CPU": 0.0}]).starts() == 2 * cores


def test_the_longest_spare_is_asked_for_first():
    """Of those who hold what is scarce, and told so lately; what leaves already is not asked for twice."""
    room = asked({"CPU": 0.0})
    room.tell("hungry", Claim(100.0, 2, 0, 100.0, CPU))
    room.tell("late", Claim(100.0, 0, 3, 90.0, CPU))
    room.tell("early", Claim(100.0, 0, 1, 10.0, CPU))
    room.tell("other", Claim(100.0, 0, 5, 5.0, {"GPU": 1.0}))
    room.tell("gone", Claim(50.0, 0, 5, 1.0, CPU))
    assert {name: room.asked(name, 101.0) for name in ("hungry", "late", "early", "other", "gone")} == {
        "hungry": 0, "late": 1, "early": 1, "other": 0, "gone": 0
    }  # fmt: skip
    room.give(1, 101.0)
    assert {name: room.asked(name, 101.0) for name in ("late", "early")} == {"late": 0, "early": 1}


def test_nobody_is_asked_while_nobody_lacks():
    """Spare replicas wait for their delay."""
    room = asked({"CPU": 0.0})
    room.tell("idle", Claim(100.0, 0, 3, 90.0, CPU))
    assert room.asked("idle", 101.0) == 0
