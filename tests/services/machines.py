"""Several machines made of one, and Wakeful on them: `wakeful up --node-ip-address` on the first,
`wakeful join` on the others.

A machine is a set of Linux namespaces (``unshare``) with a network, processes, a host name, a
temporary folder and shared memory of its own; a virtual cable (veth) leads from it to a bridge that
the tests are at, too. The repository, its environment and the models are a shared folder. It takes
root and ``ip``; nothing is installed, and nothing stays.

A loss is a real one: ``unplug`` takes the cable away, so that nothing is heard of the machine any
more, not even that its connections are gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from deployments.ray_support.environment import inherited_variables
from loadtests import declare
from loadtests.server import Child, ChildFailed, poll, script

ROOT: Final = Path(__file__).parents[2]

TEMPORARY: Final = Path(tempfile.gettempdir())
"""Where each machine has a folder of its own."""

HOST_BITS: Final = 24
OURS: Final = 254
"""The number of the tests on the bridge."""

NAMESPACES: Final = ("--net", "--mount", "--pid", "--uts", "--ipc")
START_S: Final = 10.0

INIT: Final = (
    'for each in "${@:4}"; do mkdir -p "$1/${each#"$3"/}" && '
    'mount --bind "$each" "$1/${each#"$3"/}"; done; '
    'mount --rbind "$1" "$3" && mount -t tmpfs tmpfs /dev/shm && hostname "$2" && '
    'touch "$3/.booted" && '
    "while :; do sleep 3600 & wait $!; done"
)
"""The first process of a machine; as a shell it also buries the orphans of the others."""


def possible() -> str:
    """Why machines cannot be made here; empty when they can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid():
        return "it takes root to make network namespaces"
    if missing := [name for name in ("ip", "unshare", "nsenter") if not shutil.which(name)]:
        return f"{', '.join(missing)} is not installed"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of them.

    Attributes:
        name: also its host name.
        address: on the bridge.
        tmp: its temporary folder, as seen from here.
        cable: the end of it at the bridge.
        init: its first process, with which all others end.
        network: the name of its network namespace.
    """

    name: str
    address: str
    tmp: Path
    cable: str
    init: psutil.Process = field(repr=False)
    network: str = field(repr=False)

    def inside(self, *command: str) -> list[str]:
        """The command that runs a command there."""
        return ["nsenter", "--target", str(self.init.pid), *NAMESPACES, "--wd=.", *command]

    def start(self, *command: str, log: Path, environ: Mapping[str, str]) -> Child:
        """A command that goes on; its output goes to ``log``."""
        return Child(self.inside(*command), log, environ=environ)

    def run(
        self, *command: str, log: Path, environ: Mapping[str, str], timeout_s: float = 120.0
    ) -> None:
        """A command to its end.

        Raises:
            ChildFailed: its status is not 0, or it takes longer.
        """
        with self.start(*command, log=log, environ=environ) as child:
            if child.wait(timeout_s):
                raise child.failure("failed")

    def processes(self) -> list[psutil.Process]:
        """All that run there."""
        return [
            process for process in psutil.process_iter() if _network(process.pid) == self.network
        ]

    def unplug(self) -> None:
        """Nothing gets in or out any more, not even that it is so."""
        _ip("link", "set", self.cable, "down")

    def kill(self) -> None:
        """Everything there ends at once."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.init.kill()


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines on a bridge of their own, which go with all that runs on them.

    Raises:
        ChildFailed: they cannot be made.
    """
    if why := possible():
        raise ChildFailed(f"no machines here: {why}.")
    number = os.getpid() % 250
    bridge, network = f"wkbr{number}", f"10.77.{number}"
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="wakeful-machines-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{network}.{OURS}/{HOST_BITS}", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield [
            stack.enter_context(_machine(f"node{index}", f"{network}.{index}", bridge, folder))
            for index in range(1, count + 1)
        ]


@contextlib.contextmanager
def _machine(name: str, address: str, bridge: str, folder: Path) -> Iterator[Machine]:
    tmp, cable = folder / name, f"{bridge}-{address.rpartition('.')[2]}"
    tmp.mkdir(mode=0o1777)
    log = folder / f"{name}.log"
    command = [
        "unshare",
        *NAMESPACES,
        "--mount-proc",
        "--fork",
        "--kill-child",
        "bash",
        "-c",
        INIT,
        "init",
        str(tmp),
        name,
        str(TEMPORARY),
        *_shared(),
    ]
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(Child(command, log))
        for _ in poll(START_S):
            if (tmp / ".booted").exists():
                break
            if not parent.is_running:
                raise parent.failure("ended")
        init = psutil.Process(parent.process.pid).children()[0]
        machine = Machine(name, address, tmp, cable, init, _network(init.pid))
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid))
        stack.callback(_cut, cable)
        _ip("link", "set", cable, "master", bridge, "up")
        addressed = ("addr", "add", f"{address}/{HOST_BITS}", "dev", "eth0")
        for arguments in (addressed, ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):
            machine.run("ip", *arguments, log=log, environ={"PATH": os.environ["PATH"]})
        stack.callback(_end, machine)
        yield machine


def _shared() -> list[str]:
    """What a machine would not see under a temporary folder of its own, were it cloned or installed
    there.
    """
    return [
        str(path)
        for path in dict.fromkeys((ROOT, Path(sys.prefix)))
        if path.is_relative_to(TEMPORARY)
    ]


def _cut(cable: str) -> None:
    """A cable goes with its machine's namespace, some time after the last process there."""
    with contextlib.suppress(ChildFailed):
        _ip("link", "del", cable)


