"""A replica of one function: the engine, loaded, behind its own HTTP routes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import ray
from ray import serve
from ray.util import get_node_ip_address

from deployments.control.declarations import current_args
from deployments.control.orders import ReplicaOrders
from deployments.control.process_reports import ReplicaReport
from deployments.ingress.haproxy_metrics import HaproxyWatch
from deployments.ingress.middleware import DirectIngressTarget, PicklableResponses
from deployments.ingress.sequence_routing import FallbackSequences
from deployments.observability.capture_sending import CaptureSender
from deployments.observability.report_sending import (
    AssignedGpu,
    Heartbeat,
    ReplicaReporter,
    crash_recorder,
    find_crash_reports,
    mark_all_reported,
    row_quarantine,
)
from deployments.observability.statistics import ClusterStatistics
from deployments.ray_support import secret_store
from deployments.ray_support.deadlines import DRAIN_LOOP_S
from deployments.ray_support.ray_internals import haproxy_server
from deployments.ray_support.secret_store import agree_on_secret
from deployments.scaling import serve_policy
from deployments.serving.ingress_address import ingress_address
from deployments.serving.remote_caller import HttpFunctionCaller, callees_of
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec, version_hash, with_live_settings
from runtime.declaration.sections import worker_count
from runtime.errors import Quarantined, WakefulError
from runtime.execution.function import Function
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.http.transport.edge import KeyedHandler
from runtime.library.capture.captures import CapturedFunction, Captures, FileStore
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import GpuDevice
from runtime.onnx.session import warm_up_runtime
from runtime.settings import Settings
from runtime.system.crash.recorder import label_of
from runtime.system.function_context import stamp_output
from runtime.system.memory import freeze
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.exports import Exports
from runtime.system.telemetry.statistics import StatisticsReport

CALLEES: Final = "callees"
"""The key of ``user_config`` with the prefixes of the functions that it calls, by name."""


class Replica(DirectIngressTarget):
    """The class that Ray Serve deploys for a function; HAProxy's connections end in its ASGI
    application. Runs on Serve's event loop.

    Args:
        args: the function's declaration, checked by the builder.
        prefix: where it is mounted, or will be; empty when the builder does not know it, and the
            first call shows it.
        owner: the application of the placement controller; empty when there is none.
        why: the decision that made this deployment, if one did.

    Raises:
        LoadError: in ``__init__``; Ray reports it as the reason why the application is unhealthy.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, args: dict[str, Any], prefix: str = "", owner: str = "", why: str = ""
    ) -> None:
        began = time.time()
        name = serve.get_replica_context().app_name
        self.handler: FunctionHandler | None = None
        settings = Settings.read()
        stamp_output(name, settings.secrets.hide, settings.log_level or "WARNING")
        spec = FunctionSpec.from_args(name, prefix or f"/v2/models/{name}", current_args(args))
        await secret_store.fetch_into(settings.secrets, [spec.deployed.secrets])
        warm_up_runtime()
        self._crashes = find_crash_reports()
        secret = (await asyncio.to_thread(agree_on_secret)).encode()
        count = worker_count(spec.resources.num_cpus)
        self._crash_recorder = crash_recorder(count)
        self._workers = Workers(count, crash_recorder=self._crash_recorder)
        counters = ProcessCounters()
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._counters = counters
        self._exports = Exports(counters, settings, replica_id)
        with self._crash_recorder.loading(label_of(name, version_hash(spec))):
            gpus = assigned_gpus()
            self._http_caller = HttpFunctionCaller(
                ingress_address, callees_of(spec), is_loaded=False, secret=secret
            )
            self._function = await Function.load(
                spec,
                settings,
                workers=self._workers,
                callees=self._http_caller,
                gpu=gpu_of_replica(settings, gpus.ids),
                counters=counters.of(name),
            )
            self._http_caller.mark_loaded()
        self._reporter = ReplicaReporter(
            replica_id,
            self._function,
            why=why,
            began=began,
            gpus=gpus,
            counters=counters,
        )
        self._statistics = ClusterStatistics(replica_id, counters, lambda: self._heartbeat)
        self.handler = FunctionHandler(
            self._function,
            row_quarantine(),
            secret=secret,
            statistics=self._statistics.read,
        )
        self.handler.prefix = prefix or None
        self.keys = counters.keys
        node_ip = get_node_ip_address()  # type: ignore[no-untyped-call]
        watch = HaproxyWatch(node_ip)
        self._heartbeat = Heartbeat(owner, self._make_report, self._on_orders, watch.read)
        self._capture_sender, self._captures = self._make_captures(settings, replica_id)
        self._captures.declare((CapturedFunction.of(spec),) if not spec.deployed.part_of else ())
        freeze()

    def _make_captures(
        self, settings: Settings, replica_id: str
    ) -> tuple[CaptureSender | None, Captures]:
        """Calls are recorded by the catalogue; where there is none, in files of this machine."""
        counters, secrets = self._counters, settings.secrets
        if self._heartbeat.has_controller:
            sender = CaptureSender(replica_id, lambda: self._heartbeat, counters)
            return sender, Captures(counters, sender, secrets)
        return None, Captures(counters, FileStore(settings.captures, counters), secrets)

    def __serve_build_asgi_app__(self) -> PicklableResponses:
        """Return the application; Ray calls this once the constructor is done."""
        assert self.handler is not None
        app = AsgiApp(KeyedHandler(self.handler, self.keys), gives_ids=False)
        return PicklableResponses(FallbackSequences(app, haproxy_server()))

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what ``deployments.scaling.serve_policy`` decides by. Called five times a second;
        a coroutine, since Ray runs a plain method in a thread.
        """
        function = self._function
        return {
            serve_policy.CALLS_IN_FLIGHT: function.in_flight.calls,
            serve_policy.WAITING_ROWS: function.waiting_rows,
            serve_policy.BUSY_S: function.busy_s,
            serve_policy.CALLS: function.in_flight.total_calls,
            serve_policy.ROW_S: function.row_seconds,
            serve_policy.SEQUENCES: function.sequence_count,
        }

    async def __del__(self) -> None:
        """Ray calls this before the process ends, and does not know of calls that came through
        ``DirectIngress``: they are answered first.
        """
        if self.handler is None:  # the constructor failed, and its error is the one to report
            return
        await self._heartbeat.close()
        deadline = time.monotonic() + self._function.spec.limits.request_timeout_s
        while self.handler.exchanges and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOP_S)
        await self._statistics.report_last()
        await asyncio.to_thread(self._captures.close)
        if self._capture_sender is not None:
            await self._capture_sender.close()
        await asyncio.to_thread(self._exports.close)
        await self._function.close(max(0.0, deadline - time.monotonic()))
        await self._http_caller.close()
        await asyncio.to_thread(self._workers.close, 1.0)
        self._crash_recorder.close()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply changed batching and limits, and where the functions are that it calls; nothing
        restarts. A coroutine, since Ray runs a plain method in a thread.
        """
        user_config = dict(user_config)
        self._http_caller.set_prefixes(user_config.pop(CALLEES))
        self._function.apply_settings(with_live_settings(self._function.spec, user_config))
        spec = self._function.spec
        self._captures.declare((CapturedFunction.of(spec),) if not spec.deployed.part_of else ())

    def check_health(self) -> None:
        """Called by Ray every few seconds; an exception takes the replica out of service.

        Raises:
            RuntimeError: the function cannot answer any more: a worker thread has died, all that it
                may have hang, or a session is broken.
        """
        if trouble := self._function.trouble:
            raise RuntimeError(f"{self._function!r} is to be replaced: {trouble}")

    async def call(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer rows that come by a deployment handle: for each its answer, or the error form."""
        assert self.handler is not None
        if self.handler.quarantine:
            refusal = Quarantined.of(self._function.spec.name, self.handler.quarantine).body("")
            return [refusal for _ in rows]
        outcomes, _ = await self._function.call_rows(rows)
        return [row.body("") if isinstance(row, WakefulError) else row for row in outcomes]

    def _make_report(self) -> ReplicaReport:
        report = self._reporter.make_report(self._crashes, self._http_caller.hop_ms)
        return replace(report, statistics=StatisticsReport.of(self._counters))

    def _on_orders(self, orders: ReplicaOrders) -> None:
        mark_all_reported(self._crashes)
        self._crashes = ()
        assert self.handler is not None
        self.handler.quarantine = orders.quarantine
        self._captures.order(orders.captures)


VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
"""Set by Ray in each worker before it starts: to the devices it was given, and to none for a
function on CPUs (``environment``).
"""


def assigned_gpus() -> AssignedGpu:
    """What Ray gave this worker process."""
    context = ray.get_runtime_context()
    return AssignedGpu(tuple(context.get_accelerator_ids().get("GPU", ())), context.get_node_id())


def gpu_of_replica(settings: Settings, ids: Sequence[str]) -> GpuDevice:
    """The first of these devices as CUDA numbers it in this process, with its memory."""
    return gpu_memory.assigned_gpu(settings, ids, os.environ.get(VISIBLE))
