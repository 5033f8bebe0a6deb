"""What ``wakeful loadtest`` shows: a line while it runs, and what came of it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import finite
from deployments.cli.terminal import StatusLine, new_table, print_table, printable
from deployments.loadtest.results.statistics import PERCENTILES, FunctionResult, summarise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deployments.loadtest.generator.finding import FoundCapacity
    from deployments.loadtest.generator.running import LoadProgress
    from deployments.loadtest.results.comparison import Comparison
    from deployments.loadtest.results.dependence import Estimate
    from deployments.loadtest.results.records import Run
    from deployments.loadtest.results.verdict import Verdict

SHOW_S: Final = 0.5
"""Between two lines of progress on a terminal."""

LOG_S: Final = 10.0
"""Between two where there is none."""

MOST_CODES: Final = 3
"""Codes of errors that a line names."""


class LoadLine(StatusLine):
    """The line of progress.

    Mutable state: ``_shown_at``, when a line was shown last.
    """

    def __init__(self) -> None:
        super().__init__("", has_markup=False)
        self._shown_at = -math.inf

    def say(self, text: str) -> None:
        """What begins now."""
        self._put(f"{text} …")

    def show(self, progress: LoadProgress) -> None:
        """How far it is, as often as can be read."""
        now = time.monotonic()
        if now >= self._shown_at + (SHOW_S if self._console.is_terminal else LOG_S):
            self._shown_at = now
            self._put(describe_progress(progress))

    def _put(self, text: str) -> None:
        self._show(text)
        if not self._console.is_terminal:
            self._console.print(text, soft_wrap=True)


def describe_progress(progress: LoadProgress) -> str:
    """The line: ``12 of 65 s, 201 calls/s, p95 12.3 ms, 0 errors``."""
    seconds, whole = max(progress.seconds, 0.0), progress.whole_s
    parts = [
        f"{min(seconds, whole):.0f} of {whole:.0f} s",
        f"{progress.calls / seconds:.0f} calls/s" if seconds > 0 else "",
        f"p95 {format_s(progress.p95_s)}" if progress.p95_s is not None else "",
        _errors_of(progress),
    ]
    if seconds < progress.warm_up_s:
        parts.insert(1, "warm-up")
    elif seconds >= whole:
        parts.insert(1, "waiting for the last answers")
    else:
        parts.append(f"{whole - seconds:.0f} s left")
    return ", ".join(filter(None, parts))


def _errors_of(progress: LoadProgress) -> str:
    if not progress.errors:
        return "no errors"
    codes = ", ".join(f"{code} {count}" for code, count in progress.codes.most_common(MOST_CODES))
    return f"{progress.errors} errors ({printable(codes)})"


def format_s(seconds: float) -> str:
    """A duration to be read: ``12.3 ms``, ``1.24 s``."""
    if not math.isfinite(seconds):
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"


def print_run(run: Run, verdict: Verdict, comparison: Comparison | None) -> None:
    """The table of a run, what it could not do, how it compares, and the verdict in words."""
    result = summarise(run)
    table = new_table()
    table.add_column("function", overflow="fold")
    for name in ("calls/s", "p50", "p95", "p99", "right", "warm", "wakes", "errors"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, of in result.functions.items():
        table.add_row(name, *_cells(of))
    print_table(table)
    click.echo()
    for name, of in result.functions.items():
        if of.first:
            click.echo(f"{name}: first items after {describe_percentiles(of.first)}.")
    if result.cpu_s is not None:
        click.echo(f"the server's processes used {result.cpu_s:.1f} s of processor time.")
    if result.cost_per_1000 is not None:
        click.echo(f"1,000 right answers cost {result.cost_per_1000:.3g}.")
    for note in run.notes:
        click.echo(note)
    for caution in run.cautions:
        click.echo(f"careful: {caution}")
    if run.was_limited and not verdict.promises:
        click.echo(f"the generator was the limit: {run.was_limited}.")
    if comparison is not None:
        click.echo(f"\nagainst the run before: {comparison.words}")
        for caution in comparison.cautions:
            click.echo(caution)
    click.echo(f"\n{verdict.words}")
    if comparison is not None and comparison.has_regression:
        click.echo(f"FAIL: {comparison.count} than in the run before.")


def print_capacity(found: FoundCapacity) -> None:
    """The steps of a search, and what it found."""
    table = new_table()
    for name in ("calls/s", "for", "promises"):
        table.add_column(name, justify="right" if name != "promises" else "left")
    for step in found.capacity.steps:
        table.add_row(f"{step.rate:.4g}", f"{step.seconds:.0f} s", step.verdict.words)
    print_table(table)
    click.echo(f"\n{found.capacity.words}")
    if found.is_partial:
        click.echo("The search was ended before its time.")


def capacity_as_json(found: FoundCapacity) -> dict[str, Any]:
    """What a search found, as plain data."""
    capacity = found.capacity
    shown: dict[str, Any] = finite(
        {
            "rate": capacity.rate,
            "low": capacity.low,
            "high": capacity.high,
            "is_converged": capacity.is_converged,
            "is_partial": found.is_partial,
            "words": capacity.words,
            "steps": [
                {
                    "rate": step.rate,
                    "seconds": step.seconds,
                    "excess": step.excess,
                    "verdict": asdict(step.verdict),
                }
                for step in capacity.steps
            ],
        }
    )
    return shown


def _cells(of: FunctionResult) -> list[str]:
    errors = ", ".join(f"{code} {count}" for code, count in list(of.errors.items())[:MOST_CODES])
    return [
        f"{of.throughput:.1f}",
        *(_latency(of.percentiles[part]) for part in PERCENTILES),
        _share(of.success),
        "" if of.warm is None else _share(of.warm),
        "" if of.wakes is None else str(of.wakes),
        printable(errors),
    ]


def describe_percentiles(of: Mapping[float, Estimate]) -> str:
    """``p50 12.3 ms (11.9-12.8), p95 …``."""
    return ", ".join(f"p{part * 100:g} {_latency(estimate)}" for part, estimate in of.items())


def _latency(of: Estimate) -> str:
    """``12.3 ms (11.9-12.8)``, with its interval."""
    if not math.isfinite(of.value):
        return "-"
    bounds = [f"{bound * 1000:.3g}" if math.isfinite(bound) else "?" for bound in (of.low, of.high)]
    return f"{format_s(of.value)} ({'-'.join(bounds)})"


def _share(of: Estimate) -> str:
    return f"{of.value:.2%}" if math.isfinite(of.value) else "-"


def run_as_json(run: Run, verdict: Verdict, comparison: Comparison | None) -> dict[str, Any]:
    """What came of a run, as plain data; no number is NaN or infinite."""
    result = summarise(run)
    found: dict[str, Any] = finite(
        {
            "url": run.url,
            "shape": run.shape,
            "rates": dict(run.rates),
            "seconds": run.seconds,
            "warm_up_s": run.warm_up_s,
            "seed": run.seed,
            "started": run.started,
            "machine": dict(run.machine),
            "is_partial": run.is_partial,
            "was_limited": run.was_limited,
            "notes": list(run.notes),
            "cautions": list(run.cautions),
            "functions": {name: _function_json(of) for name, of in result.functions.items()},
            "cpu_s": result.cpu_s,
            "prices": dict(run.prices),
            "cost_per_1000": result.cost_per_1000,
            "verdict": {**asdict(verdict), "exit_status": verdict.exit_status},
            "comparison": None if comparison is None else _comparison_json(comparison),
        }
    )
    return found


def _function_json(of: FunctionResult) -> dict[str, Any]:
    percentiles = {
        f"{name}_p{part * 100:g}_s": estimate._asdict()
        for name, estimates in (("latency", of.percentiles), ("first", of.first))
        for part, estimate in estimates.items()
    }
    rest = {
        "calls": of.calls,
        "right": of.right,
        "seconds": of.seconds,
        "longest_s": of.longest_s,
        "throughput": of.throughput,
        "goodput": of.goodput,
        "success": of.success._asdict(),
        "warm": None if of.warm is None else of.warm._asdict(),
        "errors": dict(of.errors),
        "refused": of.refused,
        "wakes": of.wakes,
        "replica_s": of.replica_s,
        "worker_s": of.worker_s,
        "batch_rows": of.batch_rows,
    }
    return {**percentiles, **rest}


def _comparison_json(of: Comparison) -> dict[str, Any]:
    return {**asdict(of), "has_regression": of.has_regression, "words": of.words}
