"""Of Ray's core: how a head starts and ends, what it keeps, what it says of machines."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Final

from deployments.ray_support.assumptions.looking import (
    require_arguments,
    require_names,
    require_written,
)
from deployments.ray_support.driver_client import node_command
from deployments.ray_support.environment import HEAD
from deployments.ray_support.processes import ACTOR_TITLE, MANAGER_PROCESS, REPLICA_PROCESS
from deployments.ray_support.workers.start_worker import worker_script
from runtime.system.assumptions import Assumption, require


def _head() -> None:
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    require_names(Node, "start_api_server", "address")
    require_arguments(Node, "params", head=True, shutdown_at_exit=False, spawn_reaper=False)
    params = RayParams(
        node_ip_address="127.0.0.1",
        dashboard_host="127.0.0.1",
        gcs_server_port=1,
        dashboard_agent_listen_port=0,
        temp_dir="/tmp",
        num_cpus=1,
        num_gpus=0,
        object_store_memory=1,
        include_dashboard=False,
        no_monitor=True,
        include_log_monitor=False,  # type: ignore[arg-type]  # as in ``start_head``
    )
    require_names(params, "worker_path")
    require(params.ray_client_server_port is None, "a head starts the server of Ray's client")
    started = inspect.getsource(Node.start_head_processes)
    require("self.start_api_server(" in started, "a head does not start its dashboard by itself")


HEAD_PROCESSES: Final = Assumption(
    "ray._private.node.Node",
    "`up` starts Ray's head without the dashboard and the server of Ray's client, and without a "
    "second import of Ray. Without it no cluster starts.",
    "1.4 to 1.9 s and 285 MB against 3.2 s and 499 MB of `ray start`",
    _head,
)


def _head_resource() -> None:
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME

    require(
        set(HEAD) == {HEAD_NODE_RESOURCE_NAME},
        f"the head's resource is {HEAD_NODE_RESOURCE_NAME}",
    )


HEAD_RESOURCE: Final = Assumption(
    "node:__internal_head__",
    "The catalogue runs on the head, and ends with it. Without it the catalogue finds no machine.",
    "",
    _head_resource,
)


def _free_by_node() -> None:
    from ray._private.state import available_resources_per_node

    require_arguments(available_resources_per_node)


FREE_BY_NODE: Final = Assumption(
    "ray._private.state.available_resources_per_node",
    "Whether a replica fits is said of each machine: two halves may be on two. Without it "
    "functions grow to their bounds, and Ray makes replicas wait that have no room.",
    "",
    _free_by_node,
)


def _leaving_nodes() -> None:
    from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]  # what GcsClient passes to
    from ray.core.generated import autoscaler_pb2
    from ray.serve._private.cluster_node_info_cache import DefaultClusterNodeInfoCache

    require_arguments(InnerGcsClient.get_cluster_resource_state, None, timeout_s=1.0)
    states = autoscaler_pb2.NodeStatus.keys()  # type: ignore[attr-defined]
    require("DRAINING" in states, f"states of a machine are {list(states)}")
    reply = autoscaler_pb2.GetClusterResourceStateReply()  # type: ignore[attr-defined]
    node = reply.cluster_resource_state.node_states.add()
    require_names(node, "node_id", "status")
    require_names(DefaultClusterNodeInfoCache, "update", "get_draining_nodes")


LEAVING_NODES: Final = Assumption(
    "GcsClient.get_cluster_resource_state",
    "A machine that leaves gets no host any more, and on Ray 2.59 Serve's controller is told of "
    "it. Without it one that leaves with its host waits for its deadline.",
    "a machine that was to leave had not left within two minutes",
    _leaving_nodes,
)


def _drain_node() -> None:
    from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    require_names(InnerGcsClient, "drain_node")
    reasons = autoscaler_pb2.DrainNodeReason.keys()  # type: ignore[attr-defined]
    require("DRAIN_NODE_REASON_PREEMPTION" in reasons, f"reasons to drain are {list(reasons)}")


DRAIN_NODE: Final = Assumption(
    "GcsClient.drain_node",
    "`down` on a machine that joined has Serve move its replicas away first. Without it their "
    "calls are sent again, or lost where they may not be.",
    "",
    _drain_node,
)


def _head_store() -> None:
    from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]
    from ray.experimental import internal_kv

    require_arguments(internal_kv._internal_kv_put, "key", "value", overwrite=True)
    for called in (
        internal_kv._internal_kv_get,
        internal_kv._internal_kv_list,
        internal_kv._internal_kv_del,
    ):
        require_arguments(called, "key")
    require_names(InnerGcsClient, "internal_kv_get")


HEAD_STORE: Final = Assumption(
    "ray.experimental.internal_kv",
    "The head keeps the secrets, the facts for machines that join, and what the placement "
    "controller has to know after a restart. Without it no cluster serves.",
    "1.3 ms to put and 0.4 ms to get; an actor takes 0.65 s to make and 75 MB",
    _head_store,
)


def _prestart() -> None:
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    request = node_manager_pb2.PrestartWorkersRequest()  # type: ignore[attr-defined]
    request.language = common_pb2.Language.Value("PYTHON")  # type: ignore[attr-defined]
    request.num_workers = 1
    request.keep_alive_duration_secs = 1
    request.runtime_env_info.serialized_runtime_env = "{}"
    require_arguments(init_grpc_channel, "host:port")
    channel = init_grpc_channel("127.0.0.1:1")  # nothing is sent
    try:
        stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)  # type: ignore[no-untyped-call]
        require_names(stub, "PrestartWorkers")
    finally:
        channel.close()


PRESTART: Final = Assumption(
    "NodeManagerService.PrestartWorkers",
    "`WAKEFUL_SPARE_PROCESSES` starts processes ahead of replicas. Without it each replica starts "
    "its own.",
    "1.0 s of imports and the start of Python, for each replica",
    _prestart,
)


def _worker_script() -> None:
    from ray import JobID
    from ray._private.node import Node
    from ray._private.parameter import RayParams
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET
    from ray.actor import ActorClassID  # type: ignore[attr-defined]  # imported there

    require_arguments(RayParams, worker_path="a script")
    require_written(Node, "all_processes")
    require(PROCESS_TYPE_RAYLET == "raylet", f"the raylet is {PROCESS_TYPE_RAYLET}")
    require_names(ActorClassID, "size", "from_random")
    require_names(JobID, "nil")
    written = Path(worker_script()).read_text(encoding="utf-8")
    for text in ('"--worker-id"', 'if __name__ == "__main__":', "worker.main_loop()"):
        require(text in written, f"nothing in {worker_script()} says {text}")


WORKER_SCRIPT: Final = Assumption(
    "RayParams(worker_path=…)",
    "Workers are forked off a process that has imported what they need. Without it each imports "
    "Ray and Serve anew.",
    "",
    _worker_script,
)


def _start_command() -> None:
    import importlib

    module, verb, *flags = node_command(
        "a:1", num_cpus=1, object_store_bytes=1, node_ip="a", num_gpus=0
    )
    command = importlib.import_module(module).cli.commands[verb]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    missing = {flag.partition("=")[0] for flag in flags} - known
    require(not missing, f"`ray start` has no {', '.join(sorted(missing))}")


START_COMMAND: Final = Assumption(
    "ray start",
    "`join` adds this machine by it, without a log monitor and at no fixed port. Without it no "
    "machine joins.",
    "",
    _start_command,
)


def _titles() -> None:
    from ray._private import ray_constants, worker
    from ray.serve._private.common import DeploymentID
    from ray.serve._private.haproxy import HAProxyManager

    require(
        ray_constants.WORKER_PROCESS_TYPE_IDLE_WORKER.startswith(ACTOR_TITLE),
        f"titles begin with {ray_constants.WORKER_PROCESS_TYPE_IDLE_WORKER[:5]}",
    )
    require_written(worker, "setproctitle")
    classes = (
        DeploymentID("d", "a").to_replica_actor_class_name(),  # type: ignore[no-untyped-call]
        HAProxyManager.__ray_metadata__.class_name,  # type: ignore[attr-defined]
    )
    for kind, name in zip(classes, (REPLICA_PROCESS, MANAGER_PROCESS), strict=True):
        require(
            f"{ACTOR_TITLE}{kind}".startswith(name),
            f"the process of {kind} is not called {name}",
        )


TITLES: Final = Assumption(
    "titles of processes",
    "`down` suspends what starts HAProxy while it drains, and waits for the replicas of a machine "
    "that leaves. Without it calls in flight are cut.",
    "",
    _titles,
)

CORE: Final = (
    HEAD_PROCESSES,
    HEAD_RESOURCE,
    FREE_BY_NODE,
    LEAVING_NODES,
    DRAIN_NODE,
    HEAD_STORE,
    PRESTART,
    WORKER_SCRIPT,
    START_COMMAND,
    TITLES,
)
