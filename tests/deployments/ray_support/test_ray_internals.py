"""The private names of Ray are those of one version."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect

import pytest
from ray.serve._private import haproxy
from ray.serve._private.common import DeploymentID, EndpointInfo
from ray.serve._private.metrics_utils import InMemoryMetricsStore
from ray.serve._private.proxy_router import ProxyRouter
from ray.serve._private.router import RouterMetricsManager
from ray.serve.handle import DeploymentHandle

from deployments.ray_support import ray_internals

PUSH = "push_autoscaling_metrics_to_controller"


def test_another_ray_is_refused_when_it_is_imported(monkeypatch):
    """Before anything is started; the message says what to install."""
    monkeypatch.setattr("ray.__version__", "2.61.0")
    found = importlib.util.find_spec("deployments.ray_support.ray_internals")
    assert found is not None
    assert found.loader is not None
    with pytest.raises(ImportError, match=r"pip install 'ray\[serve\]==2\.60\.0'"):
        found.loader.exec_module(importlib.util.module_from_spec(found))
    assert ray_internals.VERSION == "2.60.0"


def test_a_replica_knows_its_name_in_haproxys_configuration():
    """Ray writes it there."""
    manager = haproxy.HAProxyManager.__ray_metadata__.modified_class
    full = "SERVE_REPLICA::an app/2#Wakeful Function#x1_y"
    assert ray_internals.server_name(full) == manager.get_safe_name(full)
    assert ray_internals.server_name(full) == "SERVE_REPLICA_an_app.2-Wakeful_Function-x1_y"


def test_what_a_proxy_does_for_a_deleted_deployment_ends(monkeypatch):
    """Serve's router of routes forgets its handle; nothing else ends it."""
    monkeypatch.setattr(ProxyRouter, "update_routes", ProxyRouter.update_routes)
    monkeypatch.setattr(RouterMetricsManager, PUSH, getattr(RouterMetricsManager, PUSH))
    assert inspect.iscoroutinefunction(DeploymentHandle.shutdown_async)
    ray_internals.quiet_handles()
    ended: list[DeploymentID] = []

    class Handle:
        def __init__(self, deployment: DeploymentID) -> None:
            self.deployment = deployment

        async def shutdown_async(self) -> None:
            ended.append(self.deployment)

    kept, deleted = DeploymentID("Function", "kept"), DeploymentID("Function", "deleted")
    routes = {one: EndpointInfo(f"/{one.app_name}") for one in (kept, deleted)}

    async def work() -> None:
        router = ProxyRouter(lambda deployment, info: Handle(deployment))
        router.update_routes(routes)
        router.update_routes({kept: routes[kept]})
        router.update_routes({kept: routes[kept]})
        await asyncio.sleep(0)

    asyncio.run(work())
    assert ended == [deleted]


def test_a_handle_reports_calls_that_wait_and_once_that_none_does(monkeypatch):
    """The last report has nothing of a call any more: the controller keeps it for ten seconds."""
    sent: list[int] = []
    monkeypatch.setattr(RouterMetricsManager, PUSH, lambda manager: sent.append(waiting()))
    monkeypatch.setattr(ProxyRouter, "update_routes", ProxyRouter.update_routes)
    ray_internals.quiet_handles()
    manager = RouterMetricsManager.__new__(RouterMetricsManager)
    manager.metrics_store, manager.num_queued_requests = InMemoryMetricsStore(), 0

    def waiting() -> int:
        return manager.num_queued_requests

    for second, waits in enumerate((0, 0, 3, 2, 0, 0, 0, 1, 0, 0, 0)):
        manager.num_queued_requests = waits
        manager.metrics_store.add_metrics_point({"queued": waits}, second)
        manager.metrics_store.prune_keys_and_compact_data(second - 1.5)
        getattr(manager, PUSH)()
    assert sent == [0, 3, 2, 0, 0, 1, 0, 0]
