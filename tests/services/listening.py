"""What the processes of a cluster listen on."""

from __future__ import annotations

import contextlib
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
    for pid in pids:  # of these alone: a look at every process of a busy machine takes minutes
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found |= {
                Listener(one.laddr.ip, one.laddr.port, process.name())
                for one in process.net_connections("tcp")
                if one.status == psutil.CONN_LISTEN
            }
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
