"""What Wakeful does with names of Ray's that are private or not documented, each with the
measurement that justifies it; ``assumptions`` says of each what it takes for granted. What Serve's
proxies are made of is in ``serve_proxies``, what Ray writes in ``texts``.

Measured on Ray 2.60.0 and two cores.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray import serve
from ray.util import get_node_ip_address, list_named_actors

from deployments.ray_support import assumptions
from deployments.ray_support.assumptions import versions
from deployments.ray_support.assumptions.core import LEAVING_NODES, PRESTART
from deployments.ray_support.assumptions.serve import (
    ANY_ADDRESS,
    HANDLES,
    INNER_GRPC,
    MANAGER,
    PROXY_STATE,
    VERSION,
)
from deployments.ray_support.haproxy_names import server_name
from deployments.ray_support.processes import CONTROLLER
from runtime.system.assumptions import faults

logger = logging.getLogger("wakeful.ray")

if why := versions.refusal(ray.__version__):
    raise ImportError(why)

ASK_S: Final = 10.0
"""Longest wait for the head of a cluster on another machine."""

LEAVING_S: Final = 5.0
"""Longest wait for what the control store says of machines; Serve's controller does nothing else
meanwhile.
"""

PRESTART_S: Final = 5.0
"""Longest wait until a node starts workers."""


def free_by_node() -> list[Mapping[str, float]]:
    """Free resources of each machine of the cluster; Ray's public sum does not say whether two
    halves are on one machine.
    """
    from ray._private.state import available_resources_per_node

    return list(available_resources_per_node().values())  # type: ignore[no-untyped-call]


def alive_nodes() -> list[dict[str, Any]]:
    """The machines of the cluster, as ``ray.nodes`` describes them, without those that are about to
    leave, which that does not mark.

    Measured: a machine that was to leave kept its host, for which Serve found no other place, and
    did not leave within two minutes.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if not assumptions.is_kept(LEAVING_NODES):
        return nodes
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    leaving = _leaving_nodes(GcsClient(address=ray.get_runtime_context().gcs_address))
    return [node for node in nodes if node["NodeID"] not in leaving]


def _leaving_nodes(client: Any) -> set[str]:
    """The ids of those that are about to leave; of a ``GcsClient``. Blocking."""
    from ray.core.generated import autoscaler_pb2

    reply = autoscaler_pb2.GetClusterResourceStateReply.FromString(  # type: ignore[attr-defined]
        client.get_cluster_resource_state(timeout_s=LEAVING_S)
    )
    leaving = autoscaler_pb2.NodeStatus.Value("DRAINING")  # type: ignore[attr-defined]
    return {
        node.node_id.hex()
        for node in reply.cluster_resource_state.node_states
        if node.status == leaving
    }


NO_DEADLINE: Final = 2**63 - 1
"""Of a machine that leaves: its replicas end when others have taken their place."""


def notice_leaving_nodes() -> None:
    """Makes Serve's controller move replicas away from machines that are about to leave. Ray 2.60
    does; 2.59 has all that it takes, and is never told of such a machine.
    """
    from ray.serve._private import cluster_node_info_cache

    caches: Any = cluster_node_info_cache.DefaultClusterNodeInfoCache
    if "get_draining_nodes" not in vars(caches) or not assumptions.is_kept(LEAVING_NODES):
        return
    update = caches.update

    def update_leaving(cache: Any) -> None:
        update(cache)
        try:
            cache.leaving = dict.fromkeys(_leaving_nodes(cache._gcs_client), NO_DEADLINE)
            caches.says_leaving = True
        except Exception:  # of Ray's own kinds; the controller's loop goes on, ten times a second
            if caches.says_leaving:
                logger.warning("Ray does not say which machines leave.", exc_info=True)
            caches.says_leaving = False

    caches.leaving, caches.says_leaving = {}, True
    caches.update = update_leaving
    caches.get_draining_nodes = lambda cache: dict(cache.leaving)


