"""`make bench` on the command line: what to measure, and where the table goes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from loadtests.bench import machine, report, wrk
from loadtests.bench.bare import bare_loop
from loadtests.bench.children import Overdue, ended_in_order
from loadtests.bench.choice import only
from loadtests.bench.figures import Number
from loadtests.bench.run import SECTIONS, Job, measure
from loadtests.bench.setting import FULL, QUICK, Bench
from loadtests.bench.texts import Writer, log_uniform_lengths

LIMIT_S = 3000.0
"""A whole run takes about ten minutes; after this long something hangs."""
PAGE = Path("docs/benchmarks.md")
SEED = 0


@click.command()
@only(SECTIONS, "sections")
@click.option("--quick", is_flag=True, help="Short runs, one round: shows that everything works; its numbers mean little.")
@click.option("--port", default=8000, show_default=True, help="HTTP port on loopback; must be free.")
@click.option("--file", "shipped", type=Path, default="serve_config.yaml", show_default=True, help="The file whose start is timed.")
@click.option("--models", type=Path, default="models", show_default=True, help="Folder of `wakeful models pull`.")
@click.option("--out", type=Path, help=f"Page to write the table into.  [default: {PAGE}, after a whole and valid run]")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON instead of a table.")
@click.option("--strict", is_flag=True, help="Exit 1 also when a target is missed.")
def main(
    sections: frozenset[str], quick: bool, port: int, shipped: Path, models: Path, out: Path | None, as_json: bool, strict: bool
) -> None:
    """Measure Wakeful against the bare limit of this machine, both sides in the same run.

    Prints a table, and writes it into docs/benchmarks.md when all of it was measured, validly and at full length.
    Exits 0 when every number is valid.
    """
    refuse_if_absent([models / "minilm" / "model.int8.onnx", models / "minilm" / "tokenizer.json", shipped])
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(ended_in_order(LIMIT_S))
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
            bench = prepare(stack, models / "minilm", folder, quick=quick)
            numbers = list(measure(Job(sections, shipped, port), bench))
    except Overdue as error:
        raise click.ClickException(str(error)) from None
    is_whole = not quick and sections == frozenset(SECTIONS)
    is_valid = not any(number.verdict == "void" for number in numbers)
    publish(numbers, out or (PAGE if is_whole and is_valid else None), as_json=as_json)
    has_missed = any(number.verdict == "missed" for number in numbers)
    sys.exit(not is_valid or (strict and has_missed))


def refuse_if_absent(files: Sequence[Path]) -> None:
    """Says what is missing and how to get it, before anything is started."""
    absent = ", ".join(str(path) for path in files if not path.exists())
    if problem := wrk.missing() or (absent and f"missing: {absent}. Run `wakeful models pull` in the project's folder."):
        raise click.ClickException(problem)


def prepare(stack: contextlib.ExitStack, model: Path, folder: Path, *, quick: bool) -> Bench:
    """Writes the texts and starts the bare loop, which ends with ``stack``."""
    writer, count = Writer(model / "tokenizer.json", SEED), 64 if quick else 256
    short, mixed = writer.write_all([14] * count), writer.write_all(log_uniform_lengths(count, 4, 200, SEED))
    bare = stack.enter_context(bare_loop(model / "model.int8.onnx", machine.cores(), folder / "bare.log"))
    return Bench(QUICK if quick else FULL, bare, short, mixed, folder, say)


def publish(numbers: Sequence[Number], page: Path | None, *, as_json: bool) -> None:
    """Prints the numbers; writes them into the page if there is one."""
    command = " ".join(["python -m loadtests.bench", *sys.argv[1:]])
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = report.section(numbers, command=command, date=date, machine=machine.describe())
    click.echo(json.dumps([plain(number) for number in numbers], indent=2) if as_json else text)
    if page is not None:
        report.write(page, text)
        say(f"written: {page}")


def plain(number: Number) -> dict[str, object]:
    """A number for a program; without rounds its value is null."""
    return {**dataclasses.asdict(number), "value": number.value if number.rounds else None, "verdict": number.verdict}


def say(what: str) -> None:
    """Progress, on standard error: standard output is the table."""
    click.echo(what, err=True)
