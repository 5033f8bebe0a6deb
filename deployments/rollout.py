"""A plan put into effect: all at once where nothing stands, else so that whoever serves goes on until his successor runs.

Ray replaces a replica when the new one is ready, and stops at the first that does not start. But then it keeps the broken version as its
target, and should the old replica die, starts no other (seen: 503 from then on): so a version that failed is taken back by deploying the
one before again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from deployments import watch
from deployments.children import Driver
from deployments.decisions import FILE, Decisions
from deployments.home import Home, Up
from deployments.novelty import news
from deployments.plan import Plan
from deployments.routing import index, wait_routed
from deployments.steps import UNROUTED_S
from deployments.succession import Succession

ROUTED_S: Final = 15.0
"""Longest wait for HAProxy to know every prefix; it takes half a second."""

ASLEEP: Final = {"state": "asleep", "replicas": 0, "message": ""}
"""A function in the shared host, as far as Ray knows."""

Told = Callable[[str, dict[str, Any]], None]
"""Hears ``(event, details)``: those of the driver, and those of ``Cluster``."""

State = dict[str, Any]
"""``name``, ``state``, ``replicas``, ``message`` of an application, as ``deployments.states`` says it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        fresh: whether nothing was up before.
        states: of each application of the plan, in file order.
        refused: functions whose new version did not start, by name, with the reason; the version before serves on.
    """

    up: Up
    fresh: bool
    states: tuple[State, ...]
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def failed(self) -> list[State]:
        """What will not become ready by waiting."""
        return [state for state in self.states if state["state"] == "failed"]

    @property
    def waiting(self) -> list[State]:
        """What would become ready if it got what it waits for."""
        return [state for state in self.states if state["state"] not in ("failed", "ready", "asleep")]


class Rollout:
    """Plans put into effect, one at a time.

    Args:
        driver: talks to Ray; not closed here.
        told: hears of progress.

    Mutable state: ``_states``, the last that was heard of each application.
    """

    def __init__(self, home: Home, driver: Driver, told: Told) -> None:
        self._home = home
        self._driver = driver
        self._told = told
        self._states: dict[str, State] = {}

    def begin(self, up: Up, plan: Plan) -> Outcome:
        """Where nothing of ours stands.

        Raises:
            RayError: Ray did not take it.
        """
        up = replace(up, deployed=plan.deployed)
        self._home.save(up)  # before anything stands, so that `down` knows of it
        self._home.save_applications(plan.applications)
        for event in self._deploy(up, plan, plan.applications):
            if event["event"] == "serving":
                up = replace(up, serve_is_ours=event["started"])
                self._home.save(up)
        return self._outcome(up, plan, fresh=True)

    def update(self, up: Up, plan: Plan) -> Outcome:
        """Where ``up`` stands: changes what changed. Raises as ``begin``."""
        self._states = {state["name"]: state for state in states(self._driver, up)}
        alive = frozenset(name for name, state in self._states.items() if state["state"] not in ("failed", "draining"))
        former = {one["name"]: one for one in self._home.load_applications()}
        if new := news(former.values(), plan.applications):
            self._told("changed", {"news": new})
        todo = Succession(plan, {entry.name: entry for entry in up.deployed}, alive, former)
        self._home.save(replace(up, deployed=todo.begun))
        awake = watch.serving(index(up.url) or ()) if up.owner else frozenset()
        self._change(up, plan, todo.first, todo.gone)
        refused = todo.refused(self._states)
        kept = todo.kept(refused)
        self._change(up, kept, todo.second(kept, refused))
        if moved := [entry for entry in kept.deployed if entry.name in todo.moving - refused.keys()]:
            wait_routed(up.url, {entry.route_prefix for entry in moved}, timeout_s=ROUTED_S)
            time.sleep(UNROUTED_S)  # the HAProxy before this one has calls in flight that go to the host
        self._change(up, kept, todo.third(kept))
        if versions := {name: version for name, version in todo.told(kept).items() if name in awake}:
            self._told("updating", {"names": list(versions)})
            if unloaded := watch.refused(up.url, versions):
                before, refused = refused, todo.with_kin({**refused, **unloaded})
                kept = todo.kept(refused)
                self._change(up, kept, (*todo.back(kept, refused.keys() - before.keys()), *todo.lingering(kept, kept.sharing)))
        told, gone = todo.last(kept, refused)
        if told:
            time.sleep(UNROUTED_S)  # calls in flight of the versions before may still want a part
        self._change(up, kept, told, gone)
        up = replace(up, deployed=kept.deployed)
        self._home.save(up)
        self._home.save_applications(todo.remembered(kept, self._states))
        for name, why in refused.items():
            Decisions(self._home.path / FILE).write(name, f"its new version is not taken, the one before serves on: {why}")
        return self._outcome(up, kept, fresh=False, refused=refused)

    def _change(self, up: Up, plan: Plan, applications: Iterable[dict[str, Any]] = (), gone: Iterable[str] = ()) -> None:
        applications, gone = list(applications), list(gone)
        if applications or gone:
            for _ in self._deploy(up, plan, applications, gone):
                pass

    def _deploy(self, up: Up, plan: Plan, applications: Iterable[dict[str, Any]], gone: Iterable[str] = ()) -> Iterable[dict[str, Any]]:
        request = {"serve": plan.serve, "applications": list(applications), "gone": list(gone)}
        for event in self._driver.ask("deploy", up.address, **request):
            details = {key: value for key, value in event.items() if key != "event"}
            self._told(event["event"], details)
            if event["event"] == "state":
                self._states[details["name"]] = details
            yield event

    def _outcome(self, up: Up, plan: Plan, *, fresh: bool, refused: Mapping[str, str] = MappingProxyType({})) -> Outcome:
        hosted = {entry.name: {"name": entry.name, **ASLEEP} for entry in plan.deployed if entry.hosted}
        known = {**self._states, **hosted}
        outcome = Outcome(up, fresh, tuple(known[entry.name] for entry in plan.deployed if entry.name in known), refused)
        if not outcome.failed:
            wait_routed(up.url, plan.prefixes, timeout_s=ROUTED_S)
        return outcome


def states(driver: Driver, up: Up) -> list[State]:
    """What Ray knows of every application; all events are heard, so that the driver is done."""
    return [state for event in list(driver.ask("status", up.address)) if event["event"] == "states" for state in event["states"]]
