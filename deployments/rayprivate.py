"""Every private name of Ray that we use, each with the measurement that made us; beside each the public way, taken on another Ray.

Measured on Ray 2.60.0 and two cores; ``wakeful`` works without any of it, slower and larger.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ray
from ray import serve

from deployments.headoptions import HeadOptions
from runtime.settings import Settings

MEASURED: Final = "2.60.0"
"""The only version whose private names we trust."""

ASK_S: Final = 10.0
"""Longest wait for the head of a cluster on another machine."""

PRESTART_S: Final = 5.0
"""Longest wait for a node to begin starting workers."""


def start_head(options: HeadOptions) -> str:
    """Start Ray's processes on this machine; they stay when this process ends.

    Returns:
        the address to connect to.
    """
    return _start_node(options) if ray.__version__ == MEASURED else _ray_start(options)


def _start_node(options: HeadOptions) -> str:
    """``ray start`` without its two processes that nothing here asks for, and without the second import of Ray.

    Measured: 1.4 to 1.9 s and 285 MB of RSS against 3.2 s and 499 MB; the two are the dashboard's server, which runs even with
    ``--include-dashboard=false`` (121 MB), and the server of Ray's client protocol (93 MB), which no option leaves out.
    """
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    class Head(Node):
        def start_api_server(self, **_: Any) -> None:
            pass

    params = RayParams(
        node_ip_address=options.node_ip,
        dashboard_host="127.0.0.1",
        gcs_server_port=options.port,
        dashboard_agent_listen_port=0,
        temp_dir=options.temp_dir,
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        object_store_memory=options.object_store_bytes,
        include_dashboard=False,
        no_monitor=True,
        include_log_monitor=False,  # type: ignore[arg-type]  # Ray's annotation says str, its code wants a boolean
    )
    node = Head(params, head=True, shutdown_at_exit=False, spawn_reaper=False)
    return str(node.address)


def _ray_start(options: HeadOptions) -> str:
    """The public way."""
    flags = {
        "port": options.port,
        "node-ip-address": options.node_ip,
        "temp-dir": options.temp_dir,
        "num-cpus": options.num_cpus,
        "object-store-memory": options.object_store_bytes,
        "include-dashboard": "false",
        "include-log-monitor": "false",
        "dashboard-agent-listen-port": 0,
    }
    if options.num_gpus is not None:
        flags["num-gpus"] = options.num_gpus
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--no-monitor", "--disable-usage-stats"]
    subprocess.run([*command, *(f"--{name}={value}" for name, value in flags.items())], check=True)
    return (Path(options.temp_dir) / "ray_current_cluster").read_text(encoding="utf-8").strip()


HEAD: Final = {"node:__internal_head__": 0.001}
"""A resource that Ray gives its head alone. What has to end with the head is placed by it; an affinity to a node's id, the public way,
cannot be written into a deployment's options."""


def free_by_node() -> list[Mapping[str, float]]:
    """What nobody has, by resource, of each machine of the cluster: whether two halves are one whole. Where Ray is another one, of all
    machines together."""
    if ray.__version__ != MEASURED:
        return [ray.available_resources()]  # type: ignore[no-untyped-call]
    from ray._private.state import available_resources_per_node

    return list(available_resources_per_node().values())  # type: ignore[no-untyped-call]


def staying() -> list[dict[str, Any]]:
    """The machines of the cluster, as ``ray.nodes`` describes them, but for those that are about to leave, of which that says nothing.

    Measured: a machine that was told to leave kept its host, for which Serve found no other place, and did not leave within two minutes.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if ray.__version__ != MEASURED:
        return nodes
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    leaving = GcsClient(address=ray.get_runtime_context().gcs_address).get_draining_nodes()
    return [node for node in nodes if node["NodeID"] not in leaving]


def retire() -> bool:
    """Ray Serve moves its replicas away from this machine, and gives it no others.

    Returns:
        whether Ray was told; the public way, `ray drain-node`, is a hidden command that wants the machine's id.
    """
    if ray.__version__ != MEASURED:
        return False
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    context = ray.get_runtime_context()
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
    is_accepted, _ = GcsClient(address=context.gcs_address).drain_node(context.get_node_id(), reason, "it leaves the cluster", 0)
    return bool(is_accepted)


def versioned(application: serve.Application, version: str) -> serve.Application:
    """The application, of one deployment, under a version: deployed again under the same one it changes in place.

    Ray 2.60 took ``version`` out of its public API; ``serve.run`` draws a random one, and a changed batch size then restarts every
    replica. Measured: with a version of ours it reaches a running replica in 0.3 s, without it is a new process after 1.5 s.
    """
    if ray.__version__ != MEASURED:
        return application
    return serve.Application(application._bound_deployment.options(version=version, _internal=True))


def prestart(count: int, keep_alive_s: int) -> bool:
    """Start idle worker processes on every node, for replicas to come; each has imported what ``PRELOADED`` names.

    A replica that is placed in one spares the start of Python and 1.0 s of imports. Measured, two cores, medians of a function at zero to
    its first answer: see docs/scaling.md. Only a worker that has run nothing yet is taken, so each start is to be made up for.

    Returns:
        whether they were asked for; there is no public way.
    """
    if ray.__version__ != MEASURED:
        return False
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
                node_manager_pb2_grpc.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=PRESTART_S)  # type: ignore[no-untyped-call]
            finally:
                channel.close()
    return True


class HeadStore:
    """The key-value store of Ray's head, in the memory of a process that is there anyway, asked from any process of the cluster.

    The public way to keep a value for a whole cluster is an actor (``vault.Keeper``). Measured: 1.3 ms to put and 0.4 ms to get, in memory
    that is there; the actor takes 0.65 s to make, 75 MB of its own for as long as the cluster lives, and 1.3 ms an answer.
    """

    @staticmethod
    def is_there() -> bool:
        """Whether this is a Ray whose store we know."""
        return ray.__version__ == MEASURED

    @staticmethod
    def put(key: str, value: str) -> None:
        """Whatever stood there is gone."""
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(key, value.encode(errors="surrogateescape"), overwrite=True)

    @staticmethod
    def get(key: str) -> str | None:
        """None if there is nothing."""
        from ray.experimental.internal_kv import _internal_kv_get

        found = _internal_kv_get(key)
        return None if found is None else found.decode(errors="surrogateescape")

    @staticmethod
    def ask(address: str, key: str) -> str | None:
        """``get`` from a machine on which no Ray runs yet; on another Ray than the measured one there is nothing."""
        if ray.__version__ != MEASURED:
            return None
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        found = GcsClient(address=address).internal_kv_get(key.encode(), None, timeout=ASK_S)
        return None if found is None else bytes(found).decode(errors="surrogateescape")

    @staticmethod
    def keys(prefix: str) -> list[str]:
        """Those that begin so."""
        from ray.experimental.internal_kv import _internal_kv_list

        return [key.decode() for key in _internal_kv_list(prefix)]

    @staticmethod
    def drop(key: str) -> None:
        """It is gone; it need not have been there."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(key)


def http_address() -> tuple[str, int]:
    """Host and port that Serve was told to serve HTTP on, of the cluster that this process belongs to; blocking.

    A function that calls another has to know them, and Ray tells them to nobody but the dashboard, which does not run here. The public way
    is what the settings say, or Ray's default.
    """
    if ray.__version__ != MEASURED:
        settings = Settings.read()
        return settings.host or "127.0.0.1", settings.port or 8000
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None  # it raises where Serve does not run
    config = client.http_config
    return str(config.host), int(config.port)
