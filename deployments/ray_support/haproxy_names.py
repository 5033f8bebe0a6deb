"""The names in the file that Ray Serve writes for HAProxy: no page of Ray's has them. Each release
that is supported writes them (``tests/deployments/ingress/haproxy/ray_files``); what reads the file
is ``deployments.ingress.haproxy.ray_config``. And the names of files of ours beside it.

Imports nothing of ours: HAProxy's program starts at each reload.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FRONTEND: Final = "http_frontend"
"""What clients reach by HTTP."""

GRPC_FRONTEND: Final = "grpc_frontend"
"""What clients reach by gRPC."""

METRICS: Final = "prometheus"
"""The frontend of HAProxy's exporter."""

STATISTICS: Final = "stats"
"""What shows HAProxy's own pages."""

NO_ROUTE: Final = "default_backend"
"""The backend of paths that are no application's."""

ACL_OF: Final = "is_"
"""Before a backend's name: the condition that a path is that application's."""

REPLICA_OF: Final = "SERVE_REPLICA_"
"""A server that is a replica is ``SERVE_REPLICA_<application>-<deployment>-<id>``. Any other is
Serve's proxy, a backup.
"""

ROUTER_OF: Final = "txn.ingress_request_router_app"
"""The variable with the application whose router of requests is asked for a replica, by Ray's
script.
"""

ASKS_ROUTER: Final = "acl has_ingress_request_router_app "
"""The line behind those that set it. Each rule that follows asks whether it is set."""

LACKS: Final = "haproxy.lacks"
"""A file in the state folder: why HAProxy does not run by our configuration, and which promises
that costs; absent while it does.
"""

KEYS_FAULT: Final = "keys.fault"
"""A file in the state folder: why the file of keys is not taken; absent while it is."""

INNER_SOCKET: Final = "i"
"""Of a HAProxy that ends TLS, in its folder: where this user's own processes reach it in the clear.
One character, since the path of a socket is short.
"""


def server_name(replica: str) -> str:
    """HAProxy's name for a replica, by Ray's full name; as ``HAProxyManager.get_safe_name``, whose
    module a replica does not import.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", replica.replace("#", "-").replace("/", "."))


def haproxy_folder(home: Path, node_id: str) -> Path:
    """Where the HAProxy of a machine has its files, below the state folder. Ray adds the machine's
    id to the paths of ``environment.local_variables``.
    """
    return home / "hap" / node_id
