"""``wakeful logs``: prints what a function wrote, in whichever process it ran."""

from __future__ import annotations

import click

from deployments.cli.options import (
    complete_function,
    echo_line,
    json_option,
    pick,
    served_names,
)


@click.command(short_help="Print what a function wrote.")
@click.argument("function", shell_complete=complete_function)
@click.option(
    "--follow", "-f", is_flag=True, help="Go on with what is written from now, until Ctrl-C."
)
@json_option
def logs(function: str, follow: bool, as_json: bool) -> None:
    """Print the logs of FUNCTION, merged by time: its replicas', and what it wrote in the shared
    host and in each `wakeful run`.

    What its stages print and the tracebacks of failed requests are among them. They are kept until
    the next `wakeful up`; those of a run while it serves, and of the last one until the next.
    """
    from deployments.local.runs import run_logs
    from deployments.observability import logs
    from deployments.ray_support.state_dir import StateDir

    state_dir = StateDir()
    up = state_dir.load()
    if up and up.kind == "joined":
        from runtime.errors import NotFound

        raise NotFound(
            f"the logs of the cluster at {up.address} are on its machines, in Ray's session folder "
            "under `logs`."
        )
    hosts = up.hosts if up else ("host",)
    sources = logs.LogSources(state_dir.logs, function, hosts, run_logs(state_dir))
    files, written = sources.files(), 0

    def show(record: str) -> None:
        echo_line(logs.parse_record(record)) if as_json else click.echo(record)

    for record in logs.merge_logs(sources, files):
        show(record)
        written += 1
    if not written:
        silence = _silence(function, served_names(with_stages=True))
        if not follow:
            click.echo(silence, err=True)
    if follow:
        try:
            for record in logs.follow_logs(sources, files):
                show(record)
        except KeyboardInterrupt:
            return


def _silence(function: str, served: list[str]) -> str:
    """What is said of a function without logs.

    Args:
        served: the functions that serve here.

    Raises:
        NotFound: it is none of them.
    """
    from runtime.errors import NotFound

    if not served:
        raise NotFound(f"nothing is up, and {function!r} has written nothing in the last session.")
    return f"{pick(function, served)!r} has written nothing."
