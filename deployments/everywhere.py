"""A shared host on each machine: as many as there are machines, whoever joins or is lost.

Ray asks this policy at every tick of its controller, whose loop must not wait; so the machines are counted in a thread, each second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ray.serve.config import AutoscalingContext

from deployments.rayprivate import staying

LOOK_S: Final = 1.0
"""Age of a count that is made anew."""

MOST: Final = 1024
"""Hosts; Ray wants a number."""

log = logging.getLogger("ray.serve")


class Everywhere:
    """What ``autoscaling_config`` of the host names; made by Ray.

    Args:
        each: hosts on each machine.
        cpus: that a machine has to have in all, to get any.
        nodes: the machines, as ``ray.nodes`` describes them; may take its time, and may fail.

    Mutable state: the last count (``_machines``, 0 before the first), ``_looked_at`` and ``_thread`` of the last look.
    """

    def __init__(self, each: int, cpus: float, nodes: Callable[[], Sequence[Mapping[str, Any]]] = staying) -> None:
        self._each = each
        self._cpus = cpus
        self._nodes = nodes
        self._machines = 0
        self._looked_at = float("-inf")
        self._thread: threading.Thread | None = None

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Hosts from now on; nothing is kept by Ray."""
        if time.monotonic() - self._looked_at > LOOK_S and (self._thread is None or not self._thread.is_alive()):
            self._looked_at = time.monotonic()
            self._thread = threading.Thread(target=self._look, name="wakeful-machines", daemon=True)
            self._thread.start()
        return (self._machines * self._each or context.target_num_replicas), {}

    def _look(self) -> None:
        try:
            self._machines = machines(self._nodes(), self._cpus)
        except Exception:
            log.exception("Ray does not say which machines there are; hosts stay as they are.")


def machines(nodes: Sequence[Mapping[str, Any]], cpus: float) -> int:
    """Machines that live and have so many CPUs in all; at least one."""
    able = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0.0) >= cpus]
    return max(1, len(able))
