"""Where functions are served, step by step: reports in, orders to Ray out, without a Ray."""

from __future__ import annotations

import json

import pytest

from deployments.placement.order_ledger import RayOrder
from deployments.placement.placement import SILENT_S, Placement
from deployments.placement.transitions import ROUTE_S, START_S, UNROUTED_S, WARM_S
from deployments.scaling.tier_policy import Thresholds
from tests.deployments.placement.placing import (
    CRASH,
    Box,
    app,
    crash_of,
    declaration,
    declared_again,
    promote,
)
from tests.problems import expect_values


@pytest.fixture
def box() -> Box:
    """With one function."""
    made = Box()
    made.declare(declaration())
    return made


def test_a_busy_function_is_promoted_without_a_prefix_first_and_gets_it_when_its_replica_runs(box):
    """So that no caller waits for a replica that starts."""
    (order,) = box.work("f", 1.3, 10)
    assert order == RayOrder("deploy", "f", routed=False, why=order.why)
    expect_values(order.why, "host → own", "1.3 cores")
    assert box.tick() == []  # the order is under way
    box.done("f")
    box.apps["f"] = app("waking")
    assert box.tick() == []
    assert box.placement.functions["f"].tier == "host"
    box.apps["f"] = app("ready")
    (order,) = box.tick()
    assert order.routed
    box.done("f")
    assert box.tick() == []
    assert box.placement.functions["f"].tier == "own"
    # the host needs it no more
    assert box.host(f={"state": "ready", "idle_s": 0.0}).release == ("f",)


def test_a_host_that_was_silent_has_none_of_its_functions_promoted_for_that(box):
    """What it has done in an hour is no work of the second in which it reports again."""
    for pause_s in (1.0, 1.0, SILENT_S + 1, 1.0, 1.0, 1.0):
        box.now += pause_s
        assert box.tick() == []  # where it is found to be silent
        box.host(f={"state": "ready", "busy_s": 3600.0, "calls": 9000, "idle_s": 0.0})
        assert box.tick() == []
    assert box.why() == []


def test_a_promotion_that_fails_leaves_the_host_serving_and_says_why(box):
    """And what was deployed is deleted; it is not tried again at once."""
    box.work("f", 1.3, 10)
    box.done("f")
    box.apps["f"] = app("failed", "the weights are not there")
    assert box.tick() == [RayOrder("delete", "f")]
    assert box.placement.functions["f"].tier == "host"
    assert "the weights are not there" in box.why()[-1]
    box.done("f")
    del box.apps["f"]
    assert box.work("f", 1.3, 10) == []
    expect_values(box.why()[-1], "promotion", "1 times")


@pytest.mark.parametrize(("is_routing", "limit"), [(False, START_S), (True, ROUTE_S)])
def test_a_promotion_that_hangs_is_given_up(box, is_routing, limit):
    """Whichever step it hangs in."""
    box.work("f", 1.3, 10)
    box.done("f")
    if is_routing:
        box.apps["f"] = app("ready")
        box.tick()
        box.done("f")
        box.apps["f"] = app("waking", "still")
    box.now += limit + 1
    box.host(f={"state": "ready", "idle_s": 0.0})
    assert box.tick() == [RayOrder("delete", "f")]


def test_handing_back_waits_for_the_host_then_takes_the_prefix_away_then_the_replica(box):
    """Each after the one before is done, so that a process answers at every moment."""
    box.declare(declaration(autoscaling={"downscale_delay_s": 5, "downscale_to_zero_delay_s": 60}))
    box.done("f")
    promote(box)
    assert box.work("f", 0.01, 12, tier="own") == []
    seat = box.placement.functions["f"]
    assert (seat.tier, seat.transition) == ("own", "loading_in_host")
    assert box.host().load == ("f",)
    box.host(f={"state": "ready", "idle_s": 0.0})
    (order,) = box.tick()
    assert (order.kind, order.routed) == ("deploy", False)
    box.done("f")
    assert box.tick() == []
    box.now += UNROUTED_S + 0.1
    assert box.tick() == [RayOrder("delete", "f")]
    box.done("f")
    box.apps["f"] = app("draining")
    assert box.tick() == []
    del box.apps["f"]
    assert box.tick() == []
    assert (seat.tier, seat.transition) == ("host", "steady")


def test_what_no_host_can_load_keeps_its_deployment(box):
    """Handing back is a saving; it must not cost an answer."""
    box.declare(declaration(autoscaling={"downscale_delay_s": 5, "downscale_to_zero_delay_s": 600}))
    box.done("f")
    promote(box)
    box.work("f", 0.01, 12, tier="own")
    for _ in range(int(WARM_S) + 1):
        box.now += 1
        box.host(f={"state": "failed", "reason": "no room", "idle_s": 0.0})
        box.own("f", busy_s=box.busy["f"], calls=1)
        box.tick()
    assert box.placement.functions["f"].tier == "own"
    expect_values(next(why for why in box.why() if "no room" in why), "host", "10 s")


