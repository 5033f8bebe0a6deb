"""Starts Ray's head on this machine, or asks one on another machine: in a process of its own,
``python -m deployments.cluster.head``, since a command does not import Ray.

    start OPTIONS ADDRESS_FILE   starts the head, writes its address to the file, and ends
    facts ADDRESS                prints what a machine has to know of a cluster before it joins

``up`` stores these facts in Ray's head: where HTTP is served, ``host`` and ``port``, and how long a
call may take, ``longest_s`` and ``hard_stop_s``. They are one line of JSON, an empty object where
nothing is deployed yet. The head is asked directly, since no Ray runs on the machine yet.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from deployments.cluster.machine import (
    OBJECT_STORE_BYTES,
    START_S,
    cluster_variables,
    cpu_count,
    last_log_line,
)
from deployments.ray_support import ports
from deployments.ray_support.driver_client import HeadOptions, RayError, spawn_process
from deployments.ray_support.environment import to_mapping
from deployments.ray_support.state_dir import ClusterState, StateDir

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


def run_process(verb: str, *arguments: str) -> None:
    """What this module does as a process of its own."""
    if verb == "facts":
        from deployments.ray_support.ray_internals import HeadStore  # it imports Ray

        print(HeadStore.ask(arguments[0], FACTS) or "{}")
        return
    from deployments.ray_support.workers.head_node import start_head  # likewise

    options, file = arguments
    draft = Path(f"{file}.new")  # the address is there whole or not at all
    draft.write_text(start_head(HeadOptions.decode(options)), encoding="utf-8")
    draft.replace(file)


if __name__ == "__main__":
    run_process(*sys.argv[1:])
