"""Puts a plan into effect: all at once where nothing runs, otherwise in the steps of an
``UpdateOrder``, so that the former version of a function serves until the new one is ready.

Ray replaces a replica when the new one is ready, and stops at the first that does not start. But
then it keeps the broken version as its target, and should the old replica die, starts no other
(seen: 503 from then on). So a version that failed is rolled back by deploying the former one again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from deployments.ingress.access_table import wait_known
from deployments.observability.logs import DECISIONS_FILE, DecisionLog
from deployments.observability.status_messages import waits_for_resources
from deployments.placement.transitions import UNROUTED_S
from deployments.ray_support.deadlines import delete_s, longest_s
from deployments.ray_support.driver_client import DriverClient, RayError
from deployments.ray_support.environment import LOOPBACK
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import (
    ClusterState,
    DeployedApp,
    StateDir,
    has_separate_ingress,
)
from deployments.rollout import catalogue_client
from deployments.rollout.catalogue_client import wait_closed, wait_routed
from deployments.rollout.plan import Plan, PlannedApp
from deployments.rollout.plan_comparison import describe_changes, keep_host_version
from deployments.rollout.update_order import UpdateOrder, UpdateStep
from runtime.artifacts.version import is_of_code

ROUTED_S: Final = 60.0
"""Longest wait for HAProxy to know every prefix; it takes half a second, on a busy machine many
times that. A first `up` that gives up here takes everything down again."""

RolloutProgress = Callable[[str, dict[str, Any]], None]
"""Called with ``(event, details)``: events of the driver, and those of ``Cluster``."""


@dataclass(frozen=True, slots=True)
class RolloutOutcome:
    """What runs after an `up`.

    Attributes:
        up: the cluster, as it is written down.
        fresh: whether nothing was up before.
        states: of each application of the plan, in file order.
        refused: functions whose new version did not start, by name, with the reason; the former
            version goes on serving.
        former: names of applications that ran before.
    """

    up: ClusterState
    fresh: bool
    states: tuple[AppState, ...]
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    former: frozenset[str] = frozenset()

    @property
    def failed(self) -> list[AppState]:
        """Applications that waiting does not make ready."""
        return [state for state in self.states if state.state == "failed"]

    @property
    def waiting(self) -> list[AppState]:
        """Applications that become ready once they get what they wait for."""
        return [state for state in self.states if state.state not in ("failed", "ready", "asleep")]


class UpdateInterrupted(KeyboardInterrupt):
    """Ctrl-C during an update; ``Rollout.end_interrupted`` ends what it left half done.

    Attributes:
        up: the cluster as it was to be.
        order: the update.
        done: the number of the step that was under way.
        refused: what keeps its former version.
        outcome: in words, what runs now.
    """

    outcome = ""

    def __init__(
        self,
        up: ClusterState,
        order: UpdateOrder,
        done: int,
        refused: Mapping[str, str],
    ) -> None:
        super().__init__("an update was interrupted")
        self.up, self.order, self.done, self.refused = up, order, done, refused


class Rollout:
    """Puts plans into effect, one at a time; blocking.

    Args:
        driver: talks to Ray; not closed here.
        on_progress: called with each event.

    Mutable state: ``_states``, the last known of each application.
    """

    def __init__(
        self, state_dir: StateDir, driver: DriverClient, on_progress: RolloutProgress
    ) -> None:
        self._state_dir = state_dir
        self._driver = driver
        self._on_progress = on_progress
        self._states: dict[str, AppState] = {}

    def begin(self, up: ClusterState, plan: Plan) -> RolloutOutcome:
        """Where nothing of ours runs.

        Raises:
            RayError: Ray did not take it.
        """
        up = replace(up, deployed=plan.deployed)
        self._state_dir.save(up)  # before anything runs, so that `down` knows of it
        self._state_dir.save_applications([app.to_dict() for app in plan.applications])
        for event in self._deploy(up, plan, plan.applications):
            if event["event"] == "serving":
                up = replace(up, serve_is_ours=event["started"])
                self._state_dir.save(up)
        return self._outcome(up, plan, fresh=True)

    def update(self, up: ClusterState, plan: Plan) -> RolloutOutcome:
        """Where ``up`` runs: changes what changed. Raises as ``begin``.

        Raises:
            RayError: the catalogue does not say what is loaded.
            UpdateInterrupted: by Ctrl-C. The driver may be at work, and is of no use any more.
        """
        states = application_states(self._driver, up)
        self._states = {state.name: state for state in states}
        order = self._decide_order(up, plan)
        self._state_dir.save(replace(up, deployed=order.deployed_meanwhile))
        return self._complete(up, order, self._execute_all(up, order))

    def _execute_all(self, up: ClusterState, order: UpdateOrder) -> dict[str, str]:
        """Every step of an update. Returns what keeps its former version, with the reason. Raises
        as ``update``.
        """
        refused: dict[str, str] = {}
        newly_refused: Set[str] = frozenset()
        for number, decide in enumerate(order.steps):
            known = refused.keys()
            try:
                failures = self._execute(up, order.wanted, decide(refused, newly_refused))
            except KeyboardInterrupt:
                raise UpdateInterrupted(up, order, number, refused) from None
            if failures:
                refused = order.with_dependents({**refused, **failures})
            newly_refused = refused.keys() - known
        return refused

    def end_interrupted(self, interrupted: UpdateInterrupted) -> str:
        """Leaves one version of everything: the former one, in the order of an update to it, or
        where former versions are being removed already, the new one. Blocking, as long as an update
        takes.

        Raises:
            KeyboardInterrupt: a second Ctrl-C.

        Returns:
            In words, what runs now.
        """
        up, order = interrupted.up, interrupted.order
        if interrupted.done >= len(order.first_steps):
            for decide in order.steps[interrupted.done :]:
                self._execute(up, order.wanted, decide(interrupted.refused, ()))
            self._complete(up, order, dict(interrupted.refused))
            return "every new version served already, and the update was finished."
        states = application_states(self._driver, up)
        back = order.way_back(
            interrupted.done,
            [state.name for state in states if state.state not in ("failed", "draining")],
        )
        try:
            lost = self._execute_all(up, back)
        except UpdateInterrupted as again:  # the note in what is written down holds
            raise KeyboardInterrupt from again
        self._complete(up, back, lost)
        if lost:
            return f"{', '.join(sorted(lost))} did not go back. `wakeful up` deploys the file."
        return "everything is as it was before the update."

    def _complete(
        self, up: ClusterState, order: UpdateOrder, refused: dict[str, str]
    ) -> RolloutOutcome:
        """Writes down what runs after an update."""
        final = order.plan_without(refused)
        up = replace(up, deployed=final.deployed)
        self._state_dir.save(up)
        last = order.last_running(final, self._states)
        self._state_dir.save_applications([app.to_dict() for app in last])
        for name, why in refused.items():
            DecisionLog(self._state_dir.path / DECISIONS_FILE).write(
                name, f"its new version is not taken, the one before serves on: {why}"
            )
        former = frozenset(name for name in order.before if name in order.alive)
        return replace(self._outcome(up, final, fresh=False, refused=refused), former=former)

    def _decide_order(self, up: ClusterState, plan: Plan) -> UpdateOrder:
        """The update from what runs now, as Ray and the catalogue say. Raises as
        ``_ask_catalogue``.
        """
        alive = frozenset(
            name
            for name, state in self._states.items()
            if state.state not in ("failed", "draining")
        )
        written = map(PlannedApp.from_dict, self._state_dir.load_applications())
        former = {app.name: app for app in written}
        if news := describe_changes(former.values(), plan.applications):
            self._on_progress("changed", {"news": news})
        index = self._ask_catalogue(up, alive) if up.owner else ()
        plan = keep_host_version(
            plan,
            former,
            has_undeployed_code=any(
                is_of_code(entry["reason"]) for entry in index if entry["tier"] == "host"
            ),
        )
        return UpdateOrder(
            plan,
            {entry.name: entry for entry in up.deployed},
            alive,
            former,
            awake=frozenset(catalogue_client.serving_functions(index)),
            promoted=frozenset(entry["name"] for entry in index if entry["tier"] == "own"),
        )

    def _ask_catalogue(
        self, up: ClusterState, alive: Collection[str]
    ) -> Sequence[Mapping[str, Any]]:
        """Every function, as the catalogue shows it. Without an answer no version would be awaited,
        and none rolled back.

        Raises:
            RayError: it does not answer, and nothing is changed.
        """
        # until this update is saved, keys are asked for where they were before
        reach = self._reach(self._state_dir.load() or up)
        index = catalogue_client.fetch_index(up.url, *reach)
        if index is None and up.owner in alive:
            self._on_progress("unanswered", {})
            index = catalogue_client.wait_index(up.url, *reach)
            # one that waits for resources may get them from this very update
            if index is None and self._states[up.owner].state == "ready":
                raise RayError(
                    f"the catalogue at {up.url} has not answered for {catalogue_client.DECIDED_S:g}"
                    " s, and it alone knows which functions are loaded. No function was changed."
                    " `wakeful status` shows what there is; then `wakeful up` again."
                )
        return index or ()  # Ray has none, and the update deploys it anew

    def _execute(self, up: ClusterState, plan: Plan, step: UpdateStep) -> dict[str, str]:
        """Does what a step says; returns the functions that keep their former version, with the
        reason.
        """
        if step.calls_end_first:
            time.sleep(UNROUTED_S)
        applications = [_with_load_first(app, step.load_first) for app in step.deploy]
        if step.deploy or step.delete:
            self._deploy_all(up, plan, applications, step.delete)
        for names in step.delete_if_short:
            if not any(map(self._is_short, applications)):
                break
            self._deploy_all(up, plan, (), names)
            self._deploy_all(up, plan, applications)
        if step.await_prefixes:
            wait_routed(up.url, step.await_prefixes, *self._reach(up), timeout_s=ROUTED_S)
        failures = step.failures(self._states)
        if step.await_versions:
            self._on_progress("updating", {"names": list(step.await_versions)})
            failures |= catalogue_client.refused_functions(
                up.url, step.await_versions, *self._reach(up)
            )
        return failures

    def _is_short(self, app: PlannedApp) -> bool:
        """Whether an application waits for resources."""
        state = self._states.get(app.name)
        return (
            state is not None
            and state.state not in ("ready", "asleep", "failed")
            and waits_for_resources(state.message)
        )

    def _deploy_all(
        self,
        up: ClusterState,
        plan: Plan,
        applications: Iterable[PlannedApp],
        deleted: Iterable[str] = (),
    ) -> None:
        for _ in self._deploy(up, plan, applications, deleted):
            pass

    def _deploy(
        self,
        up: ClusterState,
        plan: Plan,
        applications: Iterable[PlannedApp],
        deleted: Iterable[str] = (),
    ) -> Iterable[dict[str, Any]]:
        within_s = delete_s(longest_s(self._state_dir.load_applications()))
        request = {
            "serve_options": listening_on_loopback(plan.serve)
            if has_separate_ingress(up)
            else plan.serve,
            "applications": [app.to_dict() for app in applications],
            "gone": list(deleted),
            "within_s": within_s,
        }
        for event in self._driver.ask("deploy", up.address, **request):
            details = {key: value for key, value in event.items() if key != "event"}
            self._on_progress(event["event"], details)
            if event["event"] == "state":
                self._states[details["name"]] = AppState(**details)
            yield event

    def _outcome(
        self,
        up: ClusterState,
        plan: Plan,
        *,
        fresh: bool,
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> RolloutOutcome:
        # as far as Ray knows
        hosted = {
            entry.name: AppState(entry.name, "asleep") for entry in plan.deployed if entry.hosted
        }
        known = {**self._states, **hosted}
        outcome = RolloutOutcome(
            up,
            fresh,
            tuple(known[entry.name] for entry in plan.deployed if entry.name in known),
            refused,
        )
        if up.auth is not None:
            wait_closed(up.url, self._state_dir.inner_socket, timeout_s=ROUTED_S)
            functions = [one.route_prefix for one in plan.deployed if _has_keys(one)]
            wait_known(self._state_dir.path, functions, timeout_s=ROUTED_S)
        if not outcome.failed:
            wait_routed(up.url, plan.prefixes, *self._reach(up), timeout_s=ROUTED_S)
        return outcome

    def _reach(self, up: ClusterState) -> tuple[str, Path | None]:
        return self._state_dir.call_secret(up), self._state_dir.inner_socket


def _has_keys(app: DeployedApp) -> bool:
    """Whether a key may be for it alone."""
    return app.role == "function" and not app.part_of


def _with_load_first(app: PlannedApp, names: Collection[str]) -> PlannedApp:
    """The host's application says which functions it loads before it takes the place of the former
    host; until a deadline, since a host that starts later, when another has died, need not.
    """
    if not names or app.role != "host":
        return app
    first = {"names": list(names), "until": time.time() + catalogue_client.DECIDED_S}
    return replace(app, args={**app.args, "first": first})


def listening_on_loopback(serve: dict[str, Any]) -> dict[str, Any]:
    """Arguments of Serve where other machines reach HAProxy only: the proxies behind it listen on
    the loopback address.
    """
    return {**serve, "http_options": {**serve["http_options"], "host": LOOPBACK}}


def application_states(driver: DriverClient, up: ClusterState) -> list[AppState]:
    """What Ray knows of every application. All events are read, so that the driver is done."""
    return [
        AppState(**state)
        for event in list(driver.ask("status", up.address))
        if event["event"] == "states"
        for state in event["states"]
    ]
