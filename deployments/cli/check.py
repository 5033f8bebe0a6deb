"""``wakeful check``: everything that can be known wrong of a file before it is served."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from deployments.cli.options import echo_json, file_argument, json_option, read, secrets_option


@click.command(short_help="Check a file before it is served.")
@file_argument
@secrets_option
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path, secrets: Path | None, as_json: bool) -> None:
    """Check FILE: keys, values, names, stages, models, and whether they fit together.

    Stages are imported and model files read; nothing is started and no model is run. Exit status 2 if something is wrong.
    """
    from runtime.check import check as problems_of
    from runtime.errors import DeclarationError
    from runtime.settings import Settings

    functions = 0
    try:
        settings = Settings.read(secrets=secrets)
        declared = read(file, settings)
        functions = len(declared.functions)
        problems = problems_of(declared, settings)
    except DeclarationError as error:
        problems = list(error.problems)
    if as_json:
        echo_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            click.echo(str(problem))
        if not problems:
            click.echo(f"{file}: {functions} function{'' if functions == 1 else 's'}, nothing wrong.")
    ctx.exit(2 if problems else 0)
