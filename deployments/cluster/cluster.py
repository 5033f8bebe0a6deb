"""Starts a Ray cluster for our functions on this machine or joins one, deploys to it, and takes it
down so that no process, port or file is left.

A cluster that is started here is a head on the loopback address, with its own token, files and
ports, and a mark in the environment of each process (``ray_support.environment``). Three processes
take part, so that a command stays light: this one decides, ``head`` starts Ray and ends,
``driver`` talks to Ray. What the driver and all workers import is imported once
(``ray_support.workers``), and replicas start while HAProxy does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, Final

from deployments.cluster.head import Head
from deployments.cluster.join import leave
from deployments.cluster.machine import open_driver, side_ports
from deployments.cluster.up_request import (
    DriverRequest,
    initial_state,
    refuse_longer_timeouts,
    refuse_other_wire,
    refuse_update,
)
from deployments.ingress import draining
from deployments.observability.status_messages import running_shares, waiting_reason
from deployments.placement.views.status_view import LOST
from deployments.ray_support import ports, processes
from deployments.ray_support.deadlines import (
    SLACK_S,
    delete_s,
    given_hard_stop_s,
    hard_stop_s,
    longest_s,
)
from deployments.ray_support.driver_client import DriverClient, RayError
from deployments.ray_support.environment import LOOPBACK
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import ClusterState, StateDir, has_separate_ingress
from deployments.rollout.catalogue_client import fetch_explanation, fetch_index, fetch_lacking
from deployments.rollout.plan import Plan, PlannedApp
from deployments.rollout.plan_comparison import (
    deployed_without,
    mark_changing,
    name_conflicts,
    without_functions,
)
from deployments.rollout.prepare import secret_digests
from deployments.rollout.rollout import (
    Rollout,
    RolloutOutcome,
    RolloutProgress,
    UpdateInterrupted,
    application_states,
)
from runtime.errors import NotFound
from runtime.system.secrets import key_digest

NEEDED: Final[Mapping[str, str]] = {
    "host": "functions sleep and wake in it.",
    "catalogue": "it decides where functions are, and knows which ones are pinned.",
}
"""By role: why an application is not taken down alone."""


class Cluster:
    """The cluster of a state folder, as a command sees it; another command may have started it.

    Args:
        on_progress: called with each event.
    """

    def __init__(
        self, state_dir: StateDir, on_progress: RolloutProgress = lambda event, details: None
    ) -> None:
        self._state_dir = state_dir
        self._on_progress = on_progress

    def current(self) -> ClusterState | None:
        """The cluster that is up; None if none is, or if only remains of a killed one are left."""
        up, path = self._state_dir.load(), self._state_dir.path
        if up and up.kind == "own" and not (up.address and processes.is_running(path)):
            return None
        if up and up.kind == "node" and not processes.ray_processes(path):
            return None
        return up

    def require(self) -> ClusterState:
        """The cluster that is up.

        Raises:
            NotFound: nothing is.
        """
        up = self.current()
        if up is None:
            raise NotFound("nothing is up. `wakeful run` or `wakeful up` serves a file.")
        return up

    def liveness_check(self) -> Callable[[], bool]:
        """Returns a cheap check, to be called often: whether Ray's own processes are alive; of a
        joined cluster, whose processes are not ours, whether it is still recorded.
        """
        up = self._state_dir.load()
        if up and up.kind == "joined":
            return lambda: self._state_dir.load() is not None
        found = processes.ray_processes(self._state_dir.path)
        # none is found where Ray has died already
        return lambda: bool(found) and all(map(processes.is_alive, found))

    def up(self, request: DriverRequest) -> RolloutOutcome:
        """Brings everything of the plan up. If that fails, all that this call started is taken
        down.

        Raises:
            PortTaken, Busy, Unusable, RayError: all resources are released.
            UpdateInterrupted: an update was, and everything has one version; a second Ctrl-C before
                that is a plain ``KeyboardInterrupt``.
        """
        self._state_dir.prepare()
        with self._state_dir.lock():
            current = self.current()
            if current:
                return self._update(current, request)
            if self._has_unknown_ray():
                raise RayError(
                    f"Ray runs here, started by us, and {self._state_dir.path / 'up.json'}, which "
                    "says what for, is gone or unreadable. `wakeful down` drains and ends it; then "
                    "`wakeful up`."
                )
            if request.address:
                return self._join(request)
            try:
                return self._start(request)
            except BaseException:
                # the first failure is the one to report
                with processes.shielded_from_signals(), contextlib.suppress(RayError):
                    self._down(0.0, lambda: False)
                raise

    def down(
        self, *, drain_s: float = 0.0, should_stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Drains, then ends every process; on a joined cluster only our applications are deleted.

        Args:
            drain_s: longest wait for calls in flight, which also have their own deadlines; 0 does
                not wait.
            should_stop: called often; true ends the wait.

        Returns:
            whether anything was up.
        """
        if not self._state_dir.path.exists():
            return False
        self._state_dir.prepare()
        with self._state_dir.lock():
            return self._down(drain_s, should_stop)

    def delete(self, name: str) -> None:
        """Drains a function and deletes its application, with those of its split stages. A hosted
        function leaves the lists of the host and the catalogue.

        Raises:
            NotFound: nothing is up.
            RayError: it is a split stage, or Ray did not delete it in time.
        """
        self.require()
        with self._state_dir.lock():
            self._delete(self.require(), name)  # as it is while no other command changes it

    def _delete(self, up: ClusterState, name: str) -> None:
        refuse_other_wire(up.wire)
        parents = {entry.name: entry.part_of for entry in up.deployed}
        if parents.get(name):
            raise RayError(
                f"{name} is a stage of {parents[name]}, which fails without it. "
                f"`wakeful down {parents[name]}` takes both down."
            )
        role = next((entry.role for entry in up.deployed if entry.name == name), "function")
        if why := NEEDED.get(role):
            raise RayError(
                f"{name} is no function: {why} `wakeful down` takes everything down; without "
                f"{name} in the file, `wakeful up` leaves the others."
            )
        names = [name, *(stage for stage, parent in parents.items() if parent == name)]
        with open_driver(up, self._state_dir) as driver:
            within_s = self._delete_s()
            applications = tuple(
                without_functions(app, names)
                for app in map(PlannedApp.from_dict, self._state_dir.load_applications())
                if app.name not in names
            )
            receivers = [app for app in applications if app.lists_functions]
            changing = (*names, *(app.name for app in receivers))
            self._state_dir.save(replace(up, deployed=mark_changing(up.deployed, changing)))
            hosted = {entry.name for entry in up.deployed if entry.hosted and entry.name in names}
            # the placement controller deletes the deployments that it made of hosted functions
            promoted = hosted and hosted & {one.name for one in application_states(driver, up)}
            self._run(
                driver,
                "delete",
                up,
                names=[name for name in names if name not in hosted],
                last=names[1:],
                within_s=within_s,
            )
            self._state_dir.save_applications([app.to_dict() for app in applications])
            if receivers:
                lists = [app.to_dict() for app in receivers]
                self._run(
                    driver,
                    "deploy",
                    up,
                    serve_options={},
                    applications=lists,
                    gone=[],
                    within_s=0,
                )
            deployed = deployed_without(up.deployed, applications, names)
            self._state_dir.save(replace(up, deployed=deployed))
            until = time.monotonic() + within_s
            while promoted and time.monotonic() < until:
                time.sleep(draining.POLL_S)
                promoted &= {state.name for state in application_states(driver, up)}
            if promoted:
                raise RayError(
                    f"Ray Serve has not deleted the deployment of {', '.join(sorted(promoted))} "
                    f"within {within_s:.0f} s, and goes on with it. No call reaches it any more."
                )

    def functions(self, up: ClusterState) -> list[dict[str, Any]]:
        """Every function that was deployed, as ``status`` shows it; if Ray has lost it, as failed.

        The catalogue answers, over HTTP; Ray where there is no catalogue or it does not answer.
        Raises RayError on a machine that has joined, which has the catalogue alone.
        """
        if up.kind == "node":
            if (index := self._index(up)) is None:
                raise RayError(f"no catalogue answers at {up.url}. `wakeful status` asks again.")
            return [{**entry, "url": up.url + entry["url"]} for entry in index]
        has_catalogue = any(entry.role == "catalogue" for entry in up.deployed)
        index = self._index(up) if has_catalogue else None
        listed = {entry["name"]: entry for entry in index or ()}
        if index is not None and all(function.name in listed for function in up.functions):
            return [
                {
                    **listed[function.name],
                    "url": up.url + function.route_prefix,
                    "reason": listed[function.name]["reason"] or function.note,
                }
                for function in up.functions
            ]
        with open_driver(up, self._state_dir) as driver:
            states = {state.name: state for state in application_states(driver, up)}
        resources = {function.name: function.resources for function in up.functions}
        held = running_shares({name: state.replicas for name, state in states.items()}, resources)
        functions = []
        for function in up.functions:
            state = states.get(function.name, AppState("", "asleep") if function.hosted else LOST)
            reason = function.note
            if state.message:
                reason = waiting_reason(state.message, function.resources, held)
            functions.append(
                {
                    "name": function.name,
                    "state": state.state,
                    "tier": "host" if function.hosted and function.name not in states else "own",
                    "replicas": state.replicas,
                    "url": up.url + function.route_prefix,
                    "reason": reason,
                }
            )
        return functions

    def _index(self, up: ClusterState) -> list[dict[str, Any]] | None:
        secret, inner = self._state_dir.call_secret(up), self._state_dir.inner_socket
        return fetch_index(up.url, secret, inner)

    def lacking(self, up: ClusterState) -> dict[str, list[str]]:
        """What HAProxy lacks on other machines, by their addresses; of this one ``StateDir.lacks``
        says more.
        """
        if not up.is_open:
            return {}
        return fetch_lacking(up.url, self._state_dir.call_secret(up), self._state_dir.inner_socket)

    def explain(self, up: ClusterState, name: str) -> dict[str, Any]:
        """One function and the decisions about it, from the catalogue.

        Raises:
            RayError: the catalogue does not answer, or there is none.
        """
        explanation = fetch_explanation(
            up.url, name, self._state_dir.call_secret(up), self._state_dir.inner_socket
        )
        if explanation is None:
            raise RayError(
                f"the catalogue at {up.url} does not answer, and it alone keeps decisions. "
                "`wakeful status` shows what there is."
            )
        return explanation

    def _start(self, request: DriverRequest) -> RolloutOutcome:
        if count := processes.end_processes(self._state_dir.path):
            self._on_progress("leftovers", {"count": count})
        up, port = initial_state(request), request.plan.port
        for host in (up.host, LOOPBACK) if has_separate_ingress(up) else (up.host,):
            ports.require_free(host, port, fix="Stop that, or take another with `--port`.")
        self._on_progress("starting", {})
        self._state_dir.wipe()
        wanted_s = hard_stop_s(request.plan.longest_s, up.keep_alive_s)
        up = replace(up, ports=side_ports(port), hard_stop_s=wanted_s)
        self._state_dir.save(up)
        head = Head(
            self._state_dir,
            up,
            cpus_per_core=request.settings.cpus_per_core,
            num_gpus=request.num_gpus,
        )
        up = head.wait()
        self._on_progress("ray", {"address": up.address})
        with open_driver(up, self._state_dir) as driver:
            self._publish(driver, up, request)
            self._store_secrets(driver, up, request.secrets)
            return Rollout(self._state_dir, driver, self._on_progress).begin(up, request.plan)

    def _has_unknown_ray(self) -> bool:
        return self._state_dir.load() is None and bool(
            processes.ray_processes(self._state_dir.path)
        )

    def _join(self, request: DriverRequest) -> RolloutOutcome:
        """On failure, what this call deployed is deleted: nothing had these names before."""
        up = replace(
            initial_state(request),
            kind="joined",
            address=request.address or "",
            hard_stop_s=given_hard_stop_s(),
        )
        refuse_longer_timeouts(up, request.plan)
        with open_driver(up, self._state_dir) as driver:
            self._refuse_name_conflicts(driver, up, request.plan)
            self._publish(driver, up, request)
            try:
                self._store_secrets(driver, up, request.secrets)
                return Rollout(self._state_dir, driver, self._on_progress).begin(up, request.plan)
            except BaseException:
                driver.close()  # so that it deploys nothing after the deletion
                with processes.shielded_from_signals(), contextlib.suppress(RayError):
                    self._leave(self._state_dir.load() or up)
                raise

    def _refuse_name_conflicts(self, driver: DriverClient, up: ClusterState, plan: Plan) -> None:
        """A joined cluster may have applications that are not ours; their names and prefixes stay
        theirs.

        Raises:
            RayError: the plan has some of them, too.
        """
        existing = {
            name: prefix
            for event in list(driver.ask("list", up.address))
            for name, prefix in event.get("prefixes", {}).items()
        }
        if problems := name_conflicts(plan, existing, {entry.name for entry in up.deployed}):
            raise RayError(
                f"on the cluster at {up.address} {' '.join(problems)} Nothing was deployed."
            )

    def _update(self, up: ClusterState, request: DriverRequest) -> RolloutOutcome:
        refuse_update(up, request)
        # undo a `down` that was killed; none is under way, since this process has the lock
        draining.take_back(self._state_dir.path)
        with open_driver(up, self._state_dir) as driver:
            if up.kind == "joined":
                self._refuse_name_conflicts(driver, up, request.plan)
            self._publish(driver, up, request)
            self._store_secrets(driver, up, request.secrets)
            plan = request.plan
            up = replace(
                up, file=request.file, cors=plan.cors, auth=plan.auth, per_address=plan.per_address
            )
            try:
                return Rollout(self._state_dir, driver, self._on_progress).update(up, plan)
            except UpdateInterrupted as interrupted:
                driver.close()  # it may be at work for the update
                self._on_progress("interrupted", {})
                with open_driver(up, self._state_dir) as another:
                    rollout = Rollout(self._state_dir, another, self._on_progress)
                    interrupted.outcome = rollout.end_interrupted(interrupted)
                raise

    def _down(self, drain_s: float, should_stop: Callable[[], bool]) -> bool:
        up = self._state_dir.load()
        if up and up.kind == "joined":
            self._leave(up)
            return True
        if up and up.kind == "node":
            return leave(self._state_dir, up, self._on_progress, drain_s, should_stop)
        if drain_s and (self._has_unknown_ray() or (up and self.current())):
            self._on_progress("draining", {})
            drain_s = min(drain_s, longest_s(self._state_dir.load_applications()))
            until = time.monotonic() + drain_s + SLACK_S
            if up and up.is_open:  # other machines have a HAProxy, too
                self._end_all(up, lambda: should_stop() or time.monotonic() > until, "shutdown")
            elif draining.drain(self._state_dir.path, drain_s, should_stop) == "unknown" and up:
                self._end_all(up, lambda: should_stop() or time.monotonic() > until, "delete")
                draining.close(self._state_dir.path)
            self._on_progress("drained", {})
        ended = processes.end_processes(self._state_dir.path)
        self._state_dir.clear()
        return bool(up or ended)

    def _leave(self, up: ClusterState) -> None:
        """Deletes what is ours from a joined cluster."""
        self._state_dir.clear()  # first: the cluster may be gone, and `up` must work again
        with open_driver(up, self._state_dir) as driver:
            verb = "shutdown" if up.serve_is_ours else "delete"
            self._run(driver, verb, up, **self._delete_all_request(up))
            self._store_secrets(driver, up, {})

    def _end_all(self, up: ClusterState, should_stop: Callable[[], bool], verb: str) -> None:
        """Deletes each application once its replicas have answered. (Serve's own shutdown cuts
        calls in flight.)
        """
        with open_driver(up, self._state_dir) as driver, ThreadPoolExecutor(1) as pool:
            deleting = pool.submit(self._run, driver, verb, up, **self._delete_all_request(up))
            while not deleting.done():
                if should_stop():
                    driver.kill()
                wait((deleting,), draining.POLL_S)
            with contextlib.suppress(RayError):  # the processes are ended in any case
                deleting.result()

    def _delete_all_request(self, up: ClusterState) -> dict[str, Any]:
        return {
            "names": [entry.name for entry in up.deployed],
            "last": [entry.name for entry in up.deployed if entry.part_of],
            "owner": up.owner,
            "within_s": self._delete_s(),
        }

    def _delete_s(self) -> float:
        return delete_s(longest_s(self._state_dir.load_applications()))

    def _publish(self, driver: DriverClient, up: ClusterState, request: DriverRequest) -> None:
        """Stores in the cluster what machines that join need to know (``head``)."""
        if up.is_open:
            self._run(
                driver,
                "publish",
                up,
                host=request.plan.host,
                port=request.plan.port,
                longest_s=request.plan.longest_s,
                hard_stop_s=up.hard_stop_s,
                cors=request.plan.cors,
                asks_for_keys=request.plan.auth is not None,
                tls=up.tls,
                per_address=request.plan.per_address,
            )

    def _store_secrets(
        self, driver: DriverClient, up: ClusterState, secrets: Mapping[str, str]
    ) -> None:
        """Stores secrets in the cluster. While an earlier `up` is deployed, those of its versions
        stay, since an update may have to be rolled back to them.
        """
        still: list[str] = []
        if self.current() and up.deployed:
            still = secret_digests(self._state_dir.load_applications())
        if secrets or still or up.kind == "joined":
            owner = key_digest(self._state_dir.key())
            self._run(driver, "store_secrets", up, values=dict(secrets), still=still, owner=owner)

    def _run(self, driver: DriverClient, verb: str, up: ClusterState, **request: Any) -> None:
        for event in driver.ask(verb, up.address, **request):
            self._on_progress(event["event"], event)
