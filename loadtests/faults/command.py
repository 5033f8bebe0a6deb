"""``make faults`` on the command line: which scenarios, and where the table and the lost requests go."""

from __future__ import annotations

import contextlib
import datetime
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from loadtests.bench import machine
from loadtests.bench.children import Overdue, ended_in_order
from loadtests.bench.choice import only
from loadtests.bench.command import say
from loadtests.faults.plan import FULL, QUICK, Setting
from loadtests.faults.row import Row, details, table
from loadtests.faults.scenarios import SCENARIOS, run

LIMIT_S = 3 * 3600.0
"""A whole run takes an hour and a half; after this long something hangs."""

MODELS = {
    "poison": ("minilm/model.int8.onnx", "minilm/tokenizer.json"),
    "mixed": ("minilm/model.int8.onnx", "minilm/tokenizer.json", "forecast/model.onnx"),
}
"""What scenarios need of `wakeful models pull`."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@only(SCENARIOS, "names")
@click.option("--quick", is_flag=True, help="About half a minute each: shows that everything works.")
@click.option("--port", default=8000, show_default=True, help="HTTP port on loopback; must be free.")
@click.option("--models", type=Path, default="models", show_default=True, help="Folder of `wakeful models pull`.")
@click.option("--out", type=Path, help="File to write the table into.")
@click.option("--lost", "lost_file", type=Path, help="File for the details of lost requests, one JSON object a line.")
@click.option("--keep", type=Path, help="Folder for files and logs of the run, kept; by default one that goes at the end.")
@click.option("--strict", is_flag=True, help="Exit 1 also when another bound than that of lost requests is missed.")
def main(
    names: frozenset[str], quick: bool, port: int, models: Path, out: Path | None, lost_file: Path | None, keep: Path | None, strict: bool
) -> None:
    """Break things under load, and count what becomes of every request.

    Each scenario starts a Wakeful of its own, in a state folder of its own, and takes it down. Prints a table. Exits 0 when no request
    was lost and every scenario ran to its end.
    """
    refuse_if_absent(names, models)
    rows: list[Row] = []
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(ended_in_order(LIMIT_S))
            folder = keep or Path(stack.enter_context(TemporaryDirectory(prefix="faults-")))
            folder.mkdir(parents=True, exist_ok=True)
            setting = Setting(QUICK if quick else FULL, port, folder.resolve(), models, say)
            for name, row in run(names, setting):
                say(str(row))
                rows.append(row)
                keep_lost(lost_file, name, row)
    except Overdue as error:
        raise click.ClickException(str(error)) from None
    publish(rows, out)
    is_good = all(row.is_good for row in rows)
    sys.exit(not is_good or (strict and any(row.missed for row in rows)))


def refuse_if_absent(names: frozenset[str], models: Path) -> None:
    """Says what is missing and how to get it, before anything is started."""
    needed = {models / part for name in names for part in MODELS.get(name, ())}
    if absent := ", ".join(str(path) for path in sorted(needed) if not path.exists()):
        raise click.ClickException(f"missing: {absent}. Run `wakeful models pull` in the project's folder.")


def publish(rows: list[Row], out: Path | None) -> None:
    """Prints the table with what is needed to repeat it; writes it, too, if there is a file for it."""
    command = " ".join(["python -m loadtests.faults", *sys.argv[1:]])
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = f"`{command}`, {date}. {machine.describe()}.\n\n{table(rows)}\n"
    click.echo(text)
    if out is not None:
        out.write_text(text)
        say(f"written: {out}")


def keep_lost(file: Path | None, name: str, row: Row) -> None:
    """Adds a scenario's lost requests to the file, or says the first of them."""
    if file is not None:
        with file.open("a") as out:
            out.write(details(row))
    else:
        for lost in row.verdict.examples[:3]:
            say(f"{name}: lost {lost}")
