"""What is done with private names of Ray, on Ray's own classes and without a cluster."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import Iterator

import pytest
import ray
from ray import serve
from ray.core.generated import autoscaler_pb2
from ray.serve._private import cluster_node_info_cache, controller, proxy_state, replica
from ray.serve._private.common import DeploymentID, EndpointInfo
from ray.serve._private.metrics_utils import InMemoryMetricsStore
from ray.serve._private.proxy_router import ProxyRouter
from ray.serve._private.router import RouterMetricsManager
from ray.serve.handle import DeploymentHandle

from deployments.ray_support import assumptions, ray_internals
from runtime.system.assumptions import Assumption, require
from tests.problems import expect_values

PUSH = "push_autoscaling_metrics_to_controller"


def test_an_older_ray_is_refused_when_it_is_imported(monkeypatch):
    """Before anything is started; the message says what to install."""
    monkeypatch.setattr("ray.__version__", "2.58.1")
    found = importlib.util.find_spec("deployments.ray_support.ray_internals")
    assert found is not None
    assert found.loader is not None
    with pytest.raises(ImportError, match=r"pip install 'ray\[serve\]>=2\.59'"):
        found.loader.exec_module(importlib.util.module_from_spec(found))


def test_of_a_ray_that_was_not_tried_is_said_what_it_does_otherwise(monkeypatch):
    """Of one that was, nothing."""
    odd = Assumption("ProxyRouter", "handles", "", lambda: require(False, "it is gone"))
    monkeypatch.setattr(assumptions, "ASSUMPTIONS", (odd,))
    assert ray_internals.what_is_off() == []
    monkeypatch.setattr("ray.__version__", "2.61.0")
    said = ray_internals.what_is_off()
    assert len(said) == 2
    expect_values(said[0], "2.61.0", "2.59", "2.60", "ray[serve]==2.60.*")
    expect_values(said[1], "ProxyRouter", "it is gone")


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A release of which it is not known what it does."""
    monkeypatch.setattr("ray.__version__", "2.61.0")
    assumptions.is_kept.cache_clear()
    yield
    assumptions.is_kept.cache_clear()


class Otherwise:
    """Of a later Ray, with nothing of what is built on."""


CHANGED = [
    ("ray.serve._private.proxy_router.ProxyRouter", ray_internals.quiet_handles),
    ("ray.serve._private.proxy_state.ProxyState", ray_internals.prepare_controller),
    ("ray.serve._private.haproxy.HAProxyApi", ray_internals.prepare_controller),
]


@pytest.mark.parametrize(("name", "change"), CHANGED)
def test_what_changes_ray_leaves_a_ray_alone_that_is_otherwise(
    monkeypatch, untried, caplog, name, change
):
    """Serve then does as it does by itself; the log says what that costs."""
    monkeypatch.setattr(controller, "HAProxyManager", controller.HAProxyManager)
    for kind, method in (
        (ProxyRouter, "update_routes"),
        (RouterMetricsManager, PUSH),
        (proxy_state.ActorProxyWrapper, "is_healthy"),
        (proxy_state.ProxyState, "try_update_status"),
    ):
        monkeypatch.setattr(kind, method, getattr(kind, method))
    monkeypatch.setattr(name, Otherwise)
    change()
    assert vars(Otherwise).keys() <= {*vars(type("Empty", (), {})), "__firstlineno__"}
    (said,) = caplog.messages
    expect_values(said, "Without it")


def test_an_application_gets_no_version_where_ray_takes_none(monkeypatch, untried):
    """An update then starts its replicas anew."""

    @serve.deployment
    class Deployed:
        pass

    application = Deployed.bind()
    assert ray_internals.with_version(application, "v")._bound_deployment.version == "v"
    assumptions.is_kept.cache_clear()
    monkeypatch.setattr(serve.Deployment, "options", lambda deployment: deployment)
    assert ray_internals.with_version(application, "v") is application


def test_new_replicas_start_beside_the_old_where_ray_can(monkeypatch):
    """Ray 2.60 can, 2.59 knows no such option and would refuse it."""
    has_it = not ray.__version__.startswith("2.59.")
    assert ray_internals.surge_options(25) == ({"max_surge_percent": 25} if has_it else {})
    monkeypatch.setattr(serve, "deployment", lambda name: None)
    assert ray_internals.surge_options(25) == {}


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


class Store:
    """The control store, with the machines that leave; None: it does not answer."""

    leaving: tuple[bytes, ...] | None = ()

    def get_cluster_resource_state(self, timeout_s: float) -> bytes:
        """As of Ray's client."""
        assert timeout_s > 0
        if self.leaving is None:
            raise OSError("no answer")
        reply = autoscaler_pb2.GetClusterResourceStateReply()
        states = reply.cluster_resource_state.node_states
        states.add(node_id=b"\x01", status=autoscaler_pb2.NodeStatus.Value("RUNNING"))
        for node in self.leaving:
            states.add(node_id=node, status=autoscaler_pb2.NodeStatus.Value("DRAINING"))
        return reply.SerializeToString()


def test_a_controller_of_ray_2_59_is_told_which_machines_leave(monkeypatch, caplog):
    """As long as it is known; that it is not is said once, and the controller goes on."""

    class Cache:
        def __init__(self) -> None:
            self._gcs_client, self.updates = Store(), 0

        def update(self) -> None:
            self.updates += 1

        def get_draining_nodes(self) -> dict[str, int]:
            return {}

    monkeypatch.setattr(cluster_node_info_cache, "DefaultClusterNodeInfoCache", Cache)
    ray_internals.notice_leaving_nodes()
    cache = Cache()
    assert cache.get_draining_nodes() == {}
    for leaving in [(b"\xab",), None, None, (b"\xab",), None, ()]:
        cache._gcs_client.leaving = leaving
        cache.update()
        assert set(cache.get_draining_nodes()) == ({"ab"} if leaving != () else set())
    assert cache.updates == 6
    assert caplog.text.count("does not say which machines leave") == 2


@pytest.mark.parametrize(
    ("own", "asked", "opened"),
    [
        ("127.0.0.1", "[::]:0", "127.0.0.1:0"),
        ("10.0.0.4", "[::]:0", "10.0.0.4:0"),
        ("fd00::4", "[::]:0", "[fd00::4]:0"),
        ("127.0.0.1", "10.0.0.4:9500", "10.0.0.4:9500"),
    ],
)
def test_a_replicas_inner_port_is_at_its_machines_address(monkeypatch, own, asked, opened):
    """And what asks for an address gets that."""
    seen = []
    monkeypatch.setattr(
        replica, "add_port_to_grpc_server", lambda server, address: seen.append(address) or 4711
    )
    monkeypatch.setattr(ray_internals, "get_node_ip_address", lambda: own)
    ray_internals.keep_inner_grpc_local()
    assert replica.add_port_to_grpc_server("server", asked) == 4711
    assert seen == [opened]
