"""The shared host: one process of the engine for all functions that need no deployment of their
own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ray import serve
from ray.util import get_node_ip_address

from deployments.control.declarations import (
    FunctionDeclaration,
    hash_declarations,
    unpack_functions,
)
from deployments.control.orders import HostOrders, QuarantineOrder
from deployments.control.process_reports import HostReport
from deployments.ingress.haproxy_metrics import HaproxyWatch
from deployments.ingress.middleware import DirectIngressTarget, PicklableResponses
from deployments.ingress.wake_signal import ReplayTerms, WakeSignal
from deployments.observability.capture_sending import CaptureSender
from deployments.observability.report_sending import (
    REPORTS_PER_METRICS,
    Heartbeat,
    crash_recorder,
    find_crash_reports,
    mark_all_reported,
    row_quarantine,
)
from deployments.observability.statistics import ClusterStatistics
from deployments.ray_support import secret_store
from deployments.ray_support.deadlines import DRAIN_LOOP_S
from deployments.ray_support.secret_store import agree_on_secret
from deployments.ray_support.serve_status import unpack_config
from deployments.serving.forwarding import HostRouter
from deployments.serving.ingress_address import ingress_address
from deployments.serving.remote_caller import HttpFunctionCaller, LocalFirstCaller, callees_of
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.sections import LimitsSpec
from runtime.errors import LoadError, WakefulError
from runtime.execution.admission import IN_FLIGHT, admission_limits_of
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.edge import KeyedHandler
from runtime.library.capture.captures import CapturedFunction, Captures
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.onnx.session import warm_up_runtime
from runtime.settings import Settings, budget_bytes
from runtime.system.cores import usable_cores
from runtime.system.function_context import stamp_output
from runtime.system.memory import freeze
from runtime.system.telemetry.exports import Exports
from runtime.system.telemetry.statistics import StatisticsReport

logger = logging.getLogger("wakeful.host")

HOLD_S: Final = 60.0
"""Longest wait of a call while there is no host, unless one of its functions has a longer deadline.
A call with a shorter deadline is answered by the host when that is back.
"""


class Host(DirectIngressTarget):
    """The class that Ray Serve deploys for the shared host. Runs on Serve's event loop.

    Args:
        prefix: where it is mounted; functions whose prefix is below it are called through it.
        owner: the application of the placement controller.
        hosts: number of hosts on this machine; they share the memory budget.
        everywhere: whether there may be hosts on other machines.
    """

    async def __init__(self, prefix: str, owner: str, hosts: int, everywhere: bool = False) -> None:  # type: ignore[misc]  # Ray awaits it
        self.handler: LibraryHandler | HostRouter | None = None
        settings = Settings.read()
        stamp_output("host", settings.secrets.hide, settings.log_level or "WARNING")
        self._secrets = settings.secrets
        self._crashes = find_crash_reports()
        cores = usable_cores()
        self._crash_recorder = crash_recorder(cores, spare=1)
        self._workers = Workers(cores, spare=1, crash_recorder=self._crash_recorder)
        secret = (await asyncio.to_thread(agree_on_secret)).encode()
        self._callees = LocalFirstCaller(HttpFunctionCaller(ingress_address, secret=secret))
        self._library = FunctionLibrary(
            (),
            settings,
            workers=self._workers,
            budget_bytes=budget_bytes(settings) // hosts,
            crash_recorder=self._crash_recorder,
            callees=self._callees,
            on_change=self._on_change,
        )
        self._callees.attach_library(self._library)
        self._unloader = asyncio.get_running_loop().create_task(
            self._library.run_idle_unloader(), name="unload idle functions"
        )
        self._declared: tuple[FunctionDeclaration, ...] = ()
        self._declared_hash = ""
        self._declaring: asyncio.Task[None] | None = None
        self._quarantined: Mapping[str, QuarantineOrder] = {}
        self._reports = 0
        self._reported_at = 0.0
        self._id = serve.get_replica_context().replica_id.unique_id
        self._exports = Exports(self._library.counters, settings, self._id)
        self._node_ip = get_node_ip_address()  # type: ignore[no-untyped-call]
        self._owner = owner
        self._heartbeat: Heartbeat | None = None
        """From the moment when it is configured and about to serve."""
        counters = self._library.counters
        self._capture_sender = CaptureSender(self._id, lambda: self._heartbeat, counters)
        self._captures = Captures(counters, self._capture_sender, settings.secrets)
        self._statistics = ClusterStatistics(self._id, counters, lambda: self._heartbeat)
        local = LibraryHandler(
            self._library,
            row_quarantine=row_quarantine(),
            secret=secret,
            statistics=self._statistics.read,
        )
        local.prefix = prefix
        self._prefix = prefix
        self._router = (
            HostRouter(local, self._library, self._id) if hosts > 1 or everywhere else None
        )
        self.handler = self._router or local
        self.keys = counters.keys
        warm_up_runtime()
        freeze()

    def __serve_build_asgi_app__(self) -> PicklableResponses:
        """Return the application; Ray calls this once the constructor is done."""
        assert self.handler is not None
        return PicklableResponses(AsgiApp(KeyedHandler(self.handler, self.keys), gives_ids=False))

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take another set of functions; those that did not change stay loaded. A coroutine, since
        Ray runs a plain method in a thread.

        Raises:
            LoadError: a function that is to be loaded before the host serves did not load.
        """
        await self._declare(unpack_functions(unpack_config(user_config["functions"])))
        if self._heartbeat is None:
            first = user_config["first"]
            if first and time.time() < first["until"]:
                await load_first(self._library, first["names"])
            watch = HaproxyWatch(self._node_ip)
            self._heartbeat = Heartbeat(self._owner, self._make_report, self._on_orders, watch.read)

    async def _declare(self, declared: tuple[FunctionDeclaration, ...]) -> None:
        specs = [declaration.spec for declaration in declared]
        await secret_store.fetch_into(self._secrets, [spec.deployed.secrets for spec in specs])
        for spec in specs:
            self._callees.http_caller.add_functions(callees_of(spec))
        self._library.declare(
            DeclaredFunction(one.spec, one.memory_bytes, one.is_probed) for one in declared
        )
        self._captures.declare(
            CapturedFunction.of(spec) for spec in specs if not spec.deployed.part_of
        )
        self._declared, self._declared_hash = declared, hash_declarations(declared)
        self._refuse_quarantined()
        WakeSignal(self._prefix, host_terms(specs, serve.get_replica_context().app_name))
        self._on_change("")

    def _refuse_quarantined(self) -> None:
        """Refuse the functions that are quarantined as they are declared here. An order about
        another declaration is of the past, or this host gets that declaration in a moment.
        """
        hashes = {one.name: one.hash for one in self._declared if one.name in self._quarantined}
        self._library.set_quarantined(
            {
                name: order.reason
                for name, order in self._quarantined.items()
                if order.declaration == hashes.get(name)
            }
        )

    def check_health(self) -> None:
        """Called by Ray every few seconds; an exception replaces the host.

        Raises:
            RuntimeError: a worker thread has died, a function has no worker left since all that it
                may have hang, or the idle unloader has ended. A function that is broken by itself
                is loaded again by the library.
        """
        trouble = self._workers.trouble or (
            "the task that unloads has ended." if self._unloader.done() else ""
        )
        if trouble:
            raise RuntimeError(f"{self._library!r} is to be replaced: {trouble}")

    async def __del__(self) -> None:
        """Ray calls this before the process ends, and does not know of calls that came through
        ``DirectIngress``: they are answered first.
        """
        if self.handler is None:  # the constructor failed, and its error is the one to report
            return
        if self._heartbeat is not None:
            await self._heartbeat.close()
        longest_s = max(
            (entry.spec.limits.request_timeout_s for entry in self._library.entries), default=0.0
        )
        deadline = time.monotonic() + longest_s
        while self.handler.exchanges and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOP_S)
        await self._statistics.report_last()
        self._unloader.cancel()
        await asyncio.to_thread(self._captures.close)
        await self._capture_sender.close()
        await asyncio.to_thread(self._exports.close)
        await self._library.close()
        await self._callees.close()
        if self._router is not None:
            await self._router.close()
        await asyncio.to_thread(self._workers.close, 1.0)
        self._crash_recorder.close()

    def _on_change(self, name: str) -> None:
        if self._heartbeat is not None:
            self._heartbeat.notify_changed()

    def _make_report(self) -> HostReport:
        self._reports += 1
        has_metrics = self._reports % REPORTS_PER_METRICS == 1
        if has_metrics and not self._crashes:
            # a process that hung may have ended after this one began
            self._crashes = find_crash_reports()
        functions, now = self._library.report(), time.monotonic()
        statistics = StatisticsReport.of(
            self._library.counters, 0.0 if has_metrics else self._reported_at
        )
        self._reported_at = now
        return HostReport(
            id=self._id,
            pid=os.getpid(),
            crashes=self._crashes,
            declared=self._declared_hash,
            address=reachable(self.address, self._node_ip),
            peers=1 if self._router is None else len(self._router.peers),
            functions={
                name: replace(report, hop_ms=self._hop_ms(name))
                for name, report in functions.items()
            },
            used_bytes=self._library.used_bytes(),
            budget_bytes=self._library.budget_bytes,
            metrics=self._library.metrics.text().decode() if has_metrics else "",
            statistics=statistics,
            machine=self._node_ip,
        )

    def _hop_ms(self, name: str) -> dict[str, float]:
        hops = self._callees.http_caller.hop_ms
        calls = self._library.entries.require(name).spec.deployed.calls
        return {called: hops[called] for called in calls if called in hops}

    def _on_orders(self, orders: HostOrders) -> None:
        mark_all_reported(self._crashes)
        self._crashes = ()
        if orders.quarantined != self._quarantined:
            self._quarantined = orders.quarantined
            self._refuse_quarantined()
        if orders.declare is not None:
            self._declaring = asyncio.get_running_loop().create_task(
                self._declare(orders.declare), name="declare"
            )
        if orders.report_all:
            self._reported_at = 0.0
            self._on_change("")
        if self._router is not None:
            self._router.peers = orders.peers
        for name in orders.release:
            self._library.unload_when_idle(name)
        self._library.keep_awake(orders.keep)
        self._captures.order(orders.captures)
        for name in orders.load:
            self._library.start_loading(name)


