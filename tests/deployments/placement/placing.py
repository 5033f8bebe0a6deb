"""A placement with its clock, its Ray applications and processes that report, for tests: no Ray is
there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.control.declarations import FunctionDeclaration
from deployments.control.orders import HostOrders, ReplicaOrders
from deployments.control.process_reports import HostReport, ReplicaReport
from deployments.ingress.haproxy.rules import FUNCTION
from deployments.placement.order_ledger import RayOrder
from deployments.placement.placement import Placement
from deployments.placement.transitions import UNROUTED_S
from deployments.ray_support.serve_status import AppState
from deployments.scaling.tier_policy import Thresholds
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.library.function_report import FunctionReport
from runtime.system.crash.reports import CrashReport

FREE = {"CPU": 4.0}


def declaration(name: str = "f", *, fixed: bool = False, **args: Any) -> FunctionDeclaration:
    """A function as `up` declares it."""
    spec = FunctionSpec.from_args(name, f"/v2/models/{name}", {"onnx": "m.onnx", **args})
    return FunctionDeclaration(
        name, spec.route_prefix, spec.to_args(), fixed, version_hash(spec), is_probed=True
    )


@dataclass
class Box:
    """A placement, its clock, and processes that report."""

    placement: Placement = field(default_factory=lambda: Placement(Thresholds()))
    now: float = 1000.0
    busy: dict[str, float] = field(default_factory=dict)
    apps: dict[str, AppState] = field(default_factory=dict)
    free: dict[str, float] = field(default_factory=lambda: dict(FREE))

    def declare(self, *declarations: FunctionDeclaration) -> list[RayOrder]:
        """As `up` does."""
        return self.placement.declare(declarations, self.now)

    def host(
        self,
        crashes: Iterable[CrashReport] = (),
        host: str = "h1",
        declared: str = "",
        **functions: dict[str, Any],
    ) -> HostOrders:
        """A host reports what it has loaded."""
        loaded = {name: FunctionReport(**of) for name, of in functions.items()}
        report = HostReport(host, crashes=tuple(crashes), declared=declared, functions=loaded)
        return self.placement.receive_host_report(report, self.now, self.now)

    def own(self, name: str, crashes: Iterable[CrashReport] = (), **more: Any) -> ReplicaOrders:
        """A replica reports."""
        report = ReplicaReport(f"r-{name}", name, FunctionReport(**more), crashes=tuple(crashes))
        return self.placement.receive_replica_report(report, self.now, self.now)

    def done(self, name: str, error: str = "", kind: Any = "deploy", **more: Any) -> list[RayOrder]:
        """Ray has carried out the order, or it failed."""
        order = RayOrder(kind, name)
        return self.placement.on_order_done(order, error, self.now, self.now, **more)

    def tick(self) -> list[RayOrder]:
        """The orders of a tick of the controller."""
        return self.placement.next_orders(self.now, self.now, self.apps, self.now, self.free)

    def work(
        self, name: str, cores: float, seconds: int, tier: str = "host", **more: Any
    ) -> list[RayOrder]:
        """So many seconds of work; stops at the first order."""
        for _ in range(seconds):
            self.now += 1
            self.busy[name] = self.busy.get(name, 0.0) + cores
            counted = {
                "busy_s": self.busy[name],
                "calls": int(self.busy[name] * 100),
                "in_flight": 1,
                **more,
            }
            if tier == "host":
                self.host(**{name: {"state": "ready", "idle_s": 0.0, **counted}})
            else:
                self.host()
                self.own(name, **counted)
            if orders := self.tick():
                return orders
        return []

    def why(self, name: str = "f") -> list[str]:
        """The decisions about it."""
        return [decision.why for decision in self.placement.functions[name].decisions]


def app(state: str, message: str = "") -> AppState:
    """The application of a function."""
    return AppState("f", state, int(state == "ready"), message, (FUNCTION,))


def promote(box: Box, name: str = "f") -> None:
    """All the way to a deployment of its own."""
    (order,) = box.work(name, 1.3, 10)
    assert (order.kind, order.routed) == ("deploy", False)
    box.done(name)
    box.apps[name] = app("ready")
    (order,) = box.tick()
    assert (order.kind, order.routed) == ("deploy", True)
    box.done(name)
    assert box.tick() == []
    assert box.placement.functions[name].tier == "own"


CRASH = CrashReport(
    key="7-0",
    pid=7,
    at=1000.0,
    running=(),
    loading=(),
    fault="Segmentation fault",
    is_out_of_memory=False,
    culprits=("f",),
    suspects=(),
    cause_row_ids=(),
    suspect_row_ids=(),
    words="Segmentation fault",
)


def crash_of(pid: int, at: float = 1000.0, **more: Any) -> CrashReport:
    """Another crash."""
    return replace(CRASH, key=f"{pid}-0", pid=pid, at=at, **more)


def declared_again(box: Box) -> list[RayOrder]:
    """A promoted function is declared again with a change, and Ray has carried out the order."""
    box.work("f", 1.0, 10)
    box.done("f")
    for _ in range(2):
        box.apps["f"] = app("ready")
        box.tick()
        box.done("f")
    assert (box.placement.functions["f"].tier, box.placement.functions["f"].transition) == (
        "own",
        "steady",
    )
    orders = box.declare(declaration(resources={"num_cpus": 2}))
    box.done("f")
    return orders


def bring_to(box: Box, transition: str) -> None:
    """The function is in this transition to a deployment of its own, or back; the order of the
    transition is under way.
    """
    if transition in ("starting", "adding_route"):
        box.work("f", 1.3, 10)
        box.apps["f"] = app("ready")
        if transition == "adding_route":
            box.done("f")
            box.tick()
        return
    promote(box)
    box.now += 1
    box.host()
    box.own("f", busy_s=1.0, calls=1, idle_s=61.0)
    box.tick()
    if transition == "deleting":
        box.done("f")
        box.now += UNROUTED_S + 0.1
        box.tick()


def quarantine(box: Box, **more: Any) -> None:
    """Four crashes."""
    box.host(crashes=[crash_of(pid, **more) for pid in range(4)])
    assert box.placement.functions["f"].crashes.is_quarantined
