"""``wakeful export``: a file in the form that another system takes.

``wakeful env``: the environment for a Ray that is started by hand. ``wakeful schema``: the file's
JSON Schema.
"""

from __future__ import annotations

import io
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import (
    echo_json,
    file_argument,
    json_option,
    read,
    resolve_for_cluster,
)

if TYPE_CHECKING:
    from deployments.rollout.plan import Plan


_UP_ONLY: Final = ("version", "code", "owner", "routed")
"""Keys of an application that only ``up`` can pass to Ray."""


_NO_KEYS: Final = (
    "`serve deploy` serves whatever reaches it: HAProxy is Ray's to configure there, and compares "
    "no keys. Put something in front that does."
)


@click.group(short_help="Write a file in the form that another system takes.")
def export() -> None:
    """Write FILE in the form that another system takes."""


@export.command()
@file_argument
def serve(file: Path) -> None:
    """Print FILE as Ray Serve's own, with all that `wakeful up` adds: for `serve deploy`, which
    reads one application at a time.

    Functions that call others know these; a stage with a `deployment` is an application; the host
    gets the list of functions; with `proxy_location: EveryNode`, each machine has a host. FILE is
    checked first. What stages name as ${NAME} is taken from the environment of the cluster's
    processes.
    """
    from deployments.ingress.tls.files import ONLY_OURS, tls_problem
    from deployments.rollout.plan import plan
    from deployments.rollout.prepare import prepare_for_deployment
    from runtime.errors import DeclarationError
    from runtime.settings import Settings
    from runtime.system.secrets import PlaceholderSecrets

    settings = replace(Settings.read(file=file), secrets=PlaceholderSecrets())
    declared = read(file, settings)
    if declared.tls is not None:
        raise DeclarationError([tls_problem(declared, ONLY_OURS)])
    config = prepare_for_deployment(resolve_for_cluster(file, settings), settings)
    file_read = config.resolved.file
    if file_read.auth is not None:
        click.echo(f"warning: {file_read.problem('http.auth', _NO_KEYS)}", err=True)
    is_open = file_read.raw.get("proxy_location") == "EveryNode"
    click.echo(_to_yaml(_serve_config(plan(config, settings, is_open=is_open))), nl=False)


def _serve_config(plan: Plan) -> dict[str, Any]:
    """A plan as Ray Serve's own file: what ``serve deploy`` deploys of it is what ``up`` would."""
    from deployments.rollout.plan import SERVE_KEYS

    return {
        "proxy_location": plan.serve["proxy_location"],
        "http_options": plan.serve["http_options"],
        **{key: plan.serve[key] for key in SERVE_KEYS if key in plan.serve},
        "applications": [
            {key: value for key, value in app.to_dict().items() if key not in _UP_ONLY}
            for app in plan.applications
        ],
    }


def _to_yaml(config: dict[str, Any]) -> str:
    """As YAML without anchors, which ``yaml_reader`` refuses: what two applications have in common
    is written twice.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.default_flow_style = False
    out = io.StringIO()
    yaml.dump(json.loads(json.dumps(config)), out)
    return out.getvalue()


@click.command(short_help="Print the environment for a Ray started by hand.")
@click.option("--shell", is_flag=True, help='As lines for a shell: eval "$(wakeful env --shell)".')
@json_option
def env(shell: bool, as_json: bool) -> None:
    """Print the environment that every machine's `ray start` needs, each variable with its reason.

    With it, `serve deploy serve_config.yaml` serves as `wakeful up` does, and `wakeful up
    --address` can join the cluster.
    """
    from deployments.ray_support.deadlines import MOST_S, given_hard_stop_s, hard_stop, hard_stop_s
    from deployments.ray_support.environment import (
        OPEN_CLUSTER,
        SERVING,
        ingress_variables,
        path_variables,
        search_path,
        shared_variables,
        to_mapping,
    )
    from runtime.settings import Settings

    if shell and as_json:
        raise click.UsageError("--shell and --json are two forms. Give one of them.")
    variables = (
        *SERVING,
        *OPEN_CLUSTER,
        hard_stop(given_hard_stop_s(hard_stop_s(MOST_S))),
        *ingress_variables(),
        *shared_variables(),
        *path_variables(Settings.read(), None, search_path()),
    )
    if as_json:
        echo_json(to_mapping(variables))
        return
    for variable in variables:
        if shell:
            click.echo(f"export {variable.name}={shlex.quote(variable.value)}")
        else:
            click.echo(f"# {variable.reason}\n{variable.name}={variable.value}")


@click.command(short_help="Print the JSON Schema of the file, for editors.")
def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of the file, for editors.

    With it an editor completes keys, shows what each is for and marks what is wrong. Editors that
    use yaml-language-server find it by the first line of the file:

    \b
    # yaml-language-server: $schema=serve_config.schema.json

    where `wakeful schema > serve_config.schema.json` has written it. `wakeful check` says more.
    """
    from runtime.declaration.editing.json_schema import file_schema

    echo_json(file_schema())
