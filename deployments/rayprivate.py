"""Every private name of Ray that we use, each with the measurement that made us; beside each the public way, taken on another Ray.

Measured on Ray 2.60.0 and two cores; ``wakeful`` works without any of it, slower and larger.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import ray
from ray import serve

from deployments.headoptions import HeadOptions

MEASURED: Final = "2.60.0"
"""The only version whose private names we trust."""

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
        node_ip_address="127.0.0.1",
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
