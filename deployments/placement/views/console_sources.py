"""Where the console of a cluster has what it shows: the placement controller's knowledge, what
processes report, Ray's machines, this machine's HAProxy and files.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from deployments.control.process_reports import HostReport, ProcessReport
from deployments.ingress.admin_socket import process_id
from deployments.ingress.haproxy.lacks import lost_without
from deployments.ingress.haproxy_metrics import read_haproxy_metrics, read_unkept
from deployments.observability.console_log import FunctionLog
from deployments.observability.logs import LogSources
from deployments.observability.metrics_page import HAPROXY
from deployments.observability.status_messages import GpuShare
from deployments.placement.function_state import FunctionState
from deployments.placement.placement import Placement
from deployments.ray_support.environment import MARK
from deployments.ray_support.ray_internals import alive_nodes
from deployments.ray_support.state_dir import StateDir
from runtime.http.catalogue.console.routes import Console
from runtime.http.catalogue.console.shapes import Decision, Gpu, Lack, Machine, ShownServer
from runtime.http.catalogue.console.sources import (
    ConsoleCounts,
    ConsoleFacts,
    ConsoleSources,
    DeclaredDetails,
    FunctionNews,
    ProcessCounts,
)
from runtime.system.telemetry.recent_failures import merge_failures
from runtime.system.telemetry.statistics import StatisticsTable

MOVING_POLL_S: Final = 0.25
POLL_S: Final = 1.0
"""Between two looks at functions, while one moves between tiers, and else: reports of another state
are told at once.
"""

SERVER_S: Final = 5.0
"""Longest wait for Ray's machines and HAProxy."""

NO_LOG: Final = (
    "this cluster was not started by `wakeful up`: `ray logs` has what its functions write."
)


def console_token(secret: str) -> str:
    """Return the token of the page, from the secret of the cluster: the same in a catalogue that
    takes the place of another.
    """
    return hashlib.sha256(f"console of {secret}".encode()).hexdigest()


class HaproxyState(NamedTuple):
    """This machine's HAProxy. ``pid``: of its newest process; None: there is none of ours."""

    metrics: str
    pid: int | None


def read_haproxy() -> HaproxyState:
    """Ask this machine's HAProxy; blocking, for a second at most."""
    home = os.environ.get(MARK, "")
    sockets = list(Path(home).glob("hap/*/s")) if home else []
    pid = next(filter(None, map(process_id, sockets)), None)
    return HaproxyState(read_haproxy_metrics(), pid)


class ClusterConsole:
    """The console of a cluster. Used on the event loop of the catalogue.

    Args:
        secret: of the cluster.
        machine: the catalogue's.
        index: as of ``Catalogue.index``.
        decisions: about a function, oldest first, by its name.
        shares: parts of the GPUs that replicas have, as of ``views.status_view.gpu_allocations``.
        metrics: of each process, by its id; those of other machines' HAProxys among them.

    Attributes:
        console: it.

    Mutable state: ``_states`` (by process: the states that it reported last), ``_haproxy`` (the
    process at the last look; None before the first).
    """

    def __init__(
        self,
        secret: str,
        machine: str,
        placement: Placement,
        statistics: StatisticsTable,
        index: Callable[[], Awaitable[list[dict[str, Any]]]],
        decisions: Callable[[str], Awaitable[Sequence[Decision]]],
        shares: Callable[[], list[GpuShare]],
        metrics: Callable[[], Mapping[str, str]],
    ) -> None:
        self._machine = machine
        self._placement = placement
        self._statistics = statistics
        self._decisions = decisions
        self._shares = shares
        self._metrics = metrics
        self._states: dict[str, Any] = {}
        self._haproxy: int | None = None
        self.console = Console(
            ConsoleSources(
                kind="up",
                facts=self._facts(secret),
                index=index,
                told=ConsoleCounts(
                    self._counts, self._news, begin=lambda: statistics.begin(time.monotonic())
                ),
                server=self._server,
                describe=self._describe,
                poll_s=lambda: MOVING_POLL_S if placement.is_moving else POLL_S,
            )
        )

    def receive_report(self, report: ProcessReport) -> None:
        """A process has reported; pages are told at once where a state is another."""
        feed = self.console.feed
        if not feed.streams:
            self._states = {}
            return
        states = reported_states(report)
        if self._states.get(report.id) != states:
            self._states[report.id] = states
            feed.notify_changed()

    def declare(self, names: Iterable[str]) -> None:
        """These functions are declared now."""
        self.console.feed.history.keep(set(names))
        self.console.feed.notify_changed()

    def _facts(self, secret: str) -> ConsoleFacts:
        token, home = console_token(secret), os.environ.get(MARK, "")
        if not home:
            return ConsoleFacts(token, no_log=NO_LOG)
        state_dir = StateDir(Path(home))

        def open_log(name: str) -> FunctionLog:
            up = state_dir.load()
            hosts = up.hosts if up is not None else ("host",)
            return FunctionLog(lambda: LogSources(state_dir.logs, name, hosts))

        return ConsoleFacts(token, open_log=open_log, no_log="")

    async def _counts(self) -> ProcessCounts:
        states, table = self._placement.functions, self._statistics
        return ProcessCounts(
            {name: one for name, one in table.all().items() if name in states},
            count_loaded(states.values()),
            table.earlier(),
        )

    async def _news(self, name: str) -> FunctionNews:
        state = self._placement.functions.get(name)
        if state is None:
            return FunctionNews()
        failures = merge_failures(report.failures for report in state.usage.reports)
        return FunctionNews(await self._decisions(name), failures)

    def _describe(self, name: str) -> DeclaredDetails | None:
        state = self._placement.functions.get(name)
        if state is None:
            return None
        declared = state.declaration
        return DeclaredDetails(declared.spec, declared.interface, declared.explained)

    async def _server(self) -> ShownServer:
        async with asyncio.timeout(SERVER_S):
            nodes, haproxy = await asyncio.gather(
                asyncio.to_thread(alive_nodes), asyncio.to_thread(read_haproxy)
            )
        if haproxy.pid is not None:
            if self._haproxy not in (None, haproxy.pid):
                # the one before stays until its last connection is closed
                self.console.feed.move_streams()
            self._haproxy = haproxy.pid
        hosts = [report for _, report in self._placement.hosts.values()]
        pages = {
            process.removeprefix(f"{HAPROXY}-"): text
            for process, text in self._metrics().items()
            if process.startswith(f"{HAPROXY}-")
        }
        return {
            "kind": "up",
            "machines": list_machines(
                nodes, hosts, self._placement.functions.values(), self._shares()
            ),
            "lacks": list_lacks({self._machine: haproxy.metrics, **pages}),
        }


