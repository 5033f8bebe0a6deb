"""Starts Ray's head on this machine, or asks one on another machine: in a process of its own,
``python -m deployments.cluster.head``, since a command does not import Ray.

    start OPTIONS ADDRESS_FILE   starts the head, writes its address to the file, and ends
    facts ADDRESS                prints what a machine has to know of a cluster before it joins

``up`` stores these facts in Ray's head: where HTTP is served, ``host`` and ``port``, and how long a
call may take, ``longest_s`` and ``hard_stop_s``. They are one line of JSON, an empty object where
nothing is deployed yet. The head is asked directly, since no Ray runs on the machine yet.

Also what both a head and a joined machine need: the environment of a cluster's processes, their
ports, and the last line of a log.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from deployments.ray_support import ports
from deployments.ray_support.driver_client import DriverClient, RayError, spawn_process
from deployments.ray_support.environment import (
    SERVING,
    HeadOptions,
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
from runtime.settings import Settings

OBJECT_STORE_BYTES: Final = 100 * 1024 * 1024
"""Requests do not pass through Ray's object store; its default is a third of the machine."""

START_S: Final = 60.0
"""Longest wait for Ray; it takes two seconds on two idle cores."""

GCS_PORT: Final = 6379

FACTS: Final = "wakeful-cluster"
"""The key of the facts in Ray's head."""


class Head:
    """Ray's head while it starts: it begins on construction; ``wait`` until it runs.

    Args:
        up: the cluster to start; its environment is the head's.
        num_gpus: None: those that Ray finds.
    """

    def __init__(
        self, home: StateDir, up: ClusterState, *, cpus_per_core: float, num_gpus: int | None
    ) -> None:
        self._log = home.path / "head.log"
        self._address = home.path / "address"
        self._up = up
        self._address.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        options = HeadOptions(
            temp_dir=str(home.path / "ray"),
            num_cpus=cpu_count(cpus_per_core),
            object_store_bytes=OBJECT_STORE_BYTES,
            port=ports.find_free(up.node_ip, GCS_PORT, but=frozenset({up.port})),
            num_gpus=num_gpus,
            node_ip=up.node_ip,
        )
        arguments = ["deployments.cluster.head", "start", options.encode(), str(self._address)]
        self._child = spawn_process(
            arguments,
            variables=to_mapping(cluster_variables(up, home)),
            log=self._log,
            folder=up.root,
            pipes=False,
        )

    def wait(self) -> ClusterState:
        """The cluster with its address; blocking, ``START_S`` at most.

        Raises:
            RayError: it did not start.
        """
        see = f"The whole of it is in {self._log}."
        try:
            if self._child.wait(START_S):
                raise RayError(f"Ray did not start: {last_log_line(self._log)} {see}")
        except subprocess.TimeoutExpired:
            raise RayError(f"Ray did not start within {START_S:.0f} s. {see}") from None
        return replace(self._up, address=self._address.read_text(encoding="utf-8"))


def cluster_variables(up: ClusterState, home: StateDir) -> tuple[Variable, ...]:
    """The environment of every process of a cluster, and of processes that talk to it."""
    settings = Settings(root=Path(up.root), models=Path(up.models))
    http_host = up.host if has_separate_ingress(up) else ""
    side = (
        local_variables(
            home.path,
            up.ports,
            is_alone=not up.is_open,
            hard_stop_s=up.hard_stop_s,
            http_host=http_host,
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


def run_process(verb: str, *arguments: str) -> None:
    """What this module does as a process of its own."""
    from deployments.ray_support.ray_internals import HeadStore, start_head  # these import Ray

    if verb == "facts":
        print(HeadStore.ask(arguments[0], FACTS) or "{}")
        return
    options, file = arguments
    draft = Path(f"{file}.new")  # the address is there whole or not at all
    draft.write_text(start_head(HeadOptions.decode(options)), encoding="utf-8")
    draft.replace(file)


if __name__ == "__main__":
    run_process(*sys.argv[1:])
