"""``python -m loadtests.cluster``: machines made of this one, lost under load, with an account of every request."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from loadtests.bench import machine
from loadtests.bench.choice import only
from loadtests.bench.command import say
from loadtests.cluster.losses import LOSSES, lost
from loadtests.cluster.machines import possible
from loadtests.faults.row import details, table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@only(LOSSES, "names")
@click.option("--seconds", default=60.0, show_default=True, help="Of load, for each loss; the machine goes half way.")
@click.option(
    "--keep", type=Path, help="Folder for files and logs of the run, kept; not a temporary one. By default one that goes at the end."
)
def main(names: frozenset[str], seconds: float, keep: Path | None) -> None:
    """Start Wakeful on three machines made of this one, lose one under load, and count what becomes of every request.

    Needs root and `ip`. Exits 0 when no request was lost.
    """
    if why := possible():
        raise click.ClickException(f"no machines can be made here: {why}.")
    with TemporaryDirectory(prefix="cluster-", dir="/var/tmp", ignore_cleanup_errors=True) as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in LOSSES:
            if name in names:
                say(f"scenario {name}")
                rows.append(row := lost(name, folder.resolve(), seconds, say))
                say(str(row))
                for line in details(row).splitlines()[:3]:
                    say(line)
    click.echo(f"{machine.describe()}.\n\n{table(rows)}")
    sys.exit(not all(row.is_good for row in rows))


if __name__ == "__main__":
    main(prog_name="python -m loadtests.cluster")
