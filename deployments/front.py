"""Where a process of the cluster finds HAProxy: on its own machine, or on one that has it."""

from __future__ import annotations

from typing import Any, Final

import ray
from ray import serve

from deployments.rayprivate import http_address

ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})
"""Who listens so is heard on the loopback."""


def front() -> tuple[str, int]:
    """Host and port; blocking, since it asks the controller."""
    host, port = http_address()
    me = ray.get_runtime_context().get_node_id()
    return nearest(host, set(serve.status().proxies), me, ray.nodes()), port  # type: ignore[no-untyped-call]


def nearest(host: str, proxies: set[str], me: str, nodes: list[dict[str, Any]]) -> str:
    """The host to connect to.

    Args:
        host: that HAProxy listens on, on each machine that has one.
        proxies: ids of those machines.
        me: the id of this one.
        nodes: as ``ray.nodes`` describes them.
    """
    if host not in ANYWHERE:
        return host
    there = sorted(node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["NodeID"] in proxies)
    return "127.0.0.1" if me in proxies or not there else str(there[0])
