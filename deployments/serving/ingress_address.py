"""Where a process of a cluster finds the HAProxy that is nearest to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ray

from deployments.ray_support.environment import MARK, TLS_FILES
from deployments.ray_support.haproxy_names import INNER_SOCKET, haproxy_folder
from deployments.ray_support.ray_internals import http_address, serve_details
from runtime.http.client import Address

ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::", ""})
"""A server that listens there is reached at the loopback address."""


def ingress_address(environ: Mapping[str, str] = os.environ) -> Address:
    """Return where the nearest HAProxy listens; blocks, since it asks Serve's controller. With TLS
    it is the socket of this machine's, which each has then: functions have no certificate.
    """
    node_id = ray.get_runtime_context().get_node_id()
    if environ.get(TLS_FILES):
        return str(haproxy_folder(Path(environ[MARK]), node_id) / INNER_SOCKET)
    host, port = http_address()
    proxies = set(serve_details().get("proxies", {}))
    return pick_ingress(host, proxies, node_id, ray.nodes()), port  # type: ignore[no-untyped-call]


def pick_ingress(host: str, proxies: set[str], node_id: str, nodes: list[dict[str, Any]]) -> str:
    """Return the host to connect to.

    Args:
        host: where HAProxy listens, on each machine that has one.
        proxies: ids of those machines.
        node_id: of this machine.
        nodes: as ``ray.nodes`` describes them.
    """
    if host not in ANY_ADDRESS:
        return host
    addresses = sorted(
        node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["NodeID"] in proxies
    )
    return "127.0.0.1" if node_id in proxies or not addresses else str(addresses[0])