def test_an_idle_deployment_goes_to_sleep_past_the_host(box):
    """Loading it there to unload it would be work for nothing."""
    promote(box)
    box.now += 1
    box.host()
    box.own("f", busy_s=1.0, calls=1, idle_s=61.0)
    (order,) = box.tick()
    assert (order.kind, order.routed) == ("deploy", False)
    assert "→ asleep" in box.why()[-1]


def test_a_function_with_a_deployment_of_its_own_from_the_start_is_never_moved(box):
    """`tier: own`, `min_replicas` or a GPU requires it."""
    box.declare(declaration(fixed=True))
    box.apps["f"] = app("ready")
    box.own("f", busy_s=1.0, calls=1, idle_s=1000.0)
    assert box.tick() == []
    assert box.placement.functions["f"].tier == "own"


def test_missing_resources_are_reported_and_the_longest_idle_yields(box):
    """A function that waits for resources reports so."""
    box.declare(declaration("f"), declaration("g"))
    promote(box, "g")
    box.free = {"CPU": 0.5}
    for _ in range(8):
        box.own("g", busy_s=box.busy["g"], calls=1, idle_s=5.0)
        todo = box.work("f", 1.3, 1)
        if todo:
            break
    assert [(order.kind, order.name, order.routed) for order in todo] == [("deploy", "g", False)]
    expect_values(box.why("f")[-1], "1 CPU", "0.5")
    expect_values(box.why("g")[-1], "yields", "to f")


def test_no_deployment_is_given_up_for_a_function_that_no_process_has_any_more(box):
    """The host unloaded it for another while it waited for resources, and nothing has called it
    since.
    """
    box.declare(declaration("f"), declaration("g"))
    promote(box, "g")
    box.free = {"CPU": 0.5}
    for _ in range(8):
        box.own("g", busy_s=box.busy["g"], calls=1, in_flight=1)
        assert box.work("f", 1.3, 1) == []
    assert box.placement.functions["f"].missing_resources
    for _ in range(5):
        box.now += 1
        box.host()
        box.own("g", busy_s=box.busy["g"], calls=1, idle_s=5.0)
        assert box.tick() == []
    assert not box.placement.functions["f"].missing_resources


def test_a_function_that_brought_the_host_down_gets_its_own_and_then_quarantine(box):
    """The host serves it until that answers: a row that does it is refused after the second time,
    and the others are answered.
    """
    assert box.host(crashes=[CRASH]).quarantined == {}
    box.host(crashes=[CRASH])
    assert len(box.placement.functions["f"].crashes) == 1  # reported twice, counted once
    assert "Segmentation fault" in box.why()[-1]
    (order,) = box.tick()
    assert (order.kind, order.routed) == ("deploy", False)
    box.done("f")
    box.apps["f"] = app("ready")
    box.tick()
    box.done("f")
    box.tick()
    assert box.placement.functions["f"].tier == "own"
    box.own("f", crashes=[crash_of(8), crash_of(9)])
    assert box.tick() == []
    box.own("f", crashes=[crash_of(10)])
    assert box.tick() == [RayOrder("delete", "f")]
    assert "quarantined" in box.host().quarantined["f"].reason


@pytest.mark.parametrize(
    ("at", "is_quarantined"),
    [
        ([0, 1, 2], False),
        ([0, 1, 2, 600], True),
        ([0, 1, 2, 601], False),
        ([0, 1, 2, 601, 602], False),
        ([0, 300, 601, 602, 603, 5000], True),
        ([n * 201 for n in range(30)], False),
    ],
)
def test_four_processes_within_ten_minutes_make_a_quarantine(box, at, is_quarantined):
    """Two rows that bring down two each; what is longer ago does not count, and what was enough
    stays enough.
    """
    for pid, second in enumerate(at):
        box.host(crashes=[crash_of(pid, 1000.0 + second)])
    assert box.placement.functions["f"].crashes.is_quarantined is is_quarantined


def test_two_unexplained_crashes_with_a_function_running_are_its_fault_and_one_is_not(box):
    """A kill from outside must not take a function out of the host, and no number of them puts it
    in quarantine.
    """
    suspect = {"culprits": (), "suspects": ("f",), "words": "killed"}
    box.host(crashes=[crash_of(1, **suspect)])
    assert not box.placement.functions["f"].crashes
    box.host(crashes=[crash_of(2, **suspect)])
    assert box.placement.functions["f"].crashes
    box.host(crashes=[crash_of(pid, **suspect) for pid in range(3, 30)])
    assert not box.placement.functions["f"].crashes.is_quarantined


def test_two_unexplained_crashes_long_after_one_another_mean_nothing(box):
    """More than ten minutes."""
    for pid in range(5):
        box.host(crashes=[crash_of(pid, 1000.0 + 601 * pid, culprits=(), suspects=("f",))])
        assert not box.placement.functions["f"].crashes


