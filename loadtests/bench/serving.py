"""Wakeful as a user starts it: `wakeful up` on Ray, `wakeful run` in one process; both ended, whatever happens in between."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil

from deployments.home import Home
from deployments.rayenv import inherited
from loadtests.bench import memory
from loadtests.bench.children import Child, ChildFailed, end, poll, script

HOST = "127.0.0.1"
START_S = 120.0
"""How long the first answer may take before the run is given up."""
WAKEFUL = (script("wakeful"),)
NOTHING: Mapping[str, str] = MappingProxyType({})
DOWN_S = 90.0
"""How long `wakeful down` may take: it drains first."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Wakeful that answers.

    Attributes:
        port: its HTTP port on loopback.
        first_answer_s: from the start of the command to the first answer of status 200.
        environ: the environment it was started with; other commands about it need the same.
        run: the id its processes carry.
    """

    port: int
    first_answer_s: float
    environ: Mapping[str, str]
    run: str

    def url(self, path: str) -> str:
        """The full URL of a path."""
        return f"http://{HOST}:{self.port}{path}"

    def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        """One request outside the timed part."""
        return httpx.post(self.url(path), json=body, timeout=30.0)

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to it."""
        return memory.cluster_processes(self.run)


@dataclass(frozen=True, slots=True)
class FirstCall:
    """The call whose answer ends a start."""

    path: str
    body: Mapping[str, object]


@contextlib.contextmanager
def up(
    config: Path, port: int, first: FirstCall, log: Path, wakeful: Sequence[str] = WAKEFUL, environ: Mapping[str, str] = NOTHING
) -> Iterator[Server]:
    """`wakeful up --detach`, then `wakeful down`; what survives that is ended by id.

    Raises:
        ChildFailed: a cluster is up already, the port is taken, `up` or `down` failed, no answer in time, or `down` left processes behind.
    """
    refuse_if_up(Home())
    run, environ = marked(port, environ)
    with Child([*wakeful, "up", "--detach", str(config)], log, environ=environ) as command:
        try:
            seconds = first_answer(command, port, first)
            if command.wait(START_S):
                raise command.failure("failed")
            yield Server(port, seconds, environ, run)
        finally:
            command.close()
            down(wakeful, environ, run, log)


def down(wakeful: Sequence[str], environ: Mapping[str, str], run: str, log: Path) -> None:
    """Stops the cluster, and whatever did not stop with it.

    Raises:
        ChildFailed: `wakeful down` failed or left processes, which are ended now.
    """
    started = time.perf_counter()
    try:
        with Child([*wakeful, "down"], log, environ=environ) as command:
            if command.wait(DOWN_S):
                raise command.failure("failed")
            left = remaining(run)
            if left:
                passed = time.perf_counter() - started
                raise command.failure(f"left after {passed:.1f} s: {', '.join(f'{p.pid} {p.name()}' for p in left)}")
    finally:
        end(memory.cluster_processes(run))


def remaining(run: str) -> list[psutil.Process]:
    """The processes of a run that are still there after a moment in which the last may end."""
    left: list[psutil.Process] = []
    for _ in poll(2.0, every_s=0.1):
        left = [process for process in memory.cluster_processes(run) if process.is_running()]
        if not left:
            break
    return left


@contextlib.contextmanager
def local(
    config: Path, port: int, first: FirstCall, log: Path, wakeful: Sequence[str] = WAKEFUL, environ: Mapping[str, str] = NOTHING
) -> Iterator[Server]:
    """`wakeful run`: every function in one process, no Ray.

    Raises:
        ChildFailed: the port is taken, it failed, or there is no answer in time.
    """
    run, environ = marked(port, environ)
    with Child([*wakeful, "run", str(config)], log, environ=environ) as command:
        try:
            yield Server(port, first_answer(command, port, first, stays=True), environ, run)
        finally:
            command.close()
            end(memory.cluster_processes(run))


def marked(port: int, environ: Mapping[str, str] = NOTHING) -> tuple[str, dict[str, str]]:
    """A run's id, and the environment that carries it, the port and more.

    Raises:
        ChildFailed: somebody else answers on the port.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ChildFailed(f"{HOST}:{port} is in use. Stop what serves there (`wakeful down`), or choose another with --port.")
    run = uuid.uuid4().hex
    return run, inherited({**environ, "WAKEFUL_PORT": str(port), memory.MARK: run})


def refuse_if_up(home: Home) -> None:
    """A cluster of the user's must not be measured, and not be taken down: there is one at a time.

    Raises:
        ChildFailed: one is up.
    """
    if (cluster := home.load()) is not None:
        raise ChildFailed(f"Wakeful is up already, at {cluster.url}. Take it down first: wakeful down.")


def first_answer(command: Child, port: int, first: FirstCall, *, stays: bool = False) -> float:
    """Seconds from the start of a command to the first answer of status 200.

    Args:
        stays: the command serves itself, so its end is a failure; otherwise only a failed end is.
    """
    last = "no connection"
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=30.0) as client:
        for _ in poll(START_S):
            try:
                answer = client.post(first.path, json=first.body)
            except httpx.TransportError as error:
                last = type(error).__name__
            else:
                if answer.status_code == 200:
                    return time.perf_counter() - command.started
                last = f"{answer.status_code} {answer.text[:200]}"
            if not command.is_running and (stays or command.wait(0)):
                raise command.failure("ended before the first answer")
    raise command.failure(f"no answer after {START_S:g} s, last: {last}")


def free_port() -> int:
    """A port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
