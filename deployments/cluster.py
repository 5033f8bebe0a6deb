"""A Ray cluster for our functions: started on this machine or joined, deployed to, and taken down without a trace.

Started, it is a head on the loopback address with a token, files and ports of its own, and a mark in every process; see ``rayenv``.
Three processes take part, so that a command stays light: this one decides, ``head`` starts Ray and goes, ``driver`` talks to Ray.
The driver imports Ray while the head starts it, and replicas start while HAProxy does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

from deployments import draining, ports, processes, shares
from deployments.children import Driver, RayError
from deployments.headoptions import LOOPBACK
from deployments.home import Home, Up
from deployments.index import LOST
from deployments.joining import leave
from deployments.plan import Plan, is_told, without
from deployments.rayenv import mapping
from deployments.reasons import reason
from deployments.rollout import ASLEEP, Outcome, Rollout, Told, states
from deployments.routing import explained, index
from deployments.sealing import marks_of
from deployments.starting import Head, side_ports, variables
from runtime.errors import NotFound
from runtime.secrets import key_mark
from runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """What ``up`` was asked.

    Attributes:
        file: the declaration, absolute.
        address: of a cluster to join; None starts one here.
        num_gpus: that Ray is to believe in; None lets it count.
        secrets: values by mark, of the functions of the plan.
        node_ip: of a cluster that is started here: where its Ray listens; but for loopback, other machines may join it.
        names: of files and modules that every machine of a cluster has to have alike (``sameness``).
    """

    plan: Plan
    settings: Settings
    file: str
    address: str | None = None
    num_gpus: int | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    node_ip: str = LOOPBACK
    names: tuple[str, ...] = ()


class Cluster:
    """The cluster of a state folder, seen from a command; another one may have started it.

    Args:
        told: hears of progress.
    """

    def __init__(self, home: Home, told: Told = lambda event, details: None) -> None:
        self._home = home
        self._told = told

    def current(self) -> Up | None:
        """What is up; None if nothing is, or only the remains of a cluster that was killed."""
        up = self._home.load()
        if up and up.kind == "own" and not (up.address and processes.is_running(self._home.path)):
            return None
        if up and up.kind == "node" and not processes.heart(self._home.path):
            return None
        return up

    def require(self) -> Up:
        """What is up.

        Raises:
            NotFound: nothing is.
        """
        up = self.current()
        if up is None:
            raise NotFound("nothing is up. `wakeful up` serves a file.")
        return up

    def pulse(self) -> Callable[[], bool]:
        """A cheap question, to be asked often: do Ray's own processes still live?"""
        heart = processes.heart(self._home.path)
        return lambda: all(map(processes.is_alive, heart))

    def up(self, request: Request) -> Outcome:
        """Bring everything of the plan up; on any failure on the way to it, whatever this call started is taken down.

        Raises:
            PortTaken, Busy, Unusable, RayError: nothing is left behind.
        """
        self._home.prepare()
        with self._home.lock():
            standing = self.current()
            if standing:
                return self._update(standing, request)
            try:
                return self._join(request) if request.address else self._start(request)
            except BaseException:
                with processes.undisturbed(), contextlib.suppress(RayError):  # the first failure is the one to tell
                    self._down(0.0, lambda: False)
                raise

    def down(self, *, drain_s: float = 0.0, enough: Callable[[], bool] = lambda: False) -> bool:
        """Drain, then leave no process and no port behind; on a joined cluster only what is ours goes.

        Args:
            drain_s: longest wait for calls in flight, who have their own deadlines besides; 0 does not wait.
            enough: asked often; true ends the wait.

        Returns:
            whether there was anything.
        """
        if not self._home.path.exists():
            return False
        self._home.prepare()
        with self._home.lock():
            return self._down(drain_s, enough)

    def delete(self, name: str) -> None:
        """Drain one application and delete it, with its parts; a function without one is taken out of what the host and the catalogue
        know.

        Raises:
            RayError: it is a part.
        """
        up = self.require()
        whose = {entry.name: entry.part_of for entry in up.deployed}
        if whose.get(name):
            raise RayError(f"{name} is a stage of {whose[name]}, which fails without it. `wakeful down {whose[name]}` takes both down.")
        gone = [name, *(part for part, function in whose.items() if function == name)]
        with self._home.lock(), self._driver(up) as driver:
            left = replace(up, deployed=tuple(entry for entry in up.deployed if entry.name not in gone))
            kept = [one for one in self._home.load_applications() if one["name"] not in gone]
            applications = tuple(without(one, gone) if is_told(one) else one for one in kept)
            self._run(driver, "delete", up, names=gone, last=gone[1:])
            self._home.save_applications(applications)
            if sharing := [one for one in applications if is_told(one)]:
                self._run(driver, "deploy", up, serve={}, applications=sharing, gone=[])
            self._home.save(left)

    def functions(self, up: Up) -> list[dict[str, Any]]:
        """Every function that was deployed, as ``status`` shows it; what Ray has lost is failed.

        The catalogue is asked, over HTTP; where there is none, or it does not answer, Ray is.
        """
        if up.kind == "node":
            return [{**entry, "url": up.url + entry["url"]} for entry in index(up.url) or ()]
        listed = index(up.url) if any(entry.role == "catalogue" for entry in up.deployed) else None
        if listed is not None:
            known = {entry["name"]: entry for entry in listed}
            if all(entry.name in known for entry in up.functions):
                return [
                    {**(one := known[entry.name]), "url": up.url + entry.route_prefix, "reason": one["reason"] or entry.note}
                    for entry in up.functions
                ]
        with self._driver(up) as driver:
            found = {state["name"]: state for state in states(driver, up)}
        wants = {entry.name: entry.resources for entry in up.functions}
        held = shares.running({name: state["replicas"] for name, state in found.items()}, wants)
        return [
            {
                "name": entry.name,
                "state": (state := found.get(entry.name, ASLEEP if entry.hosted else LOST))["state"],
                "tier": "host" if entry.hosted and entry.name not in found else "own",
                "replicas": state["replicas"],
                "url": up.url + entry.route_prefix,
                "reason": reason(state["message"], wants[entry.name], held) if state["message"] else entry.note,
            }
            for entry in up.functions
        ]

    def explain(self, up: Up, name: str) -> dict[str, Any]:
        """One function, with the decisions about it, as the catalogue tells.

        Raises:
            RayError: the catalogue does not answer, or there is none.
        """
        told = explained(up.url, name)
        if told is None:
            raise RayError(
                f"the catalogue at {up.url} does not answer, and it alone keeps decisions. `wakeful status` shows what there is."
            )
        return told

    def _start(self, request: Request) -> Outcome:
        left = processes.end(self._home.path)
        if left:
            self._told("leftovers", {"count": left})
        ports.require_free(request.plan.host, request.plan.port, fix="Stop that, or take another with `--port`.")
        self._told("starting", {})
        self._home.wipe()
        up = replace(_described(request), ports=side_ports(request.plan.port), node_ip=request.node_ip)
        self._home.save(up)
        head = Head(self._home, up, cpus_per_core=request.settings.cpus_per_core, num_gpus=request.num_gpus)
        with self._driver(up) as driver:
            up = head.wait()
            self._told("ray", {"address": up.address})
            self._compare(driver, up, request)
            self._keep(driver, up, request.secrets)
            return Rollout(self._home, driver, self._told).begin(up, request.plan)

    def _join(self, request: Request) -> Outcome:
        up = replace(_described(request), kind="joined", address=request.address or "")
        with self._driver(up) as driver:
            self._compare(driver, up, request)
            self._keep(driver, up, request.secrets)
            return Rollout(self._home, driver, self._told).begin(up, request.plan)

    def _update(self, up: Up, request: Request) -> Outcome:
        plan = request.plan
        if (plan.host, plan.port) != (up.host, up.port):
            raise RayError(f"already up at {up.url}, and it cannot move to {plan.host}:{plan.port}. `wakeful down` first.")
        if request.address and request.address != up.address:
            raise RayError(f"already up on the cluster at {up.address}. `wakeful down` first.")
        if up.kind == "node":
            raise RayError(f"this machine has joined the cluster at {up.address}. Deploy where that was started, or `wakeful down` first.")
        if request.node_ip not in (LOOPBACK, up.node_ip):
            raise RayError(f"already up, and Ray listens on {up.node_ip}; it cannot move to {request.node_ip}. `wakeful down` first.")
        with self._driver(up) as driver:
            self._compare(driver, up, request)
            self._keep(driver, up, request.secrets)
            return Rollout(self._home, driver, self._told).update(replace(up, file=request.file), plan)

    def _down(self, drain_s: float, enough: Callable[[], bool]) -> bool:
        up = self._home.load()
        if up and up.kind == "joined":
            self._home.clear()  # also if the cluster is gone, or there would be no way out
            with self._driver(up) as driver:
                verb = "shutdown" if up.serve_is_ours else "delete"
                names, last = [entry.name for entry in up.deployed], [entry.name for entry in up.deployed if entry.part_of]
                self._run(driver, verb, up, names=names, last=last, owner=up.owner)
                self._keep(driver, up, {})
            return True
        if up and up.kind == "node":
            return leave(self._home, up, self._told, drain_s, enough)
        if drain_s and up and self.current():
            self._told("draining", {})
            drain_s = min(drain_s, draining.longest_s(self._home.load_applications()))
            if up.is_open:  # other machines have a HAProxy, too
                self._end_all(up, enough, "shutdown")
            elif draining.drain(self._home.path, up.port, drain_s, enough) == "unknown":
                self._end_all(up, enough, "delete")
                draining.close(self._home.path, up.port)
            self._told("drained", {})
        ended = processes.end(self._home.path)
        self._home.clear()
        return bool(up or ended)

    def _end_all(self, up: Up, enough: Callable[[], bool], verb: str) -> None:
        """Each application, once its replicas have answered. (Serve's own shutdown cuts what is in flight.)"""
        with self._driver(up) as driver, ThreadPoolExecutor(1) as pool:
            names, last = [entry.name for entry in up.deployed], [entry.name for entry in up.deployed if entry.part_of]
            deleting = pool.submit(self._run, driver, verb, up, names=names, last=last, owner=up.owner)
            while not deleting.done():
                if enough():
                    driver.close()
                wait((deleting,), draining.POLL_S)
            with contextlib.suppress(RayError):  # everything ends, whatever Ray thinks of it
                deleting.result()

    def _compare(self, driver: Driver, up: Up, request: Request) -> None:
        if up.is_open:
            self._run(driver, "compare", up, names=list(request.names), host=request.plan.host, port=request.plan.port)

    def _keep(self, driver: Driver, up: Up, secrets: Mapping[str, str]) -> None:
        """The cluster has these, and while something of ours stands, those of the versions that it may have to go back to."""
        still = marks_of(self._home.load_applications()) if self.current() and up.deployed else []
        if secrets or still or up.kind == "joined":
            self._run(driver, "keep", up, values=dict(secrets), still=still, owner=key_mark(self._home.key()))

    def _run(self, driver: Driver, verb: str, up: Up, **request: Any) -> None:
        for event in driver.ask(verb, up.address, **request):
            self._told(event["event"], event)

    def _driver(self, up: Up) -> Driver:
        return Driver(variables=mapping(variables(up, self._home)), log=self._home.path / "driver.log", folder=up.root)


def _described(request: Request) -> Up:
    return Up(
        kind="own",
        address="",
        host=request.plan.host,
        port=request.plan.port,
        file=request.file,
        root=str(request.settings.root),
        models=str(request.settings.models),
    )
