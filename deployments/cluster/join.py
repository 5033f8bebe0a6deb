"""Adds this machine to a cluster that was started elsewhere, and removes it again.

Ray's own command starts the node, with the environment that every machine of a cluster needs.
Ray Serve then starts a HAProxy and a shared host on the machine, and replicas where resources are
free.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from deployments.cluster.machine import (
    OBJECT_STORE_BYTES,
    START_S,
    cluster_variables,
    cpu_count,
    last_log_line,
    open_driver,
    side_ports,
)
from deployments.cluster.up_request import refuse_other_wire
from deployments.ingress import draining
from deployments.ingress.tls.files import LIBRARY, TlsFiles, read_files
from deployments.ray_support import processes
from deployments.ray_support.deadlines import leave_s
from deployments.ray_support.driver_client import RayError, node_command, spawn_process
from deployments.ray_support.environment import inherited_variables, to_mapping
from deployments.ray_support.state_dir import ClusterState, StateDir
from runtime.settings import Settings
from runtime.system.child_processes import wait_or_kill
from runtime.system.extras import missing_message

ASK_S: Final = 20.0
"""Longest wait for the head's answer."""

UNROUTED_S: Final = 2.0
"""From the last replica that has moved until no HAProxy of the cluster sends calls to it."""

JoinProgress = Callable[[str, dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class JoinedMachine:
    """A machine that joins.

    Attributes:
        address: of the cluster's Ray, ``host:port``.
        node_ip: this machine's address, as the others reach it; empty: Ray finds it.
        num_gpus: the GPUs that Ray counts with here; None: those it finds.
        token: the cluster's; None: it is in the state folder already.
    """

    address: str
    settings: Settings
    node_ip: str = ""
    num_gpus: int | None = None
    token: bytes | None = field(default=None, repr=False)


def join(state_dir: StateDir, machine: JoinedMachine, on_progress: JoinProgress) -> ClusterState:
    """Joins, so that this machine serves on the cluster's HTTP port; blocking.

    Raises:
        Busy, Unusable: of the state folder.
        RayError: something is up here already, or Ray did not join the cluster; all resources are
            released. Or this machine lacks what the cluster ends TLS with.
    """
    settings = machine.settings
    state_dir.prepare()
    with state_dir.lock():
        current = state_dir.load()
        if (current and current.kind == "joined") or processes.ray_processes(state_dir.path):
            raise RayError("something is up on this machine already. `wakeful down` first.")
        processes.end_processes(state_dir.path)
        if machine.token is not None:
            state_dir.write_token(machine.token)
        state_dir.wipe()
        port = settings.port or 8000
        up = ClusterState(
            kind="node",
            address=machine.address,
            host="0.0.0.0",
            port=port,
            file="",
            root=str(settings.root),
            models=str(settings.models),
            ports=side_ports(port),
            node_ip=machine.node_ip,
        )
        on_progress("asking", {})
        facts = _fetch_facts(state_dir, up)
        if facts:
            refuse_other_wire(facts.get("wire", 1))
        hard_stop_s = facts.get("hard_stop_s", up.hard_stop_s)
        up = replace(
            up,
            host=facts.get("host", up.host),
            port=facts.get("port", port),
            hard_stop_s=hard_stop_s,
            cors=facts.get("cors"),
            auth={"is_on": True} if facts.get("asks_for_keys") else None,
            tls=facts.get("tls", ""),
            per_address=facts.get("per_address"),
        )
        _require_tls(up.tls)
        on_progress("joining", {})
        state_dir.save(up)
        try:
            _start(state_dir, up, machine)
        except BaseException:
            processes.end_processes(state_dir.path)
            state_dir.clear()
            raise
    return up


def _require_tls(text: str) -> None:
    """See that this machine's HAProxy can end TLS as the others do: it has files of its own, at the
    same paths.

    Args:
        text: as of ``ClusterState.tls``.

    Raises:
        RayError: it cannot.
    """
    files = TlsFiles.from_json(text)
    try:
        if files is not None:
            read_files(files)
    except ModuleNotFoundError:
        raise RayError(missing_message(LIBRARY, "the cluster speaks TLS, which")) from None
    except ValueError as fault:
        raise RayError(
            f"the cluster speaks TLS, which each machine ends with files at the same paths: {fault}"
        ) from None


def leave(
    state_dir: StateDir,
    up: ClusterState,
    on_progress: JoinProgress,
    drain_s: float,
    should_stop: Callable[[], bool],
) -> bool:
    """Waits until the other machines serve what this one did, then ends all our processes here.

    Args:
        drain_s: longest wait; at most ``deadlines.leave_s`` of what the cluster serves; 0 does not
            wait.
        should_stop: called often; true ends the wait.

    Returns:
        whether anything ran.
    """
    if drain_s and processes.ray_processes(state_dir.path):
        on_progress("vacating", {})
        longest_s = _retire_node(state_dir, up)
        if longest_s is not None:
            until = time.monotonic() + min(drain_s, leave_s(longest_s))
            while (
                processes.by_name(state_dir.path, processes.REPLICA_PROCESS)
                and time.monotonic() < until
                and not should_stop()
            ):
                time.sleep(draining.POLL_S)
            until = time.monotonic() + UNROUTED_S
            while time.monotonic() < until and not should_stop():
                time.sleep(draining.POLL_S)
        on_progress("drained", {})
    ended = processes.end_processes(state_dir.path)
    state_dir.clear()
    return ended > 0


def _retire_node(state_dir: StateDir, up: ClusterState) -> float | None:
    """Tells Ray that this machine leaves; returns the longest deadline of what the others take
    over, in seconds, or None where the cluster is gone.
    """
    try:
        with open_driver(up, state_dir) as driver:
            return next(
                (
                    event["longest_s"]
                    for event in list(driver.ask("drain_node", up.address))
                    if event.get("is_accepted", False)
                ),
                None,
            )
    except RayError:
        return None


def _fetch_facts(state_dir: StateDir, up: ClusterState) -> dict[str, Any]:
    """What the cluster's head knows (``deployments.cluster.head``)."""
    log = state_dir.path / "join.log"
    environment = inherited_variables(to_mapping(cluster_variables(up, state_dir)))
    command = [sys.executable, "-m", "deployments.cluster.head", "facts", up.address]
    try:
        with log.open("w", encoding="utf-8") as out:
            done = subprocess.run(
                command,
                env=environment,
                cwd=up.root,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                timeout=ASK_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise RayError(
            f"no Ray answers at {up.address} within {ASK_S:.0f} s. {_token_hint(state_dir)}"
        ) from None
    if done.returncode:
        raise RayError(
            f"Ray at {up.address} does not take us: {last_log_line(log)} {_token_hint(state_dir)}"
        )
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def _start(state_dir: StateDir, up: ClusterState, machine: JoinedMachine) -> None:
    log = state_dir.path / "join.log"
    child = spawn_process(
        node_command(
            up.address,
            num_cpus=cpu_count(machine.settings.cpus_per_core),
            object_store_bytes=OBJECT_STORE_BYTES,
            node_ip=up.node_ip,
            num_gpus=machine.num_gpus,
        ),
        variables=to_mapping(cluster_variables(up, state_dir)),
        log=log,
        folder=up.root,
        pipes=False,
    )
    if wait_or_kill(child, START_S):
        raise RayError(f"Ray did not start here: {last_log_line(log)} The whole of it is in {log}.")


def _token_hint(state_dir: StateDir) -> str:
    return (
        f"Is the address right, and {state_dir.path / 'token'} the same as the head's? Give that "
        "with --token-file."
    )
