"""Applications are compared with what is declared, whatever was ordered: removals, lost orders,
quarantines, sequences; without a Ray.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.control.declarations import hash_declarations
from deployments.control.orders import ReplicaOrders
from deployments.ingress.haproxy.rules import FUNCTION
from deployments.placement.order_ledger import AGAIN_S, LANDED_S, RayOrder
from deployments.placement.placement import STALE_HOST_S, Placement
from deployments.placement.transitions import LOST_S, START_S, STRAY_S, UNROUTED_S
from deployments.scaling.tier_policy import Thresholds
from tests.deployments.placement.placing import (
    CRASH,
    Box,
    app,
    bring_to,
    crash_of,
    declaration,
    promote,
    quarantine,
)
from tests.problems import expect_values


@pytest.fixture
def box() -> Box:
    """With one function."""
    made = Box()
    made.declare(declaration())
    return made


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("step", ["starting", "adding_route", "removing_route", "deleting"])
def test_what_is_removed_while_it_is_moved_is_deleted(box, step, is_done):
    """Whatever was under way, and though its last order lands after it was removed; again, where
    the deletion is lost.
    """
    bring_to(box, step)
    assert (box.placement.functions["f"].tier, box.placement.functions["f"].transition) == (
        "host",
        step,
    )
    if is_done:
        box.done("f")
    box.declare()
    if not is_done:
        assert box.tick() == []  # the order is under way
        box.done("f")
    assert box.tick() == [RayOrder("delete", "f")]
    box.done("f", kind="delete")
    assert box.tick() == []
    box.now += AGAIN_S
    assert box.tick() == [RayOrder("delete", "f")]
    box.done("f", kind="delete")
    box.apps["f"] = app("draining")
    box.now += AGAIN_S
    assert box.tick() == []
    del box.apps["f"]
    box.tick()
    box.now += LANDED_S + 1
    box.tick()
    assert box.placement.persisted["ours"] == []


def test_a_deployment_of_a_function_that_the_host_serves_is_deleted(box):
    """An order that failed has landed late. Until it is gone nothing is promoted."""
    box.work("f", 1.3, 10)
    box.done("f", "ValueError: no")
    box.done("f", kind="delete")
    box.tick()
    assert (box.placement.functions["f"].tier, box.placement.functions["f"].transition) == (
        "host",
        "steady",
    )
    box.now += 60
    box.apps["f"] = app("ready")
    assert box.work("f", 1.3, int(STRAY_S) - 1) == []
    assert box.work("f", 1.3, 5) == [RayOrder("delete", "f")]
    expect_values(box.why()[-1], "exists", "host")


def test_a_deletion_that_was_lost_is_ordered_again(box):
    """Ray confirms none."""
    bring_to(box, "deleting")
    box.done("f", kind="delete")
    assert box.tick() == []
    box.now += AGAIN_S + 1
    assert box.tick() == [RayOrder("delete", "f")]


def test_an_order_that_ray_did_not_answer_is_given_again(box):
    """It says nothing of the function: a version is not refused for it, nor is a promotion tried
    later and later.
    """
    promote(box)
    (order,) = box.declare(declaration(resources={"num_cpus": 2}))
    box.placement.on_order_done(
        order, "TimeoutError: no controller", box.now, box.now, is_lost=True
    )
    assert box.tick() == []
    box.now += AGAIN_S
    (again,) = box.tick()
    assert (again, box.placement.functions["f"].update_error) == (order, "")


def test_a_deployment_is_ordered_once_more_when_older_orders_must_have_landed(box):
    """One of a previous controller may take the prefix away again, or bring an older version back, and
    nothing shows it.
    """
    promote(box)
    again = Box(Placement(Thresholds(), box.placement.persisted), apps=box.apps)
    again.declare(declaration())
    again.tick()
    again.done("f")
    again.tick()
    assert again.work("f", 1.3, int(LANDED_S) - 2, tier="own") == []
    (order,) = again.work("f", 1.3, 5, tier="own")
    assert (order.kind, order.name, order.routed) == ("deploy", "f", True)
    expect_values(order.why, "once more")


def test_a_deployment_that_is_declared_comes_back_when_it_was_lost(box):
    """`up` made it, and deletes it first where the file has it no more: it has time to say so."""
    box.declare(declaration(fixed=True))
    box.apps["f"] = app("ready")
    assert box.tick() == []
    del box.apps["f"]
    box.tick()
    box.now += LOST_S
    assert box.tick() == []
    box.now += 1
    (order,) = box.tick()
    assert (order.kind, order.name, order.routed) == ("deploy", "f", True)


@pytest.mark.parametrize(
    "remembered", [{"ours": [], "crashes": {}}, {"ours": ["f"], "crashes": {}}]
)
def test_an_application_that_is_not_ours_is_left_alone(remembered):
    """Though it is named like a function: ours is what was ordered here, and made of a function's
    one deployment.
    """
    box = Box(Placement(Thresholds(), remembered))
    box.declare(declaration())
    box.apps["f"] = replace(
        app("ready"), deployments=("Ingress",) if remembered["ours"] else (FUNCTION,)
    )
    assert box.work("f", 1.3, 30) == []
    expect_values(" ".join(box.why()), "left alone")
    box.declare()
    assert box.tick() == []


def test_names_that_up_has_in_hand_are_left_alone_until_it_has_declared_them(box):
    """It deploys over what the controller was about to delete, and declares it last."""
    promote(box)
    box.now += 1
    box.host()
    box.own("f", busy_s=1.0, calls=1, idle_s=61.0)
    box.tick()
    assert box.placement.functions["f"].transition == "removing_route"
    box.placement.declare([declaration()], box.now, ["f"])
    assert box.placement.has_order_for_held  # its order is under way, and `up` waits for that
    box.done("f")
    assert not box.placement.has_order_for_held
    box.now += 60
    assert box.tick() == []
    assert box.declare(declaration(fixed=True)) == []
    assert box.tick() == []
    assert (box.placement.functions["f"].tier, box.placement.functions["f"].transition) == (
        "own",
        "steady",
    )


def test_a_host_that_knows_other_functions_for_long_gets_the_declarations_again(box):
    """Ray sends them once, within a second."""
    knows = hash_declarations([declaration(), declaration("g")])
    assert box.host(declared=knows).declare is None
    box.now += STALE_HOST_S + 1
    assert box.host(declared=knows).declare == (declaration(),)
    assert box.host(declared=knows).declare is None  # it has a minute to take it
    assert box.host(declared=hash_declarations([declaration()])).declare is None


# Quarantine.


def test_a_quarantine_ends_with_a_changed_declaration_only(box):
    """Crashes of the previous version, which are reported late, do not count."""
    quarantine(box)
    record = box.host().quarantined["f"]
    box.declare(declaration())
    assert box.placement.functions["f"].crashes.is_quarantined
    box.declare(declaration(deployed={"made_of": {"code": "mended"}}))
    assert box.host().quarantined == {}
    box.host(
        crashes=[crash_of(pid, versions={"f": [declaration().version]}) for pid in range(10, 14)]
    )
    assert (box.host().quarantined, list(box.placement.functions["f"].crashes)) == ({}, [])
    box.host(
        crashes=[
            crash_of(
                pid, versions={"f": [declaration(deployed={"made_of": {"code": "mended"}}).version]}
            )
            for pid in range(20, 24)
        ]
    )
    again = box.host().quarantined["f"]
    assert again.declaration != record.declaration


def test_a_function_that_was_taken_down_starts_without_crashes(box):
    """Even when it is declared as it was."""
    quarantine(box)
    box.declare()
    box.declare(declaration())
    assert not box.placement.functions["f"].crashes.is_quarantined


def test_less_than_a_quarantine_ends_likewise(box):
    """A function that crashed once has a deployment of its own until its declaration changes; then
    it is handed back when it is idle.
    """
    scaling = {"downscale_delay_s": 5, "downscale_to_zero_delay_s": 60}
    promote(box)
    box.host(crashes=[CRASH])
    assert box.work("f", 0.0, 70, tier="own", idle_s=65.0, in_flight=0) == []
    box.declare(declaration(autoscaling=scaling))
    box.done("f")
    box.tick()
    (order,) = box.work("f", 0.0, 70, tier="own", idle_s=65.0, in_flight=0)
    assert (order.kind, order.routed) == ("deploy", False)


def test_a_function_that_always_has_its_own_is_quarantined_where_it_is(box):
    """Its replicas are ordered to refuse; another version's are not."""
    mended = declaration(fixed=True, deployed={"made_of": {"code": "mended"}})
    box.declare(declaration(fixed=True))
    box.apps["f"] = app("ready")
    version = declaration().version
    assert box.own("f", version=version) == ReplicaOrders()
    box.own("f", crashes=[crash_of(pid) for pid in range(4)])
    assert "quarantined" in box.own("f", version=version).quarantine
    assert box.own("f", version=mended.version) == ReplicaOrders()
    assert box.tick() == []
    box.declare(mended)
    assert box.own("f", version=mended.version) == ReplicaOrders()


