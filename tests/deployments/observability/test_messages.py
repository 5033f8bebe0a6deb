"""Messages between processes: the wire form is plain JSON data, and nothing is lost on the way."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from deployments.observability.messages import (
    FunctionReport,
    HostOrders,
    HostReport,
    QuarantineOrder,
    ReplicaOrders,
    ReplicaReport,
    hash_declarations,
    report_from_dict,
)
from tests.deployments.placement.placing import CRASH, declaration

FUNCTION = FunctionReport(version="v1", calls=3, busy_s=0.5, p95_ms=12.0, hop_ms={"g": 0.2})


def sent(data: dict[str, Any]) -> dict[str, Any]:
    """As Ray carries it; plain data, which JSON can write."""
    json.dumps(data)
    received: dict[str, Any] = pickle.loads(pickle.dumps(data))
    return received


@pytest.mark.parametrize(
    "report",
    [
        HostReport("h", pid=1, address="10.0.0.1:80", peers=2, functions={"f": FUNCTION}),
        HostReport("h", declared="abc", used_bytes=1, budget_bytes=2, metrics="a 1\n"),
        ReplicaReport("r", "f", FUNCTION, pid=1, why="host → own"),
    ],
)
def test_a_report_is_the_same_after_the_wire(report):
    """Of a host as of a replica."""
    assert report_from_dict(sent(report.to_dict())) == report


@pytest.mark.parametrize("report", [HostReport("h"), ReplicaReport("r", "f", FUNCTION)])
def test_a_report_carries_crashes(report):
    """As plain data, under the key `deaths`."""
    data = {**report.to_dict(), "deaths": HostReport("h", crashes=(CRASH,)).to_dict()["deaths"]}
    assert report_from_dict(data).crashes == (CRASH,)


@pytest.mark.parametrize(
    "orders",
    [
        HostOrders(),
        HostOrders({"h": "10.0.0.1:80"}, ("f",), ("g",), {"q": QuarantineOrder("why", "hash")}),
        HostOrders(declare=(declaration(), declaration("g"))),
        HostOrders(declare=()),
        HostOrders(keep=("f", "g")),
        ReplicaOrders("it is quarantined"),
    ],
)
def test_orders_are_the_same_after_the_wire(orders):
    """No declarations differ from an empty list of them: the latter makes a host forget all."""
    assert type(orders).from_dict(sent(orders.to_dict())) == orders


def test_the_hash_of_a_declaration_changes_with_what_is_declared_alone():
    """Not with what the probe measured; and the order of functions does not count."""
    first, other = declaration(), declaration(description="new")
    assert first.hash == type(first).from_dict({**first.to_dict(), "memory_bytes": 9}).hash
    assert first.hash != other.hash
    pair = [first, declaration("g")]
    assert hash_declarations(pair) == hash_declarations(reversed(pair))
    assert hash_declarations(pair) != hash_declarations([other, declaration("g")])