async def load_first(library: FunctionLibrary, names: Iterable[str]) -> None:
    """Load what the previous host had loaded with other code, so that it is warm when this host
    serves; if that fails, the previous host stays. What is constructed with another function of
    this host finds it here, and not in the previous one.

    Raises:
        LoadError: names each function that does not load. A function for which there is no memory
            is loaded by its first call.
    """
    failed = []
    for name in with_functions_built_from(names, library.entries.specs):
        try:
            await library.load(name)
        except LoadError as error:
            failed.append(f"{name}: {error.message}")
        except WakefulError:
            logger.info("%s is loaded by its first call", name, exc_info=True)
    if failed:
        raise LoadError("; ".join(failed))


def with_functions_built_from(
    names: Iterable[str], specs: Mapping[str, FunctionSpec]
) -> tuple[str, ...]:
    """Return functions in an order in which each comes after those of ``specs`` that it is
    constructed with, which are among them.
    """
    found: dict[str, None] = {}

    def add(name: str) -> None:
        calls = specs[name].deployed.calls if name in specs else {}
        for callee, known in calls.items():
            if known.at_load and callee in specs:
                add(callee)
        found.setdefault(name)

    for name in names:
        add(name)
    return tuple(found)


def reachable(address: str, node_ip: str) -> str:
    """Return where peers reach a process whose own address may be the loopback one; empty if its
    address is not known.
    """
    return f"{node_ip}:{address.rpartition(':')[2]}" if address else ""


def host_terms(specs: Sequence[FunctionSpec], name: str) -> ReplayTerms:
    """Return what may wait while there is no host, for all its functions together: the host
    refuses what is too much for one of them.

    Args:
        name: of the host's application.
    """
    if not specs:  # a call still waits for the host, which answers 404
        limits = LimitsSpec()
        calls = limits.max_ongoing_requests + limits.max_queued_requests
        return ReplayTerms(
            HOLD_S, limits.max_body_bytes, calls, IN_FLIGHT * limits.max_body_bytes, name=name
        )
    capacities = [admission_limits_of(spec) for spec in specs]
    return ReplayTerms(
        max(HOLD_S, *(spec.limits.request_timeout_s for spec in specs)),
        max(spec.limits.max_body_bytes for spec in specs),
        sum(limits.calls for limits in capacities),
        sum(limits.bytes for limits in capacities),
        name=name,
    )