# Sequences.


def test_the_prefix_is_not_given_while_sequences_live_that_began_since(box):
    """They are where the host keeps them; when they have ended, the replica that waits takes
    over.
    """
    box.work("f", 1.3, 10)
    box.done("f")
    box.apps["f"] = app("ready")
    box.host(f={"state": "ready", "idle_s": 0.0, "sequences": 12})
    assert box.tick() == []
    expect_values(box.why()[-1], "12 sequences", "host")
    box.host(f={"state": "ready", "idle_s": 0.0, "sequences": 0})
    (order,) = box.tick()
    assert (order.routed, order.why.startswith("host → own")) == (True, True)


def test_a_replica_that_waits_for_sequences_too_long_is_given_up(box):
    """They may live for hours."""
    box.work("f", 1.3, 10)
    box.done("f")
    box.apps["f"] = app("ready")
    box.now += START_S + 1
    box.host(f={"state": "ready", "idle_s": 0.0, "sequences": 1})
    assert box.tick() == [RayOrder("delete", "f")]


def test_the_prefix_is_not_taken_while_sequences_live_that_began_since(box):
    """It stays where they are."""
    box.declare(declaration(autoscaling={"downscale_delay_s": 5, "downscale_to_zero_delay_s": 60}))
    promote(box)
    box.work("f", 0.01, 12, tier="own")
    assert box.placement.functions["f"].transition == "loading_in_host"
    box.own("f", busy_s=box.busy["f"], calls=1, sequences=3)
    box.host(f={"state": "ready", "idle_s": 0.0})
    assert box.tick() == []
    assert (box.placement.functions["f"].tier, box.placement.functions["f"].transition) == (
        "own",
        "steady",
    )
    expect_values(box.why()[-1], "3 sequences")


