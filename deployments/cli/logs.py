"""``wakeful logs``: what a function wrote, wherever it ran."""

from __future__ import annotations

import click


@click.command(short_help="Print what a function wrote.")
@click.argument("function")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now, until Ctrl-C.")
def logs(function: str, follow: bool) -> None:
    """Print the logs of FUNCTION, merged by time: its replicas', and what it wrote in the shared host.

    What its stages print and the tracebacks of failed requests are among them. They are kept until the next `wakeful up`.
    """
    from deployments import logfiles
    from deployments.home import Home
    from runtime.errors import NotFound

    home = Home()
    up = home.load()
    if up and up.kind == "joined":
        raise NotFound(f"the logs of the cluster at {up.address} are on its machines, in Ray's session folder under `logs`.")
    sources = logfiles.Sources(home.logs, function, up.hosts if up else ("host",))
    files, written = sources.files(), 0
    for record in logfiles.merged(sources, files):
        click.echo(record)
        written += 1
    if not written and not follow:
        raise NotFound(f"{function!r} has written nothing in the last session.")
    if follow:
        try:
            for record in logfiles.follow(sources, files):
                click.echo(record)
        except KeyboardInterrupt:
            return
