"""What the processes of a cluster listen on."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import psutil

from deployments.ray_support import processes
from tests.services.machines import Machine


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


_SEEN = re.compile(
    r"^LISTEN +\d+ +\d+ +(\S+):(\d+) +\S+(?: +users:\(\(\"([^\"]+)\")?", re.MULTILINE
)


def listeners_on(machine: Machine) -> set[Listener]:
    """Those of a whole machine."""
    said = subprocess.run(
        machine.inside("ss", "-ltnpH"), capture_output=True, text=True, check=True
    ).stdout
    return {
        Listener(
            "0.0.0.0" if address == "*" else address.strip("[]").partition("%")[0],
            int(port),
            process,
        )
        for address, port, process in _SEEN.findall(said)
    }