@pytest.mark.parametrize(
    ("outcome", "after_s", "state", "given"),
    [
        ("taken", UNROUTED_S, "ready", []),
        ("taken", UNROUTED_S + 0.1, "ready", [RayOrder("delete", "f")]),
        ("refused", UNROUTED_S + 0.1, "ready", []),
        ("refused", AGAIN_S, "ready", []),
        ("refused", AGAIN_S + 0.1, "ready", ["deploy"]),
        ("refused", AGAIN_S + 0.1, "", []),
        ("lost", UNROUTED_S + 0.1, "ready", []),
        ("lost", AGAIN_S + 0.1, "ready", ["deploy"]),
        ("lost", AGAIN_S + 0.1, "", []),
    ],
)
def test_a_deployment_is_deleted_after_ray_has_taken_its_prefix_away(
    box, outcome, after_s, state, given
):
    """An order that was not carried out is given again, if there is anything left: with its prefix
    it is still called.
    """
    bring_to(box, "removing_route")
    error = "" if outcome == "taken" else f"ValueError: {outcome}"
    box.done("f", error, is_lost=outcome == "lost")
    box.apps = {"f": app(state)} if state else {}
    box.now += after_s
    orders = box.tick()
    assert [one.kind if one.kind in given else one for one in orders] == given
    assert not any(one.routed for one in orders)
    if "deploy" in given:
        box.done("f")
        box.now += UNROUTED_S + 0.1
        assert box.tick() == [RayOrder("delete", "f")]
    assert box.placement.functions["f"].transition == (
        "steady" if not state else "removing_route" if not orders else "deleting"
    )


@pytest.mark.parametrize("is_lost", [True, False])
def test_an_order_that_is_never_taken_is_given_again_every_ten_seconds(box, is_lost):
    """And the deployment answers all the while: it is not deleted."""
    bring_to(box, "removing_route")
    for _ in range(20):
        box.done("f", "ValueError: no", is_lost=is_lost)
        box.now += AGAIN_S + 0.1
        (order,) = box.tick()
        assert (order.kind, order.routed) == ("deploy", False)


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_lost_order_is_not_given_to_a_function_that_was_declared_otherwise_meanwhile(
    box, is_removed
):
    """It was to lose its prefix; now it has a deployment of its own for good, which would not
    answer. Or it was removed, and declared again when nothing was left of it.
    """
    bring_to(box, "removing_route")
    if is_removed:
        box.declare()
    box.declare(declaration(fixed=True))
    box.done("f", "TimeoutError: no controller", is_lost=True)
    box.apps["f"] = app("ready")
    for _ in range(int(AGAIN_S) + 2):
        box.now += 1
        assert box.tick() == []


def test_an_order_that_was_lost_before_its_function_was_removed_is_gone_with_it(box):
    """Declared again later, the function sleeps in the host like any other."""
    promote(box)
    box.now += LANDED_S + 1
    box.placement.functions["f"].confirm_at = [box.now]
    (order,) = box.tick()
    assert order.routed
    box.done("f", "TimeoutError: no controller", is_lost=True)
    box.declare()
    box.apps.clear()
    box.declare(declaration())
    box.now += AGAIN_S + 1
    box.host(f={"state": "ready", "idle_s": 0.0})
    assert box.tick() == []
