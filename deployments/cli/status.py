"""``wakeful status``: shows the state of each function, of ``up`` and of each ``run``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from deployments.cli.options import (
    complete_function,
    echo_json,
    join_names,
    json_option,
    pick,
)
from deployments.cli.terminal import new_table, print_table, printable, printable_data

if TYPE_CHECKING:
    from deployments.local.runs import RunRecord
    from deployments.ray_support.state_dir import ClusterState, StateDir


@click.command(short_help="Show the state of every function.")
@click.argument("function", required=False, shell_complete=complete_function)
@click.option(
    "--why",
    is_flag=True,
    help="Show the decisions about FUNCTION: when it moved, scaled or was refused, and why.",
)
@json_option
def status(function: str | None, why: bool, as_json: bool) -> None:
    """Show the state of every function, or of FUNCTION. It wakes no function.

    States: asleep (a call wakes it), waking, ready, draining, failed. Tiers: host (the shared
    host), own (a deployment of its own), run (a `wakeful run`). What a pin or its hours keep awake
    is marked as kept. What a function waits for is said with it. MB is what it holds: what its load
    added, and what has been added while it ran alone. Calls a second, the latency that 95 % of them
    stay below, and how many were answered with an error are of the last minute.
    """
    from deployments.cluster.cluster import Cluster
    from deployments.ingress.draining import is_begun
    from deployments.ingress.haproxy.lacks import lost_without
    from deployments.local.runs import live_runs, run_functions
    from deployments.ray_support.driver_client import RayError
    from deployments.ray_support.ports import is_loopback
    from deployments.ray_support.state_dir import StateDir

    if why and function is None:
        raise click.UsageError("--why is about one function: `wakeful status FUNCTION --why`.")
    state_dir = StateDir()
    cluster = Cluster(state_dir)
    runs = live_runs(state_dir)
    up = cluster.current() if function is None or runs else cluster.require()
    functions = []
    try:
        functions += cluster.functions(up) if up else []
    except RayError as error:
        if not runs:  # which answer for themselves
            raise
        click.echo(str(error), err=True)
    for one in runs:
        functions += run_functions(one, state_dir)
    if function is not None:
        name = pick(function, [entry["name"] for entry in functions])
        functions = [entry for entry in functions if entry["name"] == name]
    if why and function is not None:
        explanation = {**functions[0], "decisions": []}
        if up is not None and "run" not in functions[0]:
            explanation = cluster.explain(up, functions[0]["name"])
        if as_json:
            echo_json(explanation)
        else:
            _print_decisions(explanation["decisions"])
            if explanation["reason"]:
                click.echo(printable(f"it is {explanation['state']}: {explanation['reason']}"))
    elif as_json:
        echo_json(functions if function is None else functions[0])
    elif up is None and not runs:
        click.echo("nothing is up.")
    else:
        _print_table(functions)
        if up is not None:
            click.echo(f"\n`wakeful up` of {up.file} serves at {up.url}.")
            if up.auth is None and not is_loopback(up.host):
                click.echo(_OPEN)
        for one in runs:
            click.echo(f"\n`wakeful run` of {one.file} is process {one.pid}, at {one.url}.")
            if one.is_insecure:
                click.echo(_OPEN)
    if up is not None and is_begun(state_dir.path):
        click.echo(
            "\n`wakeful down` is under way, or was cut off. Run it again to end it, or "
            "`wakeful up` to go on.",
            err=True,
        )
    for line in _tls_lines(state_dir, up, runs):
        click.echo(f"\n{line}", err=True)
    if up is not None and (lacks := state_dir.lacks()):
        click.echo("\n  ".join(["\nHAProxy does not run as it should:", *lacks]), err=True)
    for machine, promises in (cluster.lacking(up) if up is not None else {}).items():
        head = f"\nHAProxy of {machine} does not run as it should; `wakeful status` there says why:"
        lines = [f"{name}: {lost_without(name)}." for name in promises]
        click.echo("\n  ".join([head, *lines]), err=True)


_OPEN: Final = "Other machines reach it, and it asks for no keys (--insecure)."


def _tls_lines(
    state_dir: StateDir, up: ClusterState | None, runs: Sequence[RunRecord]
) -> list[str]:
    """What is wrong with certificates, or soon will be, of all that serves here."""
    from deployments.ingress.tls.copies import read_state
    from deployments.local.runs import inner_socket

    sockets = [state_dir.inner_socket if up else None]
    sockets += [inner_socket(state_dir, run) for run in runs]
    states = [read_state(path.parent) for path in sockets if path is not None]
    return [line for state in states if state is not None for line in state.lines(time.time())]


COLUMNS: Final = (
    *("function", "state", "tier", "replicas", "MB", "last wake"),
    *("calls/s", "p95", "errors", "path"),
)


def _print_table(functions: list[dict[str, Any]]) -> None:
    """Prints a table and a line for each reason."""
    functions = printable_data(functions)
    table = new_table()
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for entry in functions:
        memory, wake = entry.get("memory_bytes", 0), entry.get("last_wake")
        minute = entry.get("last_minute") or {}
        table.add_row(
            entry["name"],
            state_text(entry),
            entry["tier"],
            str(entry["replicas"]),
            f"{memory / 1e6:.0f}" if memory else "",
            f"{wake['total_s']:.3f} s" if wake else "",
            *_minute_cells(minute),
            urlsplit(entry["url"]).path,
        )
    print_table(table)
    for line in (*device_lines(functions), *sequence_lines(functions)):
        click.echo(f"\n{line}")
    for entry in functions:
        if entry["reason"]:
            click.echo(f"\n{entry['name']} {entry['reason']}")


def _minute_cells(minute: Mapping[str, Any]) -> tuple[str, str, str]:
    """Calls a second, latency and errors of the last minute; empty where there was no call."""
    if not minute.get("calls"):
        return "", "", ""
    rate, p95_ms = minute["calls_per_s"], minute["p95_ms"]
    shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
    latency = "" if p95_ms is None else f"{p95_ms:.0f} ms" if p95_ms >= 10 else f"{p95_ms:.1f} ms"
    return shown, latency, str(minute["errors"] or "")


def state_text(entry: Mapping[str, Any]) -> str:
    """Its state, what is under way, and whether it is kept awake."""
    notes = [entry["doing"]] if entry.get("doing") else []
    notes += ["kept"] if entry.get("kept") else []
    return f"{entry['state']} ({', '.join(notes)})" if notes else str(entry["state"])


def device_lines(functions: Sequence[dict[str, Any]]) -> list[str]:
    """Lines about the device that models run on, where it is not the one that was declared: one
    line for all functions that fell back for the same reason.
    """
    fallen: dict[str, list[str]] = {}
    lines = []
    for entry in functions:
        device = entry.get("device") or {}
        if device.get("fallback"):
            fallen.setdefault(device["fallback"], []).append(entry["name"])
        elif device.get("nodes"):
            nodes = f"{device['cpu_nodes']} of the {device['nodes']} nodes of its models"
            lines.append(f"{entry['name']} runs on {device['device']}; {nodes} fell to the CPU.")
    for why, names in fallen.items():
        run = "run" if len(names) > 1 else "runs"
        lines.append(f"{join_names(names)} {run} on the CPU though a GPU is declared: {why}")
    return lines


def sequence_lines(functions: Sequence[dict[str, Any]]) -> list[str]:
    """Lines about functions with live sequences, which keep them from sleeping and moving."""
    return [
        f"{entry['name']} keeps {count} sequence{'s' if count > 1 else ''}, and stays where it is "
        "while any lives."
        for entry in functions
        if (count := entry.get("sequences", 0))
    ]


def _print_decisions(decisions: list[dict[str, Any]]) -> None:
    """Prints a line for each decision, oldest first, with the local time."""
    for decision in printable_data(decisions):
        click.echo(f"{datetime.fromtimestamp(decision['at']):%H:%M:%S}  {decision['why']}")
    if not decisions:
        click.echo("nothing was decided about it yet.")
