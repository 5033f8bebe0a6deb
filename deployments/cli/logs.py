"""``wakeful logs``: what a function's replicas wrote."""

from __future__ import annotations

import click


@click.command(short_help="Print what a function's replicas wrote.")
@click.argument("function")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now, until Ctrl-C.")
def logs(function: str, follow: bool) -> None:
    """Print the logs of FUNCTION's replicas, merged by time.

    What its stages print and the tracebacks of failed requests are among them. They are kept until the next `wakeful up`.
    """
    from deployments import logfiles
    from deployments.home import Home
    from runtime.errors import NotFound

    home = Home()
    up = home.load()
    if up and up.kind == "joined":
        raise NotFound(f"the logs of the cluster at {up.address} are on its machines, in Ray's session folder under `logs`.")
    files = logfiles.of(home.logs, function)
    if not files and not follow:
        raise NotFound(f"{function!r} has written nothing in the last session.")
    for record in logfiles.merged(files):
        click.echo(record)
    if follow:
        try:
            for record in logfiles.follow(home.logs, function, files):
                click.echo(record)
        except KeyboardInterrupt:
            return
