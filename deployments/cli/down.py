"""``wakeful down``: take a function, or everything, down."""

from __future__ import annotations

import click


@click.command(short_help="Take everything down, or one function.")
@click.argument("function", required=False)
def down(function: str | None) -> None:
    """Drain and take everything down, or FUNCTION alone.

    Requests in flight are answered first, each function's for as long as its request_timeout_s; Ctrl-C ends the wait. No process
    and no port is left, also of a Ray that was killed. On a joined cluster only what `up` deployed goes.
    """
    from deployments.cli.options import pick
    from deployments.cli.progress import Progress
    from deployments.cluster import Cluster
    from deployments.home import Home

    home = Home()
    if function is None:
        with Progress("stopping") as progress:
            was_up = Cluster(home, progress).down()
        click.echo("down." if was_up else "nothing is up.")
        return
    up = Cluster(home).require()
    name = pick(function, [entry.name for entry in up.deployed])
    with Progress(f"stopping {name}") as progress:
        Cluster(home, progress).delete(name)
    click.echo(f"{name} is down.")
