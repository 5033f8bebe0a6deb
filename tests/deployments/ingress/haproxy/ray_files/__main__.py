"""Writes the files that the installed Ray would give HAProxy, a folder for each minor release of
Ray: ``python -m tests.deployments.ingress.haproxy.ray_files``, in an environment with that Ray.

They are made by Ray's own manager of HAProxy from what it knows of a cluster; no HAProxy is
started. The files of a release are kept, since tests run with one release at a time. Another folder
than this one may be named.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployments.ray_support.environment import SERVING, to_mapping

os.environ.update(to_mapping(SERVING))  # Serve reads them when it is imported

import ray
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import (
    BackendConfig,
    HAProxyApi,
    HAProxyConfig,
    ServerConfig,
)
from ray.serve.config import HTTPOptions, gRPCOptions

from tests.deployments.ingress.haproxy.ray_files import FOLDER, HERE

PROXY = ServerConfig("SERVE_PROXY_ACTOR-a1", "127.0.0.1", 8500)
FAR = "10.0.0.2"


@dataclass(frozen=True)
class Case:
    """What Ray knows of a cluster.

    Attributes:
        backends: its applications.
        options: of ``HAProxyConfig``.
        grpc_proxy: Serve's proxy for gRPC.
    """

    backends: tuple[BackendConfig, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    grpc_proxy: ServerConfig | None = None


def application(
    name: str, prefix: str, deployment: str, *replicas: tuple[str, str, int], **more: Any
) -> BackendConfig:
    """An application with so many replicas: the name, host and port of each."""
    servers = [
        ServerConfig(
            f"SERVE_REPLICA_{name}-{deployment}-{one}", host, port, f"{name}#{deployment}#{one}"
        )
        for one, host, port in replicas
    ]
    known: dict[str, Any] = {
        "fallback_server": PROXY,
        "ingress_deployment_name": deployment,
        **more,
    }
    return BackendConfig(
        name=f"http-{name}", path_prefix=prefix, app_name=name, servers=servers, **known
    )


SHOP = (
    application("catalogue", "/", "WakefulCatalogue", ("c1", "127.0.0.1", 30001)),
    application("host", "/v2/models", "WakefulHost", ("h1", "127.0.0.1", 30002)),
    application(
        "embed",
        "/v2/models/embed",
        "WakefulFunction",
        ("e1", "127.0.0.1", 30003),
        ("e2", FAR, 30004),
    ),
    application("pay", "/v2/models/pay", "WakefulOnce", ("p1", "127.0.0.1", 30005)),
    application("sleeps", "/v2/models/sleeps", "WakefulFunction"),
    application("other", "/other", "Shop", ("o1", "127.0.0.1", 30006)),
)
ROUTED = application(
    "chat",
    "/chat",
    "Chat",
    ("t1", "127.0.0.1", 30007),
    ingress_request_router_servers=[ServerConfig("router-1", "127.0.0.1", 30008)],
)
GRPC = tuple(
    replace(one, name=one.name.replace("http-", "grpc-"), protocol=RequestProtocol.GRPC)
    for one in SHOP[2:4]
)
ROUTES = (("has_received_routes", True), ("has_received_servers", True), ("is_head", True))
PUBLIC = ("http_options", HTTPOptions(host="0.0.0.0", port=8123, keep_alive_timeout_s=7))

CASES = {
    "before_routes": Case(),
    "shop": Case(SHOP, ROUTES),
    "draining": Case(SHOP, (*ROUTES, ("pass_health_checks", False))),
    "public": Case(
        SHOP,
        (
            *ROUTES,
            PUBLIC,
            ("metrics_enabled", True),
            ("enable_hap_optimization", False),
            ("observe_mark_down_enabled", False),
            ("log_target", "/dev/log"),
            ("timeout_queue_s", 9),
            ("health_check_fastinter", "250ms"),
            ("retries", None),
        ),
    ),
    "grpc": Case(
        (*SHOP, *GRPC),
        (
            *ROUTES,
            ("grpc_options", gRPCOptions(port=9123, grpc_servicer_functions=["a.b"])),
        ),
        PROXY,
    ),
    "router": Case((*SHOP, ROUTED), ROUTES),
    "below_a_root": Case(
        SHOP, (*ROUTES, ("http_options", HTTPOptions(port=8123, root_path="/serve")))
    ),
}


def write(case: Case, folder: Path) -> str:
    """What Ray writes with its files in a folder, as if that were ``FOLDER``."""
    options: dict[str, Any] = {
        "http_options": HTTPOptions(host="127.0.0.1", port=8123),
        "socket_path": str(folder / "s"),
        "server_state_base": str(folder),
        "server_state_file": str(folder / "server-state"),
        "metrics_socket_path": str(folder / "metrics.sock"),
        **dict(case.options),
    }
    api = HAProxyApi(
        HAProxyConfig(**options),
        {one.name: one for one in case.backends},
        config_file_path=str(folder / "haproxy.cfg"),
    )
    api.set_grpc_fallback_server(case.grpc_proxy)
    api._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text().replace(str(folder), FOLDER)


def files() -> Iterator[tuple[str, str]]:
    """Name and text of each case."""
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            yield name, write(case, Path(folder))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    target /= "_".join(["ray", *ray.__version__.split(".")[:2]])
    target.mkdir(parents=True, exist_ok=True)
    for name, text in files():
        (target / f"{name}.cfg").write_text(text)
