"""``wakeful bench``: measure this machine, and Wakeful on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click


@click.command(
    short_help="Measure this machine, and Wakeful on it.",
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    },
)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure throughput, latency, start and memory against the bare limit of this machine; `bench
    wake`: waking and falling asleep; `bench install`: what an installation weighs; `bench edit`:
    how soon `run --reload` answers an edit.

    The same as `python -m loadtests.bench`, and `.wake`, `.install` and `.edit` of it, which take
    the arguments and show their own --help. In a clone of the repository alone.
    """
    if not (Path(__file__).parents[3] / "loadtests").is_dir():
        raise click.ClickException(
            "the benchmarks are not part of an installation. Run this in a clone of the repository,"
            " after `make setup`."
        )
    first = ctx.args[:1]
    module, *arguments = (
        [f"loadtests.bench.{first[0]}", *ctx.args[1:]]
        if first in (["wake"], ["install"], ["edit"])
        else ["loadtests.bench", *ctx.args]
    )
    ctx.exit(subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode)
