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
    """Measure throughput, latency, start and memory against the bare limit of this machine; `bench wake`: sleeping, waking, scaling.

    The same as `python -m loadtests.bench` and `python -m loadtests.bench.wake`, which take the arguments and show their own --help.
    """
    module, *arguments = ["loadtests.bench.wake", *ctx.args[1:]] if ctx.args[:1] == ["wake"] else ["loadtests.bench", *ctx.args]
    ctx.exit(subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode)