def test_a_controller_that_restarts_adopts_the_deployments_that_ray_has(box):
    """Applications of its own that are there, and what it has written down."""
    box.declare(declaration("f"), declaration("g"))
    promote(box, "g")
    box.host(crashes=[crash_of(pid) for pid in range(4)])
    refused = box.host().quarantined
    assert "quarantined" in refused["f"].reason
    again = Box(
        Placement(Thresholds(), json.loads(json.dumps(box.placement.persisted))), apps=box.apps
    )
    again.declare(declaration("f"), declaration("g"))
    (order,) = again.tick()
    # it may have died before it gave the prefix
    assert (order.kind, order.name, order.routed) == ("deploy", "g", True)
    again.done("g")
    again.tick()
    assert again.placement.functions["g"].tier == "own"
    assert again.host().quarantined == refused


def test_a_controller_that_restarts_deletes_nothing_before_it_is_told_the_functions(box):
    """It knows its applications from before, but not yet that they are still declared."""
    declared = [declaration("f"), declaration("g"), declaration("own", fixed=True)]
    box.declare(*declared)
    promote(box, "g")
    apps = {**box.apps, "own": app("asleep")}
    again = Box(Placement(Thresholds(), box.placement.persisted), apps=apps)
    assert again.placement.persisted["ours"] == ["g", "own"]
    assert again.tick() == []
    again.declare(*declared)
    assert [(order.kind, order.name) for order in again.tick()] == [("deploy", "g")]


def test_a_controller_that_restarts_deletes_what_is_declared_no_more(box):
    """Also where the file has no function at all."""
    box.declare(declaration("own", fixed=True))
    again = Box(Placement(Thresholds(), box.placement.persisted), apps={"own": app("ready")})
    again.declare()
    assert [(order.kind, order.name) for order in again.tick()] == [("delete", "own")]


def test_a_controller_that_restarts_goes_on_with_a_promotion(box):
    """Its replica had not started yet: it gets the prefix when it has."""
    box.work("f", 1.3, 10)
    again = Box(Placement(Thresholds(), box.placement.persisted), apps={"f": app("waking")})
    again.declare(declaration())
    (order,) = again.tick()
    assert (order.name, order.routed, again.placement.functions["f"].transition) == (
        "f",
        False,
        "starting",
    )


def test_a_changed_declaration_reaches_a_promoted_function_and_clears_its_record(box):
    """What changed may be what was wrong."""
    promote(box)
    box.host(crashes=[CRASH])
    (order,) = box.declare(declaration(description="new"))
    assert (order.kind, order.name, order.routed) == ("deploy", "f", True)
    assert not box.placement.functions["f"].crashes
    box.done("f")
    box.declare()
    assert box.tick() == [RayOrder("delete", "f")]


def test_a_deployment_takes_another_version_in_place(box):
    """Ray replaces its replica; until that is done nothing else is decided about it."""
    (order,) = declared_again(box)
    assert order == RayOrder("deploy", "f", routed=True, why=order.why)
    expect_values(order.why, "change")
    box.apps["f"] = app("waking")
    assert box.tick() == []
    box.apps["f"] = app("ready")
    assert box.tick() == []
    seat = box.placement.functions["f"]
    assert (seat.transition, seat.update_error, seat.spec.resources.num_cpus) == (
        "steady",
        "",
        2,
    )


def test_a_status_from_before_an_order_does_not_count(box):
    """Else the replica that is being replaced would pass for the new one."""
    declared_again(box)
    box.apps["f"] = app("ready")
    assert box.placement.next_orders(box.now, box.now, box.apps, box.now - 0.1, box.free) == []
    assert box.placement.functions["f"].transition == "updating"
    assert box.tick() == []
    assert box.placement.functions["f"].transition == "steady"


@pytest.mark.parametrize("how", ["failed", "late", "refused by Ray"])
def test_a_deployment_that_does_not_take_another_version_gets_the_one_before(box, how):
    """Which has answered all the while; declared once more, the other is tried again."""
    declared_again(box)
    seat = box.placement.functions["f"]
    if how == "refused by Ray":
        (back,) = box.done("f", "ValueError: no weights")
    else:
        box.now += START_S + 1 if how == "late" else 0
        message = "ValueError: no weights"
        box.apps["f"] = app("failed" if how == "failed" else "waking", message)
        (back,) = box.tick()
    assert (back.kind, back.routed, seat.tier, seat.transition) == ("deploy", True, "own", "steady")
    assert seat.spec.resources.num_cpus == 1
    assert seat.update_error == "ValueError: no weights"
    expect_values(box.why()[-1], "new version", "ValueError: no weights")
    box.done("f")
    assert box.declare(declaration()) == []
    (order,) = box.declare(declaration(resources={"num_cpus": 2}))
    assert order == RayOrder("deploy", "f", routed=True, why=order.why)
    expect_values(order.why, "change")
    assert seat.update_error == ""


def test_processes_of_several_machines_may_have_one_id(box):
    """In containers they often do: four deaths there are four, though each is told by several
    processes.
    """
    box.declare(declaration("f"))
    deaths = [crash_of(7, 1000.0 + second) for second in range(4)]
    for _ in range(2):
        box.host(crashes=deaths)
    assert len(box.placement.functions["f"].crashes) == 4
    assert box.placement.functions["f"].crashes.is_quarantined
