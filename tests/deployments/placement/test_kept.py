"""Functions that are kept awake on a cluster, or told to sleep: orders to hosts and to Ray, without
a Ray; and, on one, by the operator's commands.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from deployments.ingress import residency_signal
from deployments.placement.placement import Placement
from deployments.ray_support.environment import MARK
from deployments.scaling.tier_policy import Thresholds
from tests.deployments.placement.placing import Box, declaration, promote

MONDAY = datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp()
SUNDAY = datetime(2026, 1, 4, 10, tzinfo=UTC).timestamp()
OFFICE = {"awake": "Mon-Fri 08:00-18:00 UTC"}
READY = {"state": "ready", "idle_s": 100.0}


@pytest.mark.parametrize(("now", "expected"), [(MONDAY, ("f",)), (SUNDAY, ())])
def test_the_host_is_to_keep_a_function_within_its_hours(now, expected):
    """And no longer, and only what it serves."""
    box = Box(now=now)
    box.declare(
        declaration(autoscaling=OFFICE),
        declaration("g"),
        declaration("fixed", fixed=True, autoscaling=OFFICE),
    )
    assert box.host().keep == expected


def test_a_pin_is_known_after_a_restart_and_ends_with_its_function():
    """It is part of what is persisted, as plain JSON."""
    box = Box()
    box.declare(declaration(), declaration("g"))
    before = box.placement.changes
    box.placement.pin("f", is_pinned=True)
    assert box.placement.changes > before  # so it is written
    assert box.host().keep == ("f",)

    data = json.loads(json.dumps(box.placement.persisted))
    again = Box(placement=Placement(Thresholds(), data))
    again.declare(declaration(), declaration("g"))
    assert again.host().keep == ("f",)
    again.declare(declaration("g"))
    again.declare(declaration(), declaration("g"))
    assert again.host().keep == ()

    box.placement.pin("f", is_pinned=False)
    assert box.host().keep == ()
    assert box.placement.persisted["pinned"] == []


def test_of_several_hosts_one_keeps_it():
    """That to which its calls are passed on."""
    box = Box()
    box.declare(*(declaration(f"f{n}") for n in range(8)))
    for n in range(8):
        box.placement.pin(f"f{n}", is_pinned=True)
    box.host(host="h1")
    box.host(host="h2")
    kept = [box.host(host=host).keep for host in ("h1", "h2")]
    assert sorted(kept[0] + kept[1]) == [f"f{n}" for n in range(8)]
    assert all(kept)


def test_a_promoted_function_that_is_kept_goes_back_to_the_host_when_it_is_idle():
    """Its deployment does not fall asleep; the host loads it first, and keeps it."""
    box = Box(now=MONDAY)
    box.declare(declaration(autoscaling={**OFFICE, "downscale_to_zero_delay_s": 20.0}))
    promote(box)
    assert box.host().keep == ()
    for _ in range(90):
        box.now += 1
        box.own("f", busy_s=box.busy["f"], calls=100, idle_s=40.0)
        box.host()
        assert box.tick() == []
        if box.placement.functions["f"].transition == "loading_in_host":
            break
    assert box.host().load == ("f",)
    (order,) = (box.host(f=READY), box.tick())[1]
    assert (order.kind, order.routed) == ("deploy", False)
    assert "own → host" in order.why
    assert box.host(f=READY).keep == ("f",)


def test_a_function_that_is_told_to_sleep_is_released_wherever_it_is():
    """By the host at once, by its deployment as soon as it has no call."""
    box = Box()
    box.declare(declaration())
    assert box.host(f=READY).release == ()
    box.placement.kept.sleeping.update(["f"])
    assert box.host(f=READY).release == ("f",)
    box.placement.kept.sleeping.clear()

    promote(box)
    box.placement.kept.sleeping.update(["f"])
    busy = {"busy_s": box.busy["f"], "calls": 1000}
    box.now += 1
    box.host()
    box.own("f", in_flight=1, **busy)
    assert box.tick() == []
    box.now += 1
    box.own("f", idle_s=0.5, **busy)
    (order,) = box.tick()
    assert (order.kind, order.routed) == ("deploy", False)
    assert box.placement.functions["f"].tier == "host"


def test_what_is_kept_does_not_make_room():
    """Another function waits for resources; this one has been idle for long."""
    box = Box(free={"CPU": 0.0})
    box.declare(declaration(), declaration("g"))
    box.free = {"CPU": 4.0}
    promote(box)
    box.placement.pin("f", is_pinned=True)
    box.free = {"CPU": 0.0}
    for _ in range(8):
        box.now += 1
        box.busy["g"] = box.busy.get("g", 0.0) + 1.3
        box.own("f", busy_s=box.busy["f"], calls=1000, idle_s=10.0)
        box.host(g={"state": "ready", "busy_s": box.busy["g"], "calls": 1, "in_flight": 1})
        assert box.tick() == []
    assert box.placement.functions["g"].missing_resources
    box.placement.pin("f", is_pinned=False)
    (order,) = box.tick()
    assert (order.name, order.routed) == ("f", False)


def test_policies_are_told_by_files(tmp_path, monkeypatch):
    """Each set replaces the one before; without a state folder nothing is said."""
    monkeypatch.delenv(MARK, raising=False)
    residency_signal.set_pinned({"f"})
    assert not residency_signal.is_available()
    assert not residency_signal.is_pinned("f")

    monkeypatch.setenv(MARK, str(tmp_path))
    assert residency_signal.is_available()
    residency_signal.set_pinned(set())
    residency_signal.set_pinned({"f", "g"})
    residency_signal.set_sleeping({"h"})
    assert [residency_signal.is_pinned(name) for name in "fgh"] == [True, True, False]
    assert residency_signal.is_to_sleep("h")
    residency_signal.set_pinned({"g"})
    residency_signal.set_sleeping(())
    assert [residency_signal.is_pinned(name) for name in "fgh"] == [False, True, False]
    assert not residency_signal.is_to_sleep("h")