def _end(machine: Machine) -> None:
    machine.kill()
    until = time.monotonic() + START_S
    while time.monotonic() < until and machine.processes():
        time.sleep(0.05)


def _network(pid: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    return ""


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


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
        machine.run(
            script("wakeful"), *arguments, log=self.log, environ=self.environ, timeout_s=timeout_s
        )

    def up(self, file: Path, *more: str, is_insecure: bool = True) -> None:
        """`wakeful up`, or again with another file.

        Args:
            is_insecure: no keys are asked for.
        """
        self.wakeful(
            self.head,
            "up",
            "--detach",
            str(file),
            "--host",
            "0.0.0.0",
            *(("--insecure",) if is_insecure else ()),
            "--node-ip-address",
            self.head.address,
            *more,
        )

    def join(self, machine: Machine) -> None:
        """`wakeful join`, with the head's token."""
        shutil.copyfile(home(self.head) / "token", machine.tmp / TOKEN)
        token = ("--token-file", str(TEMPORARY / TOKEN))
        arguments = (
            f"{self.head.address}:{RAY_PORT}",
            *token,
            "--node-ip-address",
            machine.address,
            "--detach",
        )
        self.wakeful(machine, "join", *arguments, "--lock", "none")

    def get(self, machine: Machine, path: str = "/") -> Any:
        """What a machine's HAProxy answers, decoded; None where it does not answer 200."""
        try:
            answer = httpx.get(f"http://{machine.address}:{PORT}{path}", timeout=5.0)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def post(
        self, machine: Machine, name: str, body: Mapping[str, Any], **headers: str
    ) -> httpx.Response:
        """One call through a machine's HAProxy."""
        return httpx.post(
            f"http://{machine.address}:{PORT}/v2/models/{name}",
            json=body,
            headers=headers,
            timeout=60.0,
        )

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
        raise ChildFailed(
            f"{len(hosts)} hosts where {count} were expected, after {READY_S:g} s: {hosts}"
        )

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
def fleet(
    count: int,
    file: Path,
    log: Path,
    settings: Mapping[str, str] | None = None,
    keep: Path | None = None,
) -> Iterator[Fleet]:
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
    environ = inherited_variables(own)
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
                    shutil.copytree(
                        home(machine),
                        keep / machine.name,  # type: ignore[operator]
                        symlinks=True,
                        dirs_exist_ok=True,
                        ignore=_sockets,
                    )


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()
    ]


SLEEPERS: Final = 12
DEADLINE_S: Final = 20.0


def declared(replicas: int) -> list[declare.Application]:
    """`work` with so many replicas of its own, if any, and functions in the shared hosts."""
    names = {"work": replicas} if replicas else {}
    names |= {sleeper(number): 0 for number in range(SLEEPERS)}
    return [
        declare.function(
            name,
            [{"stage": "work", "python": "loadtests.stages:Work"}],
            batching={"max_batch_size": 1},
            resources={"num_cpus": 4 if count else 1},
            autoscaling={"min_replicas": count, "max_replicas": max(1, count)},
            limits={"request_timeout_s": DEADLINE_S},
            example={"key": "example", "ms": 0.0, "padding": ""},
        )
        for name, count in names.items()
    ]


def sleeper(number: int) -> str:
    """The name of one that sleeps."""
    return f"rare{number % SLEEPERS}"
