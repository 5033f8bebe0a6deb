"""The application at ``/``: it knows every function, decides on their placement, and never sleeps;
it runs no user code.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ray import serve
from ray.util import get_node_ip_address

from deployments.control.declarations import unpack_functions
from deployments.control.orders import HostOrders, ProcessOrders
from deployments.control.process_reports import ProcessReport, ReplicaReport
from deployments.ingress.haproxy_metrics import read_haproxy_metrics
from deployments.ingress.middleware import DirectIngressTarget, PicklableResponses
from deployments.observability.capture_sending import CaptureBatch
from deployments.observability.logs import DecisionLog
from deployments.observability.metrics_page import HAPROXY, write_metrics_page
from deployments.observability.status_messages import GpuShare
from deployments.placement.captured_calls import CapturedCalls
from deployments.placement.cluster_repository import ClusterRepository, to_callee
from deployments.placement.controller import (
    CAPTURES_KEY,
    PersistedState,
    PlacementController,
    RayCalls,
)
from deployments.placement.function_state import require_state
from deployments.placement.key_publisher import KeyPublisher, prefixes_of
from deployments.placement.placement import Placement
from deployments.placement.views.console_sources import ClusterConsole
from deployments.placement.views.status_view import (
    PageData,
    function_entry,
    gpu_allocations,
    host_entry,
    shown_state,
)
from deployments.ray_support import secret_store
from deployments.ray_support.deadlines import DRAIN_LOOP_S
from deployments.ray_support.ray_internals import HeadStore
from deployments.ray_support.secret_store import agree_on_secret
from deployments.ray_support.serve_status import unpack_config
from deployments.ray_support.state_dir import hold_lock
from deployments.scaling.tier_policy import Thresholds
from deployments.serving.ingress_address import ingress_address
from deployments.serving.remote_caller import HttpFunctionCaller
from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.stages.function_stage import Outcome
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.app import catalogue
from runtime.http.catalogue.console.shapes import Decision
from runtime.http.catalogue.openapi import DescribedFunction
from runtime.http.catalogue.task_routes.handler import TaskRoutes
from runtime.http.exchange import Request
from runtime.http.transport.edge import KeyedHandler
from runtime.library.capture.captures import Captures
from runtime.settings import Settings
from runtime.system.messages import KnownPaths
from runtime.system.telemetry.function_metrics import write_key_metrics
from runtime.system.telemetry.key_counts import KeyCounts
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
)
from runtime.system.telemetry.trace import CallTrace

STATUS_TTL_S: Final = 0.5
"""Ray's status costs a call to Serve's controller; requests at the same time share one."""

SETTLED_S: Final = 2.0
"""After a start: hosts and replicas report once a second. Until all have, what is loaded would be
shown as asleep, what they have counted would be missing in statistics, which wait for 5 s, and an
`up` would await no new version, and roll none back.
"""

DRAIN_S: Final = 15.0
"""Longest wait of a catalogue that is replaced for the calls by task that it has passed on; Ray
ends it after 20 s.
"""

CATALOGUE: Final = "catalogue"
"""The label of its own metrics: what it has recorded."""

FORGOTTEN_S: Final = 30.0
"""A process that has sent no metrics for so long has ended."""


class Catalogue(DirectIngressTarget):
    """The class Ray Serve deploys. Requests below ``/v1/`` pass straight to its ``handler``; the
    others take Ray Serve's way.

    Mutable state: ``_metrics`` (metrics of each process, those of other machines' HAProxys among
    them, and when they came), ``_statistics``;
    ``_paths``, of the functions that are declared. ``_settled_at``: when all processes have
    reported, seconds of ``time.monotonic``.

    Args:
        has_console: whether there is one.
    """

    async def __init__(self, has_console: bool = True) -> None:  # type: ignore[misc]  # Ray awaits it
        hold_lock()
        settings = Settings.read()
        name = serve.get_replica_context().app_name
        store = PersistedState(name)
        persisted = await asyncio.to_thread(store.read)
        self._controller = PlacementController(
            name,
            Thresholds.at(settings.promote_work),
            settings.spare_processes,
            store,
            persisted,
            RayCalls(),
        )
        secret = await asyncio.to_thread(agree_on_secret)
        self._caller = HttpFunctionCaller(ingress_address, secret=secret.encode())
        self._repository = ClusterRepository(self._controller, self._caller)
        orders = PersistedState(name, CAPTURES_KEY)
        ordered = await asyncio.to_thread(orders.read)
        self._captured = CapturedCalls(settings, orders, ordered)
        self._publisher = KeyPublisher.of_this_cluster(
            lambda: prefixes_of(
                one.declaration for one in self._controller.placement.functions.values()
            ),
            HeadStore,
        )
        self._secrets = settings.secrets
        self.handler = TaskRoutes(
            ClusterTasks(self._controller.placement, self._caller, self._captured.captures)
        )
        self.keys = self._keys = KeyCounts()
        self._machine = get_node_ip_address()  # type: ignore[no-untyped-call]
        self._metrics: dict[str, tuple[float, str]] = {}
        self._paths = KnownPaths(())
        self._statistics = StatisticsTable(time.monotonic())
        self._console = (
            ClusterConsole(
                secret,
                self._machine,
                self._controller.placement,
                self._statistics,
                self.index,
                self._decisions_about,
                self._gpu_shares,
                lambda: {process: text for process, (_, text) in self._metrics.items()},
            )
            if has_console
            else None
        )
        self.routes = catalogue(
            self.index,
            lambda: self._paths,
            self.explain,
            self._write_metrics,
            self._repository,
            self.describe,
            self._captured,
            None if self._console is None else self._console.console,
        )
        if self._console is not None:
            self._console.console.feed.start()
        self._settled_at = time.monotonic() + SETTLED_S

    def __serve_build_asgi_app__(self) -> PicklableResponses:
        """The routes; Ray calls it once the constructor is done."""
        assert self.handler is not None
        return PicklableResponses(
            AsgiApp(KeyedHandler(self.handler, self.keys), self.routes, gives_ids=False)
        )

    async def __del__(self) -> None:
        """Ray calls this before the process ends. A catalogue that takes its place decides on
        placement already, and two would undo each other's orders. Ray does not know of calls that
        came through ``DirectIngress``: they are answered first.
        """
        if self.handler is None:  # the constructor failed, and its error is the one to report
            return
        if self._console is not None:
            await self._console.console.feed.close()
        await self._publisher.close()
        await self._controller.close()
        deadline = time.monotonic() + DRAIN_S
        while self.handler.exchanges and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOP_S)
        await asyncio.to_thread(self._captured.close)
        await self._caller.close()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Other functions are declared. A coroutine, since Ray runs a plain method in a thread."""
        declarations = unpack_functions(unpack_config(user_config["functions"]))
        # first of all: reports come meanwhile, of functions that there are again
        self._statistics.declare(declaration.name for declaration in declarations)
        await self._controller.declare(declarations, user_config["held"])
        self._publisher.notify_declared()
        self._paths = KnownPaths(one.url for one in declarations if not one.part_of)
        # calls by task are recorded here, and a client may send a secret
        named = [one.secrets for one in declarations if "task" in one.args]
        await secret_store.fetch_into(self._secrets, named)
        await self._captured.declare(declarations)
        if self._console is not None:
            self._console.declare(declaration.name for declaration in declarations)
        await self._repository.tell_policies()

    def check_health(self) -> None:
        """Asked by Ray every few seconds; raising replaces the catalogue.

        Raises:
            RuntimeError: no task decides on placement any more.
        """
        if not self._controller.is_healthy:
            raise RuntimeError("the task of the placement controller has died.")

    async def receive_report(self, report: ProcessReport) -> ProcessOrders:
        """By a deployment handle: a host or a replica reports, and gets its orders."""
        self._keep_metrics(report)
        self._statistics.keep(report.id, report.statistics, time.monotonic())
        orders = await self._controller.receive_report(report)
        if self._console is not None:
            self._console.receive_report(report)
        of = report.name if isinstance(report, ReplicaReport) else ""
        orders = replace(orders, captures=self._captured.orders(of))
        if isinstance(orders, HostOrders):  # a replica tells all of its one function each time
            orders = replace(orders, report_all=not self._statistics.is_known(report.id))
        return orders

    async def receive_captured(self, batch: CaptureBatch) -> None:
        """By a deployment handle: calls that a host or a replica has recorded."""
        self._captured.receive(batch)

    async def receive_counts(self, process: str, report: StatisticsReport) -> None:
        """By a deployment handle: what a process had counted when it ended. It is no host or
        replica that functions could be at.
        """
        self._statistics.keep(process, report, time.monotonic())

    async def read_statistics(
        self, process: str, report: StatisticsReport, name: str
    ) -> dict[str, list[Any]]:
        """By a deployment handle: what all processes have counted of a function, or, for an empty
        name, of each; ``report`` is what the asking process has counted of them until now. Asked
        right after a start, it answers when the others have reported: no sum falls.
        """
        self._statistics.keep(process, report, time.monotonic())
        await _wait_until(self._settled_at)
        if name:
            return {name: self._statistics.of(name).to_list()}
        found, states = self._statistics.all(), self._controller.placement.functions
        names = [one for one in states if not states[one].declaration.part_of]
        return {one: found.get(one, FunctionStatistics()).to_list() for one in names}

    def counts(self) -> dict[str, int]:
        """Functions by state, as far as is known without asking Ray."""
        apps = self._controller.known_apps
        return Counter(
            shown_state(state, apps.get(name))["state"]
            for name, state in self._controller.placement.functions.items()
        )

    async def _write_metrics(self) -> bytes:
        haproxy = await asyncio.to_thread(read_haproxy_metrics)
        own = "".join([self._captured.metrics(), *write_key_metrics(self._keys)])
        texts = {process: text for process, (_, text) in self._metrics.items()}
        texts |= {HAPROXY: haproxy, CATALOGUE: own}
        # a tenth of a second for a hundred processes
        return await asyncio.to_thread(write_metrics_page, self.counts(), texts)

    def _keep_metrics(self, report: ProcessReport) -> None:
        now = time.monotonic()
        if report.metrics:
            self._metrics[report.id] = now, report.metrics
        haproxy = report.haproxy
        if haproxy is not None and haproxy.machine != self._machine:
            # that of this machine is asked when metrics are
            self._metrics[f"{HAPROXY}-{haproxy.machine}"] = now, haproxy.metrics
        self._metrics = {
            process: entry
            for process, entry in self._metrics.items()
            if entry[0] > now - FORGOTTEN_S
        }

    async def index(self) -> list[PageData]:
        """Every declared function, as ``views.status_view.function_entry`` shows it. Asked right
        after a start, it answers when the processes have reported.
        """
        await _wait_until(self._settled_at)
        apps = await self._controller.latest_apps(STATUS_TTL_S)
        states = self._controller.placement.functions
        shares = gpu_allocations(states.values(), apps)
        kept = self._controller.placement.kept
        names = kept.names(time.time())
        return [
            function_entry(state, apps.get(name), shares, names, kept.pinned)
            for name, state in states.items()
        ]

    def describe(self) -> tuple[Hashable, Callable[[], Iterable[DescribedFunction]]]:
        """What OpenAPI describes, as ``up`` declared it (``runtime.http.catalogue.openapi``)."""
        states = self._controller.placement.functions.values()
        declared = [state.declaration for state in states if not state.declaration.part_of]
        mark = tuple((one.name, one.hash) for one in declared)
        return mark, lambda: (DescribedFunction(one.spec, one.interface) for one in declared)

    async def explain(self, name: str) -> PageData:
        """One function, and why it is where it is and as often as it is: the last ``decisions``
        with their times, seconds since the epoch; and the ``hosts`` that there are, as
        ``views.status_view.host_entry`` shows them.

        Raises:
            NotFound: no such function is declared.
        """
        states = self._controller.placement.functions
        state = require_state(states, name)
        apps = await self._controller.latest_apps(STATUS_TTL_S)
        kept = self._controller.placement.kept
        names, shares = kept.names(time.time()), gpu_allocations(states.values(), apps)
        hosts = [host_entry(report) for _, report in self._controller.placement.hosts.values()]
        return {
            **function_entry(state, apps.get(name), shares, names, kept.pinned),
            "decisions": await self._decisions_about(name),
            "hosts": hosts,
        }

    async def _decisions_about(self, name: str) -> list[Decision]:
        """Those of the placement controller, and of the scaling policies; oldest first."""
        state = require_state(self._controller.placement.functions, name)
        scaling = await asyncio.to_thread(DecisionLog.of_this_cluster().about, name)
        found: list[Any] = [*(decision.to_dict() for decision in state.decisions), *scaling]
        return sorted(found, key=lambda decision: decision["at"])

    def _gpu_shares(self) -> list[GpuShare]:
        """As far as is known without asking Ray."""
        states = self._controller.placement.functions.values()
        return gpu_allocations(states, self._controller.known_apps)


