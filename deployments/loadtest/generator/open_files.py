"""Files that a process may have open: each connection is one."""

from __future__ import annotations

import resource
from typing import Final

CONNECTIONS: Final = 1000
"""Of a process at once, where none are given and as many files may be open."""

SPARE: Final = 64
"""Files that a process that sends has open beside its connections."""


def most_connections() -> int:
    """Connections that a process of this user may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if most == resource.RLIM_INFINITY else max(most - SPARE, 1)


def allow_files() -> None:
    """Let this process open as many as it may ever; what a shell allows at first is often 1,024."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
