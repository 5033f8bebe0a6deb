"""``wakeful down``: take a function, or everything, down."""

from __future__ import annotations

import click


@click.command(short_help="Take everything down, or one function.")
@click.argument("function", required=False)
@click.pass_context
def down(ctx: click.Context, function: str | None) -> None:
    """Drain and take everything down, or FUNCTION alone.

    Readiness fails first and new calls are refused (503); those in flight are answered, each within its request_timeout_s and all
    within WAKEFUL_DRAIN_S; Ctrl-C ends the wait. No process and no port is left, also of a Ray that was killed. On a joined cluster
    only what `up` deployed goes.
    """
    from deployments.cli.options import pick
    from deployments.cli.progress import Progress
    from deployments.cli.signals import INTERRUPTED, counted
    from deployments.cluster import Cluster
    from deployments.home import Home
    from runtime.settings import Settings

    home = Home()
    if function is None:
        drain_s = Settings.read().drain_s
        with counted() as signals, Progress("stopping") as progress:
            was_up = Cluster(home, progress).down(drain_s=drain_s, enough=lambda: signals.count > 0)
        click.echo("down." if was_up else "nothing is up.")
        ctx.exit(INTERRUPTED if signals.count else 0)
    up = Cluster(home).require()
    name = pick(function, [entry.name for entry in up.deployed])
    with Progress(f"stopping {name}") as progress:
        Cluster(home, progress).delete(name)
    click.echo(f"{name} is down.")
