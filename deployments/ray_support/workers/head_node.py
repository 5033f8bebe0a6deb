"""Ray's head on this machine, with what its workers are forked off. Serve is not imported: that is
a second of a core, while all wait for the head.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.ray_support import assumptions
from deployments.ray_support.assumptions import versions
from deployments.ray_support.assumptions.core import WORKER_SCRIPT
from deployments.ray_support.driver_client import HeadOptions
from deployments.ray_support.workers import fork_request, fork_server, start_worker
from deployments.ray_support.workers.forked_process import can_fork, fork_socket

logger = logging.getLogger("wakeful.ray")


def start_head(options: HeadOptions) -> str:
    """Starts Ray's processes on this machine; they stay when this process ends.

    This is ``ray start`` without two processes that Wakeful does not use, and without the second
    import of Ray. Measured: 1.4 to 1.9 s and 285 MB of RSS against 3.2 s and 499 MB; the two
    are the dashboard's server, which runs even with ``--include-dashboard=false`` (121 MB), and the
    server of Ray's client protocol (93 MB), which no option leaves out.

    Its workers are forked, where this Ray lets another script start them (``fork_server``).

    Returns:
        the address to connect to.

    Raises:
        ImportError: this Ray is too old.
    """
    environment = dict(os.environ)  # to which an import of Ray adds
    import ray
    from ray._private.node import Node
    from ray._private.parameter import RayParams
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    if why := versions.refusal(ray.__version__):
        raise ImportError(why)

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
    forks = fork_socket(options.temp_dir)
    forks_workers = can_fork() and assumptions.is_kept(WORKER_SCRIPT)
    if forks_workers:
        params.worker_path = start_worker.__file__
        os.environ[start_worker.ADDRESS] = str(forks)
    try:
        node = Head(params, head=True, shutdown_at_exit=False, spawn_reaper=False)
    except Exception as error:
        error.add_note(versions.hint(ray.__version__))  # the last line of the log, which is shown
        raise
    if forks_workers:
        raylet = node.all_processes[PROCESS_TYPE_RAYLET][0].process
        variables = {fork_request.RAYLET: str(raylet.pid), fork_request.JOB: ray.JobID.nil().hex()}
        start_forks(forks, {**environment, **variables})
    return str(node.address)


def start_forks(forks: Path, environment: Mapping[str, str]) -> None:
    """Starts what workers are forked off, at this socket. Where that cannot be (the disk is full),
    they start by themselves.
    """
    try:
        fork_server.start(forks, environment, forks.with_name("forks.log"))
    except OSError as error:
        logger.warning("workers start by themselves, and none is forked: %s", error)