def reported_states(report: ProcessReport) -> Any:
    """Return what of a report a page shows at once, to be compared with that of the one before."""
    if isinstance(report, HostReport):
        return {
            name: (one.state, one.reason, one.update, one.version)
            for name, one in report.functions.items()
        }
    one = report.function
    return one.state, one.reason, one.update, one.version


def count_loaded(states: Iterable[FunctionState]) -> dict[str, int]:
    """Return the processes that have a function loaded, of those that any has."""
    loaded = {
        state.name: sum(report.state == "ready" for report in state.usage.by_process.values())
        for state in states
        if state.usage.by_process
    }
    return {name: count for name, count in loaded.items() if count}


def list_machines(
    nodes: Iterable[Mapping[str, Any]],
    hosts: Sequence[HostReport],
    states: Iterable[FunctionState],
    shares: Iterable[GpuShare],
) -> list[Machine]:
    """Return the machines of a cluster.

    Args:
        nodes: as ``ray.nodes`` describes them.
    """
    replicas = [
        report
        for state in states
        for report in state.usage.by_process.values()
        if report.node  # of a replica; a host says its machine's address
    ]
    held, processes = Counter[str](), Counter[str]()
    for report in replicas:
        held[report.node] += report.memory_bytes
        processes[report.node] += 1
    machines: list[Machine] = []
    for node in nodes:
        node_id, address = node["NodeID"], node["NodeManagerAddress"]
        own = [host for host in hosts if host.machine == address]
        budgets = [host.budget_bytes for host in own if host.budget_bytes is not None]
        resources = node.get("Resources", {})
        machines.append(
            {
                "id": node_id,
                "address": address,
                "used_bytes": sum(host.used_bytes or 0 for host in own) + held[node_id],
                "budget_bytes": sum(budgets) if budgets else None,
                "cpus": resources.get("CPU"),
                "processes": len(own) + processes[node_id],
                "gpus": list_gpus(node_id, int(resources.get("GPU", 0)), shares),
            }
        )
    return sorted(machines, key=lambda machine: machine["address"])


def list_gpus(node_id: str, count: int, shares: Iterable[GpuShare]) -> list[Gpu]:
    """Return the GPUs of a machine, and those on which it is not known where a replica is."""
    found: dict[str, Gpu] = {str(n): {"id": str(n), "shares": []} for n in range(count)}
    for share in shares:
        node, _, device = share.device.partition("/")
        if node != node_id:
            continue
        gpu = found.setdefault(device, {"id": device, "shares": []})
        gpu["shares"].append({"function": share.name, "num_gpus": share.num_gpus})
    return list(found.values())


def list_lacks(pages: Mapping[str, str]) -> list[Lack]:
    """Return the promises that HAProxys do not keep.

    Args:
        pages: what each says of itself, by its machine, in Prometheus' text form.
    """
    return [
        {"machine": machine, "name": name, "lost": lost_without(name)}
        for machine, page in pages.items()
        for name in read_unkept(page)
    ]
