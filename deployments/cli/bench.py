"""``wakeful bench``: measure this machine, and Wakeful on it."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command(
    short_help="Measure this machine, and Wakeful on it.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure throughput, latency, start and memory against the bare limit of this machine.

    The same as `python -m loadtests.bench`, which takes the arguments and shows its own --help.
    """
    ctx.exit(subprocess.run([sys.executable, "-m", "loadtests.bench", *ctx.args], check=False).returncode)
