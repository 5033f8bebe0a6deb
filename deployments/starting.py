"""Ray's head on this machine: started by a process of its own, since this one does not import Ray."""

from __future__ import annotations

import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

from deployments import ports
from deployments.children import RayError, spawn
from deployments.headoptions import HeadOptions
from deployments.home import Home, Up
from deployments.rayenv import SERVING, SidePorts, Variable, ingress, local, mapping, paths, search_path, shared
from runtime.settings import Settings

OBJECT_STORE_BYTES: Final = 100 * 1024 * 1024
"""Requests do not pass through Ray's object store; its default is a third of the machine."""

START_S: Final = 60.0
"""Longest wait for Ray; it takes two seconds on two idle cores."""

GCS_PORT: Final = 6379


class Head:
    """The start of Ray's head, under way from here on; ``wait`` for it.

    Args:
        up: as it is to be; its environment is the head's.
        num_gpus: None lets Ray count.
    """

    def __init__(self, home: Home, up: Up, *, cpus_per_core: float, num_gpus: int | None) -> None:
        self._log = home.path / "head.log"
        self._address = home.path / "address"
        self._up = up
        self._address.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        options = HeadOptions(
            temp_dir=str(home.path / "ray"),
            num_cpus=logical_cpus(cpus_per_core),
            object_store_bytes=OBJECT_STORE_BYTES,
            port=ports.free(up.node_ip, GCS_PORT, but=frozenset({up.port})),
            num_gpus=num_gpus,
            node_ip=up.node_ip,
        )
        arguments = ["deployments.head", options.encode(), str(self._address)]
        self._child = spawn(arguments, variables=mapping(variables(up, home)), log=self._log, folder=up.root, pipes=False)

    def wait(self) -> Up:
        """With the address.

        Raises:
            RayError: it did not start.
        """
        see = f"The whole of it is in {self._log}."
        try:
            if self._child.wait(START_S):
                raise RayError(f"Ray did not start: {last_line(self._log)} {see}")
        except subprocess.TimeoutExpired:
            raise RayError(f"Ray did not start within {START_S:.0f} s. {see}") from None
        return replace(self._up, address=self._address.read_text(encoding="utf-8"))


def variables(up: Up, home: Home) -> tuple[Variable, ...]:
    """The environment of every process of a cluster, and of those who talk to it."""
    settings = Settings(root=Path(up.root), models=Path(up.models))
    side = local(home.path, up.ports, is_alone=not up.is_open) if up.ports else shared()
    return (*SERVING, *ingress(), *side, *paths(settings, Path(up.file) if up.file else None, search_path()))


def logical_cpus(cpus_per_core: float) -> int:
    """CPUs that Ray is to believe in on this machine."""
    return math.ceil((os.cpu_count() or 1) * cpus_per_core)


def side_ports(http: int) -> SidePorts:
    """Free ports for what listens beside HTTP; Ray's own numbers where they are free."""
    taken = {http}
    found = []
    for wanted in (8404, 9101, 8500, 9500):
        port = ports.free("0.0.0.0", wanted, but=frozenset(taken))
        taken.add(port)
        found.append(port)
    return SidePorts(*found)


def last_line(log: Path) -> str:
    """The last that a process wrote."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it left no message."
