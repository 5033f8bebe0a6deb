"""Wakeful on several machines, as a user starts it: `wakeful up --node-ip-address` on the first, `wakeful join` on the others."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from deployments.rayenv import inherited
from loadtests.bench.children import ChildFailed, poll, script
from loadtests.cluster.machines import TEMPORARY, Machine, machines

PORT: Final = 8000
RAY_PORT: Final = 6379
UP_S: Final = 120.0
READY_S: Final = 60.0
HOME: Final = f"wakeful-{os.getuid()}"
"""The state folder of each machine, in its temporary folder."""

TOKEN: Final = "token"
"""The head's, there."""


@dataclass
class Fleet:
    """Machines of one cluster.

    Attributes:
        head: the machine on which `up` ran.
        others: those that joined.
        environ: of every command.
        log: what the commands say.
    """

    head: Machine
    others: list[Machine]
    environ: Mapping[str, str] = field(repr=False)
    log: Path = field(repr=False)

    @property
    def machines(self) -> list[Machine]:
        """All of them."""
        return [self.head, *self.others]

    def wakeful(self, machine: Machine, *arguments: str, timeout_s: float = UP_S) -> None:
        """A command on a machine.

        Raises:
            ChildFailed: its status is not 0.
        """
        machine.run(script("wakeful"), *arguments, log=self.log, environ=self.environ, timeout_s=timeout_s)

    def up(self, file: Path, *more: str) -> None:
        """`wakeful up`, or again with another file."""
        self.wakeful(self.head, "up", "--detach", str(file), "--host", "0.0.0.0", "--node-ip-address", self.head.address, *more)

    def join(self, machine: Machine) -> None:
        """`wakeful join`, with the head's token."""
        shutil.copyfile(home(self.head) / "token", machine.tmp / TOKEN)
        token = ("--token-file", str(TEMPORARY / TOKEN))
        arguments = (f"{self.head.address}:{RAY_PORT}", *token, "--node-ip-address", machine.address, "--detach")
        self.wakeful(machine, "join", *arguments, "--lock", "none")

    def get(self, machine: Machine, path: str = "/") -> Any:
        """What a machine's HAProxy answers, decoded; None where it does not answer 200."""
        try:
            answer = httpx.get(f"http://{machine.address}:{PORT}{path}", timeout=5.0)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def post(self, machine: Machine, name: str, body: Mapping[str, Any], **headers: str) -> httpx.Response:
        """One call through a machine's HAProxy."""
        return httpx.post(f"http://{machine.address}:{PORT}/v2/models/{name}", json=body, headers=headers, timeout=60.0)

    def hosts(self, name: str) -> list[dict[str, Any]]:
        """The hosts that the catalogue knows to live, asked about any function."""
        found = self.get(self.head, f"/functions/{name}")
        return list(found["hosts"]) if found else []

    def wait_for_hosts(self, name: str, count: int) -> float:
        """Seconds until so many hosts know each other and every machine of them answers.

        Raises:
            ChildFailed: not in time.
        """
        hosts: list[dict[str, Any]] = []
        for passed in poll(READY_S, every_s=0.2):
            hosts = self.hosts(name)
            if len(hosts) == count and all(host["peers"] == count for host in hosts):
                return passed
        raise ChildFailed(f"{len(hosts)} hosts where {count} were expected, after {READY_S:g} s: {hosts}")

    def wait_for_http(self, machine: Machine) -> float:
        """Seconds until a machine's HAProxy answers.

        Raises:
            ChildFailed: not in time.
        """
        for passed in poll(READY_S, every_s=0.1):
            if self.get(machine) is not None:
                return passed
        raise ChildFailed(f"{machine.name} does not answer after {READY_S:g} s.")


def home(machine: Machine) -> Path:
    """A machine's state folder, as seen from here."""
    return machine.tmp / HOME


@contextlib.contextmanager
def fleet(count: int, file: Path, log: Path, settings: Mapping[str, str] | None = None, keep: Path | None = None) -> Iterator[Fleet]:
    """So many machines that serve a file, each with a host; all of it ends with the machines.

    Args:
        file: to serve; not in the temporary folder, which is another one on each machine.
        settings: environment variables of all commands.
        keep: folder for the logs of Ray and the machines' state folders.

    Raises:
        ChildFailed: a machine or a command failed.
    """
    own = {
        "TMPDIR": str(TEMPORARY),
        "WAKEFUL_ROOT": str(Path.cwd()),
        "WAKEFUL_PORT": str(PORT),
        "PYTHONPATH": str(Path.cwd()),
        **(settings or {}),
    }
    environ = inherited(own)
    with machines(count) as made:
        head, *others = made
        served = Fleet(head, others, environ, log)
        try:
            served.up(file)
            with ThreadPoolExecutor(max(1, len(others))) as pool:
                list(pool.map(served.join, others))
            yield served
        finally:
            for machine in made if keep is not None else ():
                if home(machine).exists():
                    shutil.copytree(home(machine), keep / machine.name, symlinks=True, dirs_exist_ok=True, ignore=_sockets)  # type: ignore[operator]


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]
