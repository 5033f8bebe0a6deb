"""The names in the file that Ray Serve writes for HAProxy: no page of Ray's has them. Each release
that is supported writes them (``tests/deployments/ingress/haproxy/ray_files``); what reads the file
is ``deployments.ingress.haproxy.ray_config``.
"""

from __future__ import annotations

import re
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


def server_name(replica: str) -> str:
    """HAProxy's name for a replica, by Ray's full name; as ``HAProxyManager.get_safe_name``, whose
    module a replica does not import.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", replica.replace("#", "-").replace("/", "."))