def drain_node() -> bool:
    """Makes Ray Serve move its replicas away from this machine, and give it no others.

    `ray drain-node` does the same, but is a hidden command that needs the machine's id.

    Returns:
        whether Ray accepted it.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    context = ray.get_runtime_context()
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
    is_accepted, _ = GcsClient(address=context.gcs_address).drain_node(
        context.get_node_id(), reason, "it leaves the cluster", 0
    )
    return bool(is_accepted)


def with_version(application: serve.Application, version: str) -> serve.Application:
    """The application, of one deployment, with a version: deployed again with the same version it
    changes in place.

    Ray 2.60 took ``version`` out of its public API; ``serve.run`` draws a random one, and a changed
    batch size then restarts every replica. Measured: with our version the change reaches a running
    replica in 0.3 s, without it a new process serves after 1.5 s.
    """
    if not assumptions.is_kept(VERSION):
        return application
    return serve.Application(application._bound_deployment.options(version=version, _internal=True))


def surge_options(percent: int) -> dict[str, Any]:
    """The option of a deployment by which new replicas start beside the old ones, up to so many per
    cent more; none on Ray 2.59, which ends old replicas first: calls of a function with one replica
    then wait for the new one.
    """
    has_it = "max_surge_percent" in inspect.signature(serve.deployment).parameters
    return {"max_surge_percent": percent} if has_it else {}


def haproxy_server() -> str:
    """The name that HAProxy has for the replica in this process."""
    return server_name(serve.get_replica_context().replica_id.to_full_id_str())


def has_controller() -> bool:
    """Whether Serve runs in the cluster."""
    actors: Any = list_named_actors(all_namespaces=True)
    return any(actor["name"] == CONTROLLER for actor in actors)


def begin_delete(application: str) -> None:
    """Has Serve delete an application, and does not wait: ``serve.delete`` gives up after 60 s,
    whatever the replicas' own deadline is.
    """
    serve.delete(application, _blocking=False)


def prestart_workers(count: int, keep_alive_s: int) -> None:
    """Starts idle worker processes on every node, for replicas to come; each has imported the
    modules of ``RAY_preload_python_modules`` (``environment.SERVING``).

    A replica that is placed in one spares the start of Python and 1.0 s of imports. Measured, two
    cores, medians of a function at zero to its first answer: see docs/scaling.md. Ray only
    takes a worker that has run nothing yet, so each one used has to be replaced.
    """
    if not assumptions.is_kept(PRESTART):
        return
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    request = node_manager_pb2.PrestartWorkersRequest()  # type: ignore[attr-defined]
    request.language = common_pb2.Language.Value("PYTHON")  # type: ignore[attr-defined]
    request.num_workers = count
    request.keep_alive_duration_secs = keep_alive_s
    request.runtime_env_info.serialized_runtime_env = "{}"
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"]:
            channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
            try:
                node_manager_pb2_grpc.NodeManagerServiceStub(channel).PrestartWorkers(  # type: ignore[no-untyped-call]
                    request, timeout=PRESTART_S
                )
            finally:
                channel.close()


def quiet_handles() -> None:
    """Makes the handles of Serve's proxies report what there is to report; called once a process,
    before a proxy starts.

    1. A handle tells the controller as often as a replica does how many calls wait in it, also if
       none does. Measured: 0.2 % of a core in the proxy and 0.2 % in the controller for each
       function at zero; what the controller has not heard of is nothing to it.
    2. A proxy forgets the handle of a deleted deployment, whose tasks go on as long as the cluster
       lives. Measured: of 30 deployments that were deleted 6 % of a core remained in the proxy and
       7 % in the controller, and a function that is promoted and demoted adds one each time.
    """
    if not assumptions.is_kept(HANDLES):
        return
    from ray.serve._private import proxy_router, router

    proxies: Any = proxy_router.ProxyRouter
    managers: Any = router.RouterMetricsManager
    push = managers.push_autoscaling_metrics_to_controller
    update_routes = proxies.update_routes

    def push_changes(manager: Any) -> None:
        recorded = (point for series in manager.metrics_store.data.values() for point in series)
        was_idle = getattr(manager, "is_idle", False)
        manager.is_idle = not (manager.num_queued_requests or any(one.value for one in recorded))
        if not (was_idle and manager.is_idle):
            push(manager)

    def update_and_stop(router: Any, endpoints: Mapping[Any, Any]) -> None:
        gone = [handle for endpoint, handle in router.handles.items() if endpoint not in endpoints]
        update_routes(router, endpoints)
        for handle in gone:
            _stopping.add(task := asyncio.ensure_future(handle.shutdown_async()))
            task.add_done_callback(_stopping.discard)

    managers.push_autoscaling_metrics_to_controller = push_changes
    proxies.update_routes = update_and_stop


def keep_inner_grpc_local() -> None:
    """Makes the replica in this process open its port for calls between deployments at the address
    that its machine has in the cluster; called once a process, before the replica serves.

    Ray opens it at every address of the machine, and other processes connect to this one. It is the
    loopback address where no other machine may join. Measured before: two ports at ``*`` after an
    `up` on one machine, the catalogue's and the host's, and one more for each replica. They take
    nothing without the cluster's token; whatever reaches them could keep connections open.
    """
    if not assumptions.is_kept(INNER_GRPC):
        return
    from ray.serve._private import replica

    replicas: Any = replica
    add_port = replicas.add_port_to_grpc_server

    def add_local_port(server: Any, address: str) -> Any:
        if address == ANY_ADDRESS:
            own = str(get_node_ip_address())  # type: ignore[no-untyped-call]
            address = f"[{own}]:0" if ":" in own else f"{own}:0"
        return add_port(server, address)

    replicas.add_port_to_grpc_server = add_local_port


def prepare_controller() -> None:
    """Makes Serve's controller start proxies that died at once (``serve_proxies``), and see
    machines that leave, as far as this Ray has what that takes. Serve calls it once, in the
    controller's process (``RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH``), before it starts a proxy.
    """
    notice_leaving_nodes()
    if assumptions.is_kept(MANAGER):
        from deployments.ray_support import serve_proxies

        serve_proxies.start_our_manager()
    if assumptions.is_kept(PROXY_STATE):
        from deployments.ray_support import serve_proxies

        serve_proxies.replace_the_dead_at_once()


def what_is_off() -> list[str]:
    """Of a release of Ray that was not tried: a line that says so, and one for each thing that it
    does otherwise than is assumed; empty of a release that was. Imports Serve; half a second.
    """
    if versions.judge(ray.__version__) != "new":
        return []
    return [versions.hint(ray.__version__), *faults(assumptions.ASSUMPTIONS)]


_stopping: set[asyncio.Future[None]] = set()
"""Handles that end; asyncio itself does not keep a task alive."""


class HeadStore:
    """The key-value store of Ray's head, in the memory of a process that runs anyway; every process
    of the cluster can use it. Calls block.

    The public way to keep a value for a whole cluster is a named actor. Measured: 1.3 ms to put and
    0.4 ms to get, in memory that is there; the actor takes 0.65 s to make, 75 MB of its own for as
    long as the cluster lives, and 1.3 ms an answer.
    """

    @staticmethod
    def put(key: str, value: str) -> None:
        """Replaces the value."""
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(key, value.encode(errors="surrogateescape"), overwrite=True)

    @staticmethod
    def put_first(key: str, value: str) -> None:
        """Sets the value if there is none; of several writers at once, one is first."""
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(key, value.encode(), overwrite=False)

    @staticmethod
    def get(key: str) -> str | None:
        """The value; None if there is none."""
        from ray.experimental.internal_kv import _internal_kv_get

        found = _internal_kv_get(key)
        return None if found is None else found.decode(errors="surrogateescape")

    @staticmethod
    def ask(address: str, key: str) -> str | None:
        """``get`` from a machine on which no Ray runs yet."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        found = GcsClient(address=address).internal_kv_get(key.encode(), None, timeout=ASK_S)
        return None if found is None else bytes(found).decode(errors="surrogateescape")

    @staticmethod
    def keys(prefix: str) -> list[str]:
        """The keys that begin so."""
        from ray.experimental.internal_kv import _internal_kv_list

        return [key.decode() for key in _internal_kv_list(prefix)]

    @staticmethod
    def drop(key: str) -> None:
        """Deletes the key, if it is there."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(key)


def serve_details() -> dict[str, Any]:
    """What Serve's REST API shows (``ray.serve.schema.ServeInstanceDetails``); empty where Serve
    does not run. Blocking.

    The public ``serve.status()`` asks for the same, has no prefixes, and makes a model of each
    deployment, for which it pickles the class of its router. Measured with twelve applications, of
    which ten sleep: 1.7 ms of processor time instead of 110 to 140; the catalogue, which asks about
    twice a second, takes 1.3 % of a core instead of 5.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    return {} if client is None else client.get_serve_details()


def application_details() -> dict[str, dict[str, Any]]:
    """Every application of Serve by name (``ray.serve.schema.ApplicationDetails``). Blocking."""
    return dict(serve_details().get("applications", {}))


def http_address() -> tuple[str, int]:
    """Host and port of Serve's HTTP configuration, of the cluster of this process. Blocking.

    A function that calls another needs them, and of Ray's public API only the dashboard shows them,
    which does not run here.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None  # it raises where Serve does not run
    config = client.http_config
    return str(config.host), int(config.port)