async def _wait_until(at: float) -> None:
    """Wait until this time, seconds of ``time.monotonic``."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))


class ClusterTasks:
    """The functions of a cluster behind the task routes: called at this machine's HAProxy, as
    functions call each other, so that a function answers wherever it is, and wakes there.
    Implements ``runtime.http.catalogue.task_routes.handler.TaskFunctions``.

    Mutable state: ``_known`` (by name: hashes of the declarations that the caller knows, and where
    else the functions may be).
    """

    def __init__(
        self, placement: Placement, caller: HttpFunctionCaller, captures: Captures
    ) -> None:
        self._captures = captures
        self._placement = placement
        self._caller = caller
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}

    def find(self, name: str) -> FunctionSpec | None:
        """See ``TaskFunctions``."""
        state = self._placement.functions.get(name)
        return None if state is None or state.declaration.part_of else state.spec

    def tasks(self) -> Mapping[str, str]:
        """See ``TaskFunctions``. From the declarations as they were sent: to parse all of a large
        file takes seconds.
        """
        return {
            name: task
            for name, state in self._placement.functions.items()
            if (task := state.declaration.args.get("task")) and not state.declaration.part_of
        }

    def count(self, request: Request, name: str) -> None:
        """See ``TaskFunctions``: the process that answers counts it, in the same trace, and gets
        rows. What the client sent is recorded here.
        """
        record = request.record
        record.trace = CallTrace.hand_on(request.fields)
        if (recorder := self._captures.recorder_of(name)) is not None:
            request.begin_recording(recorder)
        if record.recording is not None:
            record.recording.knows_wake = False

    async def call(
        self, request: Request, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``TaskFunctions``."""
        declaration = self._placement.functions[name].declaration
        known = declaration.hash, declaration.also_at
        if self._known.get(name) != known:
            self._caller.add_functions({name: to_callee(declaration)})
            self._known[name] = known
        # its timeouts need a task, which a short call on a hot connection has not
        call = self._caller.call(name, rows, options)
        task = asyncio.get_running_loop().create_task(call)
        try:
            return await task
        finally:
            task.cancel()
