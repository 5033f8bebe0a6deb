"""``wakeful status``: what each function is doing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import click

from deployments.cli.options import echo_json, json_option, pick

NAMED: Final = 8
"""Functions in a line about several."""


@click.command(short_help="Show the state of every function.")
@click.argument("function", required=False)
@click.option("--why", is_flag=True, help="Show the decisions about FUNCTION: when it moved, scaled or was refused, and why.")
@json_option
def status(function: str | None, why: bool, as_json: bool) -> None:
    """Show the state of every function, or of FUNCTION. Looking wakes nobody.

    States: asleep (a call wakes it), waking, ready, draining, failed. Tiers: host (the shared host), own (a deployment of its own).
    What a function waits for is said with it.
    """
    from deployments.cluster import Cluster
    from deployments.home import Home

    if why and function is None:
        raise click.UsageError("--why is about one function: `wakeful status FUNCTION --why`.")
    cluster = Cluster(Home())
    up = cluster.current() if function is None else cluster.require()
    functions = cluster.functions(up) if up else []
    if function is not None:
        name = pick(function, [entry["name"] for entry in functions])
        functions = [entry for entry in functions if entry["name"] == name]
    if why and up is not None and function is not None:
        told = cluster.explain(up, functions[0]["name"])
        echo_json(told) if as_json else _decisions(told["decisions"])
    elif as_json:
        echo_json(functions if function is None else functions[0])
    elif up is None:
        click.echo("nothing is up.")
    else:
        _table(functions)


def _table(functions: list[dict[str, Any]]) -> None:
    """Colours are for a terminal; a pipe gets the same words."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("function", "state", "tier", "replicas", "MB", "last wake", "url"):
        table.add_column(column, overflow="fold")
    for entry in functions:
        memory, wake = entry.get("memory_bytes", 0), entry.get("last_wake")
        table.add_row(
            entry["name"],
            entry["state"] + (f" ({entry['doing']})" if entry.get("doing") else ""),
            entry["tier"],
            str(entry["replicas"]),
            f"{memory / 1e6:.0f}" if memory else "",
            f"{wake['total_s']:.3f} s" if wake else "",
            entry["url"],
        )
    Console(highlight=False).print(table)
    for line in (*running(functions), *keeping(functions)):
        click.echo(f"\n{line}")
    for entry in functions:
        if entry["reason"]:
            click.echo(f"\n{entry['name']} {entry['reason']}")


def running(functions: Sequence[dict[str, Any]]) -> list[str]:
    """What models really run on, where that is not simply the CPU as declared; a line for all who fell back for the same reason."""
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
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        run = "run" if len(names) > 1 else "runs"
        lines.append(f"{', '.join(names[:NAMED])}{more} {run} on the CPU though a GPU is declared: {why}")
    return lines


def keeping(functions: Sequence[dict[str, Any]]) -> list[str]:
    """Who has sequences that live: while they do, it neither sleeps nor moves."""
    return [
        f"{entry['name']} keeps {count} sequence{'s' if count > 1 else ''}, and stays where it is while any lives."
        for entry in functions
        if (count := entry.get("sequences", 0))
    ]


def _decisions(decisions: list[dict[str, Any]]) -> None:
    """One line each, oldest first, with the local time."""
    for decision in decisions:
        click.echo(f"{datetime.fromtimestamp(decision['at']):%H:%M:%S}  {decision['why']}")
    if not decisions:
        click.echo("nothing was decided about it yet.")
