"""This machine as one more of a cluster that was started elsewhere: it joins, and leaves again.

Ray's public command starts the node, with the environment that every machine of a cluster needs. What the cluster runs comes to the
machine by itself: Ray Serve starts a HAProxy and a shared host on it, and replicas where there is room.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from deployments import draining, processes
from deployments.children import Driver, RayError, spawn
from deployments.home import Home, Up
from deployments.rayenv import inherited, mapping
from deployments.sameness import Unlike, advice
from deployments.starting import OBJECT_STORE_BYTES, START_S, last_line, logical_cpus, side_ports, variables
from runtime.settings import Settings

RAY: Final = "ray.scripts.scripts"
"""Ray's command."""

ASK_S: Final = 20.0
"""Longest wait for the head's answer."""

REPLICA: Final = "ray::ServeRepli"  # a process' name may be cut there

LEAVE_S: Final = 60.0
"""Longest wait for the others to take over; calls that are not answered here by then are sent to them by HAProxy."""

CLOSED_S: Final = 2.0
"""From the last replica that has moved until HAProxies everywhere have forgotten it."""

Told = Callable[[str, dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class Joining:
    """What ``join`` was asked.

    Attributes:
        address: of the cluster's Ray, ``host:port``.
        node_ip: this machine's, as the others reach it; empty lets Ray find it.
        num_gpus: that Ray is to believe in; None lets it count.
    """

    address: str
    settings: Settings
    node_ip: str = ""
    num_gpus: int | None = None


def join(home: Home, asked: Joining, told: Told) -> Up:
    """See that this machine has what the cluster's functions name, and join.

    Raises:
        Busy, Unusable: of the state folder.
        RayError: something is up here already, or Ray did not come to the cluster; nothing is left behind.
        Unlike: with every file that differs.
    """
    settings = asked.settings
    home.prepare()
    with home.lock():
        standing = home.load()
        if standing and (standing.kind == "joined" or processes.heart(home.path)):
            raise RayError("something is up on this machine already. `wakeful down` first.")
        processes.end(home.path)
        home.wipe()
        port = settings.port or 8000
        up = Up(
            kind="node",
            address=asked.address,
            host="0.0.0.0",
            port=port,
            file="",
            root=str(settings.root),
            models=str(settings.models),
            ports=side_ports(port),
            node_ip=asked.node_ip,
        )
        told("comparing", {})
        serves = _compare(home, up)
        up = replace(up, host=serves.get("host", up.host), port=serves.get("port", port))
        told("joining", {})
        home.save(up)
        try:
            _start(home, up, asked)
        except BaseException:
            processes.end(home.path)
            home.clear()
            raise
    return up


def leave(home: Home, up: Up, told: Told, drain_s: float, enough: Callable[[], bool]) -> bool:
    """The others take over what this machine served, then everything of ours here ends.

    Args:
        drain_s: longest wait for that, and at most ``LEAVE_S``; 0 does not wait.
        enough: asked often; true ends the wait.

    Returns:
        whether there was anything.
    """
    if drain_s and processes.heart(home.path):
        told("vacating", {})
        if _vacates(home, up):
            until = time.monotonic() + min(drain_s, LEAVE_S)
            while processes.named(home.path, REPLICA) and time.monotonic() < until and not enough():
                time.sleep(draining.POLL_S)
            until = time.monotonic() + CLOSED_S
            while time.monotonic() < until and not enough():
                time.sleep(draining.POLL_S)
        told("drained", {})
    ended = processes.end(home.path)
    home.clear()
    return ended > 0


def _vacates(home: Home, up: Up) -> bool:
    """Whether the others will take over; where the cluster has gone, nobody can."""
    try:
        with Driver(variables=mapping(variables(up, home)), log=home.path / "driver.log", folder=up.root) as driver:
            return any(event.get("told", False) for event in list(driver.ask("vacate", up.address)))
    except RayError:
        return False


def _compare(home: Home, up: Up) -> dict[str, Any]:
    """What ``comparing`` says of the cluster; a machine that is not like the others is refused."""
    log = home.path / "join.log"
    environment = inherited(mapping(variables(up, home)))
    command = [sys.executable, "-m", "deployments.comparing", up.address]
    try:
        with log.open("w", encoding="utf-8") as out:
            done = subprocess.run(
                command, env=environment, cwd=up.root, stdout=subprocess.PIPE, stderr=out, text=True, timeout=ASK_S, check=False
            )
    except subprocess.TimeoutExpired:
        raise RayError(f"no Ray answers at {up.address} within {ASK_S:.0f} s. {_token(home)}") from None
    if done.returncode:
        raise RayError(f"Ray at {up.address} does not take us: {last_line(log)} {_token(home)}")
    told: dict[str, Any] = json.loads(done.stdout)
    if unlike := told.get("unlike"):
        raise Unlike(advice("this machine", unlike))
    return told


def _start(home: Home, up: Up, asked: Joining) -> None:
    flags = {
        "address": up.address,
        "num-cpus": logical_cpus(asked.settings.cpus_per_core),
        "object-store-memory": OBJECT_STORE_BYTES,
        "include-log-monitor": "false",
        "dashboard-agent-listen-port": 0,
        **({"node-ip-address": up.node_ip} if up.node_ip else {}),
        **({"num-gpus": asked.num_gpus} if asked.num_gpus is not None else {}),
    }
    if _ray(home, up, "start", "--disable-usage-stats", *(f"--{name}={value}" for name, value in flags.items())):
        raise RayError(f"Ray did not start here: {last_line(home.path / 'join.log')} The whole of it is in {home.path / 'join.log'}.")


def _ray(home: Home, up: Up, *arguments: str) -> int:
    """Ray's command with the node's environment; its exit status, 1 if it takes too long."""
    child = spawn([RAY, *arguments], variables=mapping(variables(up, home)), log=home.path / "join.log", folder=up.root, pipes=False)
    try:
        return child.wait(START_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return 1


def _token(home: Home) -> str:
    return f"Is the address right, and {home.path / 'token'} the same as the head's? Give that with --token-file."
