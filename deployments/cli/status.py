"""``wakeful status``: what each function is doing."""

from __future__ import annotations

from typing import Any

import click

from deployments.cli.options import echo_json, json_option, pick


@click.command(short_help="Show the state of every function.")
@click.argument("function", required=False)
@json_option
def status(function: str | None, as_json: bool) -> None:
    """Show the state of every function, or of FUNCTION.

    States: asleep (no replica, a call wakes it), waking, ready, draining, failed. What a function waits for is said with it.
    """
    from deployments.cluster import Cluster
    from deployments.home import Home

    cluster = Cluster(Home())
    up = cluster.current() if function is None else cluster.require()
    functions = cluster.functions(up) if up else []
    if function is not None:
        name = pick(function, [entry["name"] for entry in functions])
        functions = [entry for entry in functions if entry["name"] == name]
    if as_json:
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
    for column in ("function", "state", "tier", "replicas", "url"):
        table.add_column(column, overflow="fold")
    for entry in functions:
        table.add_row(entry["name"], entry["state"], entry["tier"], str(entry["replicas"]), entry["url"])
    Console(highlight=False).print(table)
    for entry in functions:
        if entry["message"]:
            click.echo(f"\n{entry['name']} {entry['message']}")
