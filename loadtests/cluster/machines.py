"""Several machines made of one: each has a network, a process tree, a host name, a temporary folder and shared memory of its own.

A machine is a set of Linux namespaces (``unshare``), a virtual cable (veth) leads from it to a bridge, and we sit at the bridge, too. What
the machines share is the rest of the file system: the repository, its environment and the models are a shared folder. Needs root and
``ip``; nothing is installed, and nothing is left.

A loss is a real one: ``unplug`` takes the cable away, so nobody hears from the machine any more, not even that its connections are gone;
``kill`` ends all of its processes at once, and its kernel, which is ours, still says so to its peers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from loadtests.bench.children import Child, ChildFailed, poll

ROOT: Final = Path(__file__).parent.parent.parent

TEMPORARY: Final = Path(tempfile.gettempdir())
"""Where each machine has a folder of its own."""

HOST_BITS: Final = 24
OURS: Final = 254
"""Our own number on the bridge."""

NAMESPACES: Final = ("--net", "--mount", "--pid", "--uts", "--ipc")
START_S: Final = 10.0

INIT: Final = (
    'for each in "${@:4}"; do mkdir -p "$1/${each#"$3"/}" && mount --bind "$each" "$1/${each#"$3"/}"; done; '
    'mount --rbind "$1" "$3" && mount -t tmpfs tmpfs /dev/shm && hostname "$2" && touch "$3/.booted" && '
    "while :; do sleep 3600 & wait $!; done"
)
"""The first process of a machine; as a shell it also buries the orphans of the others."""


def possible() -> str:
    """Why machines cannot be made here; empty when they can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid():
        return "it takes root to make network namespaces"
    if missing := [name for name in ("ip", "unshare", "nsenter") if not shutil.which(name)]:
        return f"{', '.join(missing)} is not installed"
    tried = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of them.

    Attributes:
        name: also its host name.
        address: on the bridge.
        tmp: its temporary folder, as seen from here.
        cable: our end of it.
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

    def run(self, *command: str, log: Path, environ: Mapping[str, str], timeout_s: float = 120.0) -> None:
        """A command to its end.

        Raises:
            ChildFailed: its status is not 0, or it takes longer.
        """
        with self.start(*command, log=log, environ=environ) as child:
            if child.wait(timeout_s):
                raise child.failure("failed")

    def processes(self) -> list[psutil.Process]:
        """All that run there."""
        return [process for process in psutil.process_iter() if _network(process.pid) == self.network]

    def unplug(self) -> None:
        """Nothing gets in or out any more; those who wait for it are not told."""
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
        yield [stack.enter_context(_machine(f"node{index}", f"{network}.{index}", bridge, folder)) for index in range(1, count + 1)]


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
        init = psutil.Process(parent.pid).children()[0]
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
    """What a machine would not see under a temporary folder of its own, were it cloned or installed there."""
    return [str(path) for path in dict.fromkeys((ROOT, Path(sys.prefix))) if path.is_relative_to(TEMPORARY)]


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


def output(machine: Machine, command: Sequence[str], environ: Mapping[str, str]) -> str:
    """What a command there prints."""
    return subprocess.run(machine.inside(*command), capture_output=True, text=True, check=True, env=dict(environ), timeout=60).stdout
