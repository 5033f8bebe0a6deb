"""Where functions are served, step by step: reports in, orders to Ray out, without a Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.placement import Placement
from deployments.steps import ROUTE_S, START_S, UNROUTED_S, WARM_S, Do
from runtime.spec import FunctionSpec, identity
from runtime.tiers import Thresholds

FREE = {"CPU": 4.0}


def data(name: str = "f", *, fixed: bool = False, **args: Any) -> dict[str, Any]:
    """What `up` says of a function."""
    spec = FunctionSpec.from_args(name, f"/v2/models/{name}", {"onnx": "m.onnx", **args})
    common = {"name": name, "url": spec.route_prefix, "args": spec.to_args(), "identity": identity(spec)}
    return {**common, "fixed": fixed, "memory_bytes": 0, "probed": True}


@dataclass
class Box:
    """A placement, its clock, and processes that report."""

    placement: Placement = field(default_factory=lambda: Placement(Thresholds()))
    now: float = 1000.0
    busy: dict[str, float] = field(default_factory=dict)
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)
    free: dict[str, float] = field(default_factory=lambda: dict(FREE))

    def declare(self, *functions: dict[str, Any]) -> list[Do]:
        """As `up` does."""
        return self.placement.declare(functions, self.now)

    def host(self, deaths: Any = (), refused: Any = None, host: str = "h1", **functions: dict[str, Any]) -> dict[str, Any]:
        """A host reports what it has loaded."""
        report = {"kind": "host", "id": host, "deaths": deaths, "refused": refused or {}, "functions": functions}
        return self.placement.heard(report, self.now, self.now)

    def own(self, name: str, **more: Any) -> None:
        """A replica reports."""
        report = {"kind": "own", "id": f"r-{name}", "function": name, "state": "ready", "deaths": [], "idle_s": 0.0, **more}
        self.placement.heard(report, self.now, self.now)

    def step(self) -> list[Do]:
        """The owner looks."""
        return self.placement.step(self.now, self.now, self.apps, self.now, self.free)

    def work(self, name: str, cores: float, seconds: int, tier: str = "host", **more: Any) -> list[Do]:
        """So many seconds of work; stops at the first order."""
        for _ in range(seconds):
            self.now += 1
            self.busy[name] = self.busy.get(name, 0.0) + cores
            counted = {"busy_s": self.busy[name], "calls": int(self.busy[name] * 100), "in_flight": 1, **more}
            if tier == "host":
                self.host(**{name: {"state": "ready", "idle_s": 0.0, **counted}})
            else:
                self.host()
                self.own(name, **counted)
            if todo := self.step():
                return todo
        return []

    def why(self, name: str = "f") -> list[str]:
        """The decisions about it."""
        return [decision.why for decision in self.placement.seats[name].decisions]


@pytest.fixture
def box() -> Box:
    """With one function."""
    made = Box()
    made.declare(data())
    return made


def app(state: str, message: str = "") -> dict[str, Any]:
    """As `states` shows an application."""
    return {"state": state, "replicas": int(state == "ready"), "message": message}


def promote(box: Box, name: str = "f") -> None:
    """All the way to a deployment of its own."""
    (order,) = box.work(name, 1.3, 10)
    assert (order.kind, order.routed) == ("deploy", False)
    box.placement.done(name, "", box.now, box.now)
    box.apps[name] = app("ready")
    (order,) = box.step()
    assert (order.kind, order.routed) == ("deploy", True)
    box.placement.done(name, "", box.now, box.now)
    assert box.step() == []
    assert box.placement.seats[name].tier == "own"


def test_a_busy_function_is_promoted_without_a_prefix_first_and_gets_it_when_its_replica_runs(box):
    """So that no caller waits for a replica that starts."""
    (order,) = box.work("f", 1.3, 10)
    assert order == Do("deploy", "f", routed=False, why="host → own: 1.3 cores of work over 4 s")
    assert box.step() == []  # the order is under way
    box.placement.done("f", "", box.now, box.now)
    box.apps["f"] = app("waking")
    assert box.step() == []
    assert box.placement.seats["f"].tier == "host"
    box.apps["f"] = app("ready")
    (order,) = box.step()
    assert order.routed
    box.placement.done("f", "", box.now, box.now)
    assert box.step() == []
    assert box.placement.seats["f"].tier == "own"
    assert box.host(f={"state": "ready", "idle_s": 0.0})["release"] == ["f"]  # the host needs it no more


def test_a_promotion_that_fails_leaves_the_host_serving_and_says_why(box):
    """And what was deployed is deleted; it is not tried again at once."""
    box.work("f", 1.3, 10)
    box.placement.done("f", "", box.now, box.now)
    box.apps["f"] = app("failed", "the weights are not there")
    assert box.step() == [Do("delete", "f")]
    assert box.placement.seats["f"].tier == "host"
    assert "the weights are not there" in box.why()[-1]
    box.placement.done("f", "", box.now, box.now)
    del box.apps["f"]
    assert box.work("f", 1.3, 10) == []
    assert "its promotion failed 1 times" in box.why()[-1]


@pytest.mark.parametrize(("routing", "limit"), [(False, START_S), (True, ROUTE_S)])
def test_a_promotion_that_hangs_is_given_up(box, routing, limit):
    """Whichever step it hangs in."""
    box.work("f", 1.3, 10)
    box.placement.done("f", "", box.now, box.now)
    if routing:
        box.apps["f"] = app("ready")
        box.step()
        box.placement.done("f", "", box.now, box.now)
        box.apps["f"] = app("waking", "still")
    box.now += limit + 1
    box.host(f={"state": "ready", "idle_s": 0.0})
    assert box.step() == [Do("delete", "f")]


def test_handing_back_waits_for_the_host_then_takes_the_prefix_away_then_the_replica(box):
    """Each after the one before is done, so that there is always somebody to answer."""
    box.declare(data(autoscaling={"downscale_delay_s": 5, "downscale_to_zero_delay_s": 60}))
    box.placement.done("f", "", box.now, box.now)
    promote(box)
    assert box.work("f", 0.01, 12, tier="own") == []
    seat = box.placement.seats["f"]
    assert (seat.tier, seat.step) == ("own", "warming")
    assert box.host()["load"] == ["f"]
    box.host(f={"state": "ready", "idle_s": 0.0})
    (order,) = box.step()
    assert (order.kind, order.routed) == ("deploy", False)
    box.placement.done("f", "", box.now, box.now)
    assert box.step() == []
    box.now += UNROUTED_S + 0.1
    assert box.step() == [Do("delete", "f")]
    box.placement.done("f", "", box.now, box.now)
    assert (seat.tier, seat.step) == ("host", "settled")


def test_what_no_host_can_load_keeps_its_deployment(box):
    """Handing back is a saving; it must not cost an answer."""
    box.declare(data(autoscaling={"downscale_delay_s": 5, "downscale_to_zero_delay_s": 600}))
    box.placement.done("f", "", box.now, box.now)
    promote(box)
    box.work("f", 0.01, 12, tier="own")
    for _ in range(int(WARM_S) + 1):
        box.now += 1
        box.host(f={"state": "failed", "reason": "no room", "idle_s": 0.0})
        box.own("f", busy_s=box.busy["f"], calls=1)
        box.step()
    assert box.placement.seats["f"].tier == "own"
    assert any("no host has loaded it within 10 s: no room" in why for why in box.why())


def test_an_idle_deployment_goes_to_sleep_past_the_host(box):
    """Loading it there to unload it would be work for nothing."""
    promote(box)
    box.now += 1
    box.host()
    box.own("f", busy_s=1.0, calls=1, idle_s=61.0)
    (order,) = box.step()
    assert (order.kind, order.routed) == ("deploy", False)
    assert "→ asleep" in box.why()[-1]


def test_a_function_with_a_deployment_of_its_own_from_the_start_is_never_moved(box):
    """`tier: own`, `min_replicas` or a GPU said so."""
    box.declare(data(fixed=True))
    box.apps["f"] = app("ready")
    box.own("f", busy_s=1.0, calls=1, idle_s=1000.0)
    assert box.step() == []
    assert box.placement.seats["f"].tier == "own"


def test_what_does_not_fit_is_said_and_the_longest_idle_yields(box):
    """Nobody waits in silence for room."""
    box.declare(data("f"), data("g"))
    promote(box, "g")
    box.free = {"CPU": 0.5}
    for _ in range(8):
        box.own("g", busy_s=box.busy["g"], calls=1, idle_s=5.0)
        todo = box.work("f", 1.3, 1)
        if todo:
            break
    assert [(order.kind, order.name, order.routed) for order in todo] == [("deploy", "g", False)]
    assert "1 CPU are needed and 0.5 free" in box.why("f")[-1]
    assert "yields its place to f" in box.why("g")[-1]


DEATH = {"key": "7-0", "pid": 7, "at": 1000.0, "culprits": ["f"], "suspects": [], "words": "Segmentation fault"}


def dead(pid: int, at: float = 1000.0, **more: Any) -> dict[str, Any]:
    """Another death."""
    return {**DEATH, "key": f"{pid}-0", "pid": pid, "at": at, **more}


def test_a_function_that_brought_the_host_down_gets_its_own_and_then_quarantine(box):
    """The host serves it until that answers: a row that does it is refused after the second time, and the others are answered."""
    told = box.host(deaths=[DEATH])
    assert told["refused"]["f"]["reason"] == ""
    assert box.host(deaths=[DEATH])["refused"]["f"]["crimes"] == told["refused"]["f"]["crimes"]  # told twice, counted once
    assert "Segmentation fault" in box.why()[-1]
    (order,) = box.step()
    assert (order.kind, order.routed) == ("deploy", False)
    box.placement.done("f", "", box.now, box.now)
    box.apps["f"] = app("ready")
    box.step()
    box.placement.done("f", "", box.now, box.now)
    box.step()
    assert box.placement.seats["f"].tier == "own"
    box.own("f", deaths=[dead(8), dead(9)])
    assert box.step() == []
    box.own("f", deaths=[dead(10)])
    assert box.step() == [Do("delete", "f")]
    assert "quarantined" in box.host()["refused"]["f"]["reason"]


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
    """Two rows that bring down two each; what is longer ago does not count, and what was enough stays enough."""
    for pid, second in enumerate(at):
        box.host(deaths=[dead(pid, 1000.0 + second)])
    assert box.placement.seats["f"].is_quarantined is is_quarantined


def test_two_unexplained_deaths_at_work_make_a_culprit_and_one_does_not(box):
    """A kill from outside must not take a function out of the host, and no number of them puts it in quarantine."""
    suspect = {"culprits": [], "suspects": ["f"], "words": "killed"}
    assert box.host(deaths=[dead(1, **suspect)])["refused"] == {}
    assert "f" in box.host(deaths=[dead(2, **suspect)])["refused"]
    box.host(deaths=[dead(pid, **suspect) for pid in range(3, 30)])
    assert not box.placement.seats["f"].is_quarantined


def test_two_unexplained_deaths_long_after_one_another_mean_nothing(box):
    """More than ten minutes."""
    for pid in range(5):
        assert box.host(deaths=[dead(pid, 1000.0 + 601 * pid, culprits=[], suspects=["f"])])["refused"] == {}


def test_an_owner_that_restarts_learns_from_what_stands(box):
    """Applications that are there are its own decisions; hosts repeat what they were told to refuse."""
    told = box.host(deaths=[DEATH])
    again = Box()
    again.declare(data("f"), data("g"))
    (order,) = again.placement.standing(["g", "catalogue"], again.now, again.now)
    assert (order.kind, order.name, order.routed) == ("deploy", "g", True)  # it may have died before it gave the prefix
    again.placement.done("g", "", again.now, again.now)
    again.apps["g"] = app("ready")
    again.step()
    assert again.placement.seats["g"].tier == "own"
    assert again.host(refused=told["refused"])["refused"] == told["refused"]


def test_a_changed_declaration_reaches_a_promoted_function_and_clears_its_record(box):
    """What changed may be what was wrong."""
    promote(box)
    box.host(deaths=[DEATH])
    (order,) = box.declare(data(description="new"))
    assert (order.kind, order.name, order.routed) == ("deploy", "f", True)
    assert not box.placement.seats["f"].crimes
    assert box.declare() == [Do("delete", "f")]


def renewed(box: Box) -> list[Do]:
    """A function with a deployment of its own by our decision is declared anew, and Ray has heard of it."""
    box.work("f", 1.0, 10)
    box.placement.done("f", "", box.now, box.now)
    for _ in range(2):
        box.apps["f"] = {"state": "ready", "replicas": 1, "message": ""}
        box.step()
        box.placement.done("f", "", box.now, box.now)
    assert (box.placement.seats["f"].tier, box.placement.seats["f"].step) == ("own", "settled")
    todo = box.declare(data(resources={"num_cpus": 2}))
    box.placement.done("f", "", box.now, box.now)
    return todo


def test_a_deployment_takes_another_version_in_place(box):
    """Ray replaces its replica; until that is done nothing else is decided about it."""
    assert renewed(box) == [Do("deploy", "f", routed=True, why="declared anew")]
    box.apps["f"] = {"state": "waking", "replicas": 1, "message": ""}
    assert box.step() == []
    box.apps["f"] = {"state": "ready", "replicas": 1, "message": ""}
    assert box.step() == []
    seat = box.placement.seats["f"]
    assert (seat.step, seat.refusal, seat.data["args"]["resources"]["num_cpus"]) == ("settled", "", 2)


def test_what_ray_said_before_it_took_an_order_counts_for_nothing(box):
    """Else the replica that is being replaced would pass for the new one."""
    renewed(box)
    box.apps["f"] = app("ready")
    assert box.placement.step(box.now, box.now, box.apps, box.now - 0.1, box.free) == []
    assert box.placement.seats["f"].step == "renewing"
    assert box.step() == []
    assert box.placement.seats["f"].step == "settled"


@pytest.mark.parametrize("how", ["failed", "late", "refused by Ray"])
def test_a_deployment_that_does_not_take_another_version_gets_the_one_before(box, how):
    """Which has answered all the while; declared once more, the other is tried again."""
    renewed(box)
    seat = box.placement.seats["f"]
    if how == "refused by Ray":
        (back,) = box.placement.done("f", "ValueError: no weights", box.now, box.now)
    else:
        box.now += START_S + 1 if how == "late" else 0
        message = "ValueError: no weights"
        box.apps["f"] = {"state": "failed" if how == "failed" else "waking", "replicas": 1, "message": message}
        (back,) = box.step()
    assert (back.kind, back.routed, seat.tier, seat.step) == ("deploy", True, "own", "settled")
    assert seat.data["args"]["resources"]["num_cpus"] == 1
    assert seat.refusal == "ValueError: no weights"
    assert box.why()[-1] == "its new version is not taken, the one before serves on: ValueError: no weights"
    box.placement.done("f", "", box.now, box.now)
    assert box.declare(data()) == []
    assert box.declare(data(resources={"num_cpus": 2})) == [Do("deploy", "f", routed=True, why="declared anew")]
    assert seat.refusal == ""
