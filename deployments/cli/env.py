"""``wakeful env``: the environment for a Ray that is started by hand."""

from __future__ import annotations

import shlex

import click

from deployments.cli.options import echo_json, json_option


@click.command(short_help="Print the environment for a Ray started by hand.")
@click.option("--shell", is_flag=True, help='As lines for a shell: eval "$(wakeful env --shell)".')
@json_option
def env(shell: bool, as_json: bool) -> None:
    """Print the environment that every machine's `ray start` needs, each variable with its reason.

    With it, `serve deploy serve_config.yaml` serves as `wakeful up` does, and `wakeful up --address` can join the cluster.
    """
    from deployments.rayenv import APART, SERVING, ingress, mapping, paths, search_path, shared
    from runtime.settings import Settings

    variables = (*SERVING, *APART, *ingress(), *shared(), *paths(Settings.read(), None, search_path()))
    if as_json:
        echo_json(mapping(variables))
    for variable in () if as_json else variables:
        if shell:
            click.echo(f"export {variable.name}={shlex.quote(variable.value)}")
        else:
            click.echo(f"# {variable.reason}\n{variable.name}={variable.value}")
