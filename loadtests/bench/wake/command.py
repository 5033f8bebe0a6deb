"""`wakeful bench wake` on the command line: which sections, and where the table goes."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from loadtests.bench import machine, report
from loadtests.bench.children import Overdue, ended_in_order
from loadtests.bench.choice import only
from loadtests.bench.command import PAGE, plain, refuse_if_absent, say
from loadtests.bench.figures import Number
from loadtests.bench.wake import declare
from loadtests.bench.wake.plan import FULL, QUICK, Bench
from loadtests.bench.wake.sections import SECTIONS, measure

LIMIT_S = 5400.0
"""A whole run takes about half an hour; after this long something hangs."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@only(SECTIONS, "sections")
@click.option("--quick", is_flag=True, help="Short runs: shows that everything works; its numbers mean little.")
@click.option("--port", default=8000, show_default=True, help="HTTP port on loopback; must be free.")
@click.option("--file", "shipped", type=Path, default="serve_config.yaml", show_default=True, help="The file whose functions are measured.")
@click.option("--models", type=Path, default="models", show_default=True, help="Folder of `wakeful models pull`.")
@click.option("--out", type=Path, help=f"Page to write the table into.  [default: {PAGE}, after a whole and valid run]")
@click.option("--keep", type=Path, help="Folder for files, models and logs of the run, kept; by default one that goes at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON instead of a table.")
@click.option("--strict", is_flag=True, help="Exit 1 also when a target is missed.")
def main(
    sections: frozenset[str],
    quick: bool,
    port: int,
    shipped: Path,
    models: Path,
    out: Path | None,
    keep: Path | None,
    as_json: bool,
    strict: bool,
) -> None:
    """Measure how functions sleep, wake, share a host, move out of it and scale.

    Each section starts a Wakeful of its own, in a state folder of its own, and takes it down. Prints a table, and writes it into
    docs/benchmarks.md when all of it was measured, validly and at full length. Exits 0 when every number is valid.
    """
    forecast = models / "forecast" / "model.onnx"
    refuse_if_absent([models / "minilm" / "model.int8.onnx", forecast, shipped])
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(ended_in_order(LIMIT_S))
            folder = folder_of(keep, stack)
            bench = Bench(QUICK if quick else FULL, declare.shipped(shipped), forecast, port, folder, say)
            numbers = list(measure(sections, bench))
    except Overdue as error:
        raise click.ClickException(str(error)) from None
    is_whole = not quick and sections == frozenset(SECTIONS)
    is_valid = not any(number.verdict == "void" for number in numbers)
    publish(numbers, out or (PAGE if is_whole and is_valid else None), as_json=as_json)
    has_missed = any(number.verdict == "missed" for number in numbers)
    sys.exit(not is_valid or (strict and has_missed))


def folder_of(keep: Path | None, stack: contextlib.ExitStack) -> Path:
    """The folder of this run, made now."""
    if keep is None:
        return Path(stack.enter_context(TemporaryDirectory(prefix="bench-wake-")))
    keep.mkdir(parents=True)
    return keep.resolve()


def publish(numbers: Sequence[Number], page: Path | None, *, as_json: bool) -> None:
    """Prints the numbers; writes them into the page if there is one."""
    command = " ".join(["wakeful bench wake", *sys.argv[1:]])
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = report.section(numbers, command=command, date=date, machine=machine.describe())
    click.echo(json.dumps([plain(number) for number in numbers], indent=2) if as_json else text)
    if page is not None:
        report.write(page, text, report.WAKE)
        say(f"written: {page}")
