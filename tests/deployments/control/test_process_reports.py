"""Reports and orders are the same in the process that gets them; Ray pickles them."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import fields, is_dataclass

import pytest

from deployments.control.declarations import FunctionDeclaration
from deployments.control.orders import HostOrders, QuarantineOrder, ReplicaOrders
from deployments.control.process_reports import HaproxyReport, HostReport, ReplicaReport
from deployments.ray_support.state_dir import WIRE
from runtime.execution.loader import DeviceReport
from runtime.library.capture.captures import Order
from runtime.library.cold_start import ColdStart
from runtime.library.function_report import FunctionReport
from runtime.system.crash.reports import CrashReport
from runtime.system.telemetry.recent import Traffic
from runtime.system.telemetry.recent_failures import RecentFailure
from runtime.system.telemetry.statistics import SUMS, FunctionStatistics, StatisticsReport
from tests.deployments.placement.placing import CRASH, declaration

FUNCTION = FunctionReport(
    version="v1",
    calls=3,
    busy_s=0.5,
    p95_ms=12.0,
    device=DeviceReport("cuda", 120, 3),
    last_wake=ColdStart("f", 1000.0, {"stages": 0.1}, 0.2),
    hop_ms={"g": 0.2},
    minute=Traffic(0.5, 30, 1, (29, 1)),
)


@pytest.mark.parametrize(
    "message",
    [
        HostReport("h", pid=1, address="10.0.0.1:80", peers=2, functions={"f": FUNCTION}),
        HostReport(
            "h", crashes=(CRASH,), declared="abc", used_bytes=1, budget_bytes=2, metrics="a 1\n"
        ),
        ReplicaReport("r", "f", FUNCTION, pid=1, crashes=(CRASH,), why="host → own"),
        HostOrders(),
        HostOrders({"h": "10.0.0.1:80"}, ("f",), ("g",), {"q": QuarantineOrder("why", "hash")}),
        HostOrders(declare=(declaration(), declaration("g"))),
        HostOrders(declare=(), keep=("f", "g"), captures={"f": Order(0.5, 1000.0)}),
        ReplicaOrders("it is quarantined", {"f": Order(1.0, 1000.0)}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_the_same_after_the_wire(message):
    """Of a host as of a replica."""
    received = pickle.loads(pickle.dumps(message))
    assert received == message
    assert type(received) is type(message)


def test_a_declaration_goes_without_what_was_parsed_of_it():
    """A host gets those of a whole file at once, and most of its functions sleep."""
    declared = declaration()
    assert declared.spec.name == "f"
    assert declared.hash
    received = pickle.loads(pickle.dumps(declared))
    assert vars(received).keys() == vars(declaration()).keys()
    assert (received, received.hash) == (declared, declared.hash)


FORM = 5, "4872eaf997f7497b"
"""``WIRE``, and the digest of what has the form of that number."""

SENT = (
    *(HostReport, ReplicaReport, HaproxyReport, FunctionReport, StatisticsReport, CrashReport),
    *(Traffic, DeviceReport, ColdStart, RecentFailure, FunctionStatistics),
    *(HostOrders, ReplicaOrders, QuarantineOrder, FunctionDeclaration, Order),
)


def test_another_form_of_a_message_has_another_number():
    """What one process pickles another one must know: class, place and fields. Without another
    number `up` updates a cluster whose hosts and catalogue do not understand each other.
    """
    forms = [
        (
            kind.__module__,
            kind.__name__,
            [(one.name, one.type) for one in fields(kind)] if is_dataclass(kind) else kind._fields,
        )
        for kind in SENT
    ]
    digest = hashlib.sha256(repr((forms, SUMS)).encode()).hexdigest()[:16]
    assert (WIRE, digest) == FORM, "count WIRE up, and write both here"
