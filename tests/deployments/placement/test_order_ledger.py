"""Which applications are ours, and what Ray's word of them counts for while orders are under way."""

from __future__ import annotations

import json

import pytest

from deployments.ingress.haproxy.rules import FUNCTION, ONCE
from deployments.placement.order_ledger import AGAIN_S, LANDED_S, OrderLedger, RayOrder
from deployments.ray_support.serve_status import AppState

DEPLOY, DELETE = RayOrder("deploy", "f"), RayOrder("delete", "f")


def app(*deployments: str, state: str = "ready") -> AppState:
    """An application that Ray has."""
    return AppState("f", state, deployments=deployments)


def never(name: str) -> bool:
    """Of nothing that is declared."""
    return False


@pytest.mark.parametrize(
    ("orders", "expected", "changes"),
    [
        ([(DEPLOY, True)], {"ours": ["f"], "promoted": ["f"]}, 1),
        ([(DEPLOY, False)], {"ours": ["f"], "promoted": []}, 1),
        ([(DEPLOY, True), (DEPLOY, True)], {"ours": ["f"], "promoted": ["f"]}, 1),
        ([(DEPLOY, True), (DEPLOY, False)], {"ours": ["f"], "promoted": []}, 2),
        ([(DEPLOY, True), (DELETE, False)], {"ours": ["f"], "promoted": ["f"]}, 1),
    ],
)
def test_what_an_order_changes_of_what_is_persisted_is_counted(orders, expected, changes):
    """And the next ledger knows the same."""
    ledger = OrderLedger({})
    for order, is_promoted in orders:
        ledger.begin(order, is_promoted=is_promoted)
    assert (ledger.persisted, ledger.changes) == (expected, changes)
    again = OrderLedger(json.loads(json.dumps(ledger.persisted)))
    assert (again.persisted, again.changes, again.is_under_way) == (expected, 0, False)


def test_what_ray_said_before_an_order_ended_is_older_than_it():
    """Also while it is under way; of what is not ours there are no orders."""
    ledger = OrderLedger({})
    assert not ledger.is_older_than_order("f", 0.0)
    ledger.begin(DEPLOY, is_promoted=True)
    assert ledger.is_ordered("f")
    assert ledger.is_older_than_order("f", 100.0)
    ledger.end("f", 10.0)
    assert not ledger.is_ordered("f")
    assert [ledger.is_older_than_order("f", at) for at in (9.9, 10.0)] == [True, False]
    ledger.end("g", 10.0)
    assert not ledger.is_older_than_order("g", 0.0)


@pytest.mark.parametrize(
    ("deployments", "is_ours"),
    [((FUNCTION,), True), ((FUNCTION, ONCE), True), ((), True), ((FUNCTION, "Theirs"), False)],
)
def test_ours_is_what_is_known_by_name_and_made_of_a_function_alone(deployments, is_ours):
    """An application of another user may have the same name."""
    ledger = OrderLedger({"ours": ["f", "gone"]})
    seen = {"f": app(*deployments), "g": app(FUNCTION)}
    assert set(ledger.select_ours(seen)) == ({"f"} if is_ours else set())


def test_what_nothing_declares_is_deleted_again_and_again_until_it_goes():
    """Every ten seconds; not while an order is under way, nor what is about to go."""
    ledger = OrderLedger({"ours": ["f"]})
    there = {"f": app(FUNCTION)}

    def orders(now, apps=there, declared=never):
        return ledger.delete_undeclared(apps, declared, now)

    assert orders(0.0, declared=lambda name: True) == []
    assert orders(0.0) == [DELETE]
    ledger.begin(DELETE, is_promoted=False)
    assert orders(AGAIN_S) == []
    ledger.end("f", AGAIN_S)
    assert orders(AGAIN_S - 0.1) == []
    assert orders(AGAIN_S, {"f": app(FUNCTION, state="draining")}) == []
    assert orders(AGAIN_S, {}) == []
    assert orders(AGAIN_S) == [DELETE]


def test_what_is_gone_for_good_is_forgotten():
    """After the time in which a late order may land; what comes back, or is wanted, is not."""
    ledger = OrderLedger({"ours": ["f"]})

    def forgotten(now, apps=None, wanted=never):
        ledger.forget_gone(apps or {}, wanted, now, now)
        return ledger.persisted["ours"] == []

    assert not forgotten(0.0)
    assert not forgotten(LANDED_S, {"f": app(FUNCTION)})
    assert not forgotten(LANDED_S + 1)
    assert not forgotten(2 * LANDED_S + 1)
    assert not forgotten(2 * LANDED_S + 2, wanted=lambda name: True)
    assert not forgotten(2 * LANDED_S + 3)
    assert ledger.changes == 0
    assert forgotten(3 * LANDED_S + 4)
    assert ledger.changes == 1
