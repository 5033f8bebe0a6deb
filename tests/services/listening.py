"""What the processes of a cluster listen on."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import psutil

from deployments.ray_support import processes


class Listener(NamedTuple):
    """A port that a process listens on, and at which address."""

    address: str
    port: int
    process: str

    @property
    def is_local(self) -> bool:
        """Whether this machine alone reaches it."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def listeners(home: Path) -> set[Listener]:
    """Those of all processes of a state folder's cluster, over TCP."""
    return listeners_of({one.pid for one in processes.cluster_processes(home)})


def listeners_of(pids: Collection[int]) -> set[Listener]:
    """Those of processes; none is seen of one that has ended."""
    found = set()
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.pid in pids:
            try:
                name = psutil.Process(connection.pid).name()
            except psutil.Error:
                continue
            found.add(Listener(connection.laddr.ip, connection.laddr.port, name))
    return found
