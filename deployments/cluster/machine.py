"""What every machine of a cluster has, the head and those that join: the environment of its
processes, their ports, and the process that talks to its Ray.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from deployments.ray_support import ports
from deployments.ray_support.deadlines import hard_stop, proxy_patience
from deployments.ray_support.driver_client import DriverClient
from deployments.ray_support.environment import (
    SERVING,
    SidePorts,
    Variable,
    ingress_variables,
    local_variables,
    path_variables,
    search_path,
    shared_variables,
    to_mapping,
)
from deployments.ray_support.state_dir import ClusterState, StateDir, has_separate_ingress
from deployments.ray_support.workers.forked_process import fork_socket
from runtime.settings import Settings

OBJECT_STORE_BYTES: Final = 100 * 1024 * 1024
"""Requests do not pass through Ray's object store; its default is a third of the machine."""

START_S: Final = 60.0
"""Longest wait for Ray; it takes two seconds on two idle cores."""


def cluster_variables(up: ClusterState, home: StateDir) -> tuple[Variable, ...]:
    """The environment of every process of a cluster, and of processes that talk to it."""
    settings = Settings(root=Path(up.root), models=Path(up.models))
    http_host = up.host if has_separate_ingress(up) else ""
    side = (
        (
            *local_variables(
                home.path, up.ports, is_alone=not up.is_open, http_host=http_host, tls=up.tls
            ),
            hard_stop(up.hard_stop_s),
            # while its cluster ends it waits for calls, and for no idle connection
            proxy_patience(up.hard_stop_s - up.keep_alive_s),
        )
        if up.ports
        else shared_variables()
    )
    return (
        *SERVING,
        *ingress_variables(),
        *side,
        *path_variables(settings, Path(up.file) if up.file else None, search_path()),
    )


def open_driver(up: ClusterState, home: StateDir) -> DriverClient:
    """A process that talks to the Ray of a cluster, in the cluster's environment."""
    return DriverClient(
        variables=to_mapping(cluster_variables(up, home)),
        log=home.path / "driver.log",
        folder=up.root,
        ray_logs=None if up.kind == "joined" else home.logs,
        server=fork_socket(str(home.path / "ray")) if up.kind == "own" else None,
    )


def cpu_count(cpus_per_core: float) -> int:
    """The CPUs that Ray counts with on this machine."""
    return math.ceil((os.cpu_count() or 1) * cpus_per_core)


def side_ports(http: int) -> SidePorts:
    """Free ports for what listens besides HTTP; Ray's default numbers where they are free."""
    taken = {http}
    found = []
    for wanted in (8404, 9101, 8500, 9500):
        port = ports.find_free("0.0.0.0", wanted, but=frozenset(taken))
        taken.add(port)
        found.append(port)
    return SidePorts(*found)


def last_log_line(log: Path) -> str:
    """The last line that a process wrote."""
    lines = (
        log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if log.exists()
        else []
    )
    return lines[-1] if lines else "it left no message."
