"""``wakeful loadtest``: send calls to functions as they would come, and say whether what they
promise holds.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import (
    NEEDED_BY_REPORT,
    FiniteRange,
    check_url,
    complete_function,
    echo_json,
    header_option,
    json_option,
    require_module,
    secrets_option,
)
from deployments.cli.traffic.load_arguments import (
    options_of,
    promise_option,
    read_files,
    read_numbers,
)
from deployments.cli.traffic.load_target import LoadTarget, serving
from deployments.cli.traffic.server_answers import tls_options
from runtime.errors import DeclarationError, WakefulError

if TYPE_CHECKING:
    from deployments.cli.operations.foreground import SignalCounter
    from deployments.cli.traffic.load_terminal import LoadLine
    from deployments.ingress.tls.clients import ClientFiles
    from deployments.loadtest.generator.plan import LoadPlan
    from deployments.loadtest.load_options import LoadOptions
    from deployments.loadtest.results.comparison import Comparison
    from deployments.loadtest.results.records import Run
    from deployments.loadtest.results.verdict import Verdict

USAGE: Final = 64
"""Exit status of a load test that is refused (EX_USAGE): 1 and 2 are verdicts."""

FAIL: Final = 1
UNSURE: Final = 2

FAULT: Final = 70
"""Exit status of a load test that broke (EX_SOFTWARE)."""

REPORT_FILE: Final = "report.html"

_NEEDED: Final = ("locust", "jsonschema_rs", "scipy")
"""Of the extra ``[load]``; what is missing is said before anything is sent."""

MOST_PROCESSES: Final = 64

SHORTEST_SEARCH_S: Final = 60.0
"""Of a search for the capacity: some steps."""


class _LoadTest(click.Command):
    """Exits with ``USAGE`` where the command line, a file or the server is not as it must be, and
    with ``FAULT`` where it breaks: 1, which is usual, would be a verdict.
    """

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the command line."""
        with _mistakes():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with _mistakes():
            return super().invoke(ctx)


@contextlib.contextmanager
def _mistakes() -> Iterator[None]:
    from runtime.system.extras import EXTRA_OF, missing_message

    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(USAGE) from None
    except DeclarationError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        raise click.exceptions.Exit(USAGE) from None
    except WakefulError as error:
        place = f"{error.where}: " if error.where.startswith("-") else ""
        click.echo(f"wakeful: {place}{error.message}", err=True)
        raise click.exceptions.Exit(USAGE) from None
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA_OF:
            traceback.print_exc()
            raise click.exceptions.Exit(FAULT) from None
        needs = missing_message(error.name or "", "`wakeful loadtest`")
        click.echo(f"wakeful: {needs}", err=True)
        raise click.exceptions.Exit(USAGE) from None
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except click.ClickException as error:
        error.show()
        raise click.exceptions.Exit(FAULT) from None
    except Exception:
        traceback.print_exc()
        raise click.exceptions.Exit(FAULT) from None


@click.command(
    cls=_LoadTest, short_help="Send a file's functions calls, and say whether their SLO holds."
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--function",
    "-f",
    "functions",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_function,
    help="A function to call; may be repeated. By default those that other options name, else all.",
)
@click.option(
    "--url",
    callback=check_url,
    help="What is served there is called, such as http://127.0.0.1:8000. By default FILE is served "
    "for as long as the load test takes.",
)
@tls_options
@click.option(
    "--shape",
    default="steady",
    show_default=True,
    metavar="SHAPE[:OPTION=NUMBER,...]",
    help="When calls come: steady, steps, ramp, burst, spike, day.",
)
@click.option(
    "--rps",
    "rates",
    callback=read_numbers(0.0),
    multiple=True,
    metavar="RATE",
    help="Calls a second of each function, or FUNCTION=RATE; may be repeated. By default 10.",
)
@click.option(
    "--for",
    "seconds",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="How long, the warm-up not counted. By default 60; of a spike, its quiet time and its "
    "calls; of a trace, all of it. Of --find-capacity how long at most, by default 1800.",
)
@click.option(
    "--warm-up",
    "warm_up_s",
    type=FiniteRange(0),
    metavar="SECONDS",
    help="Before that, with calls that do not count. By default 5 for steady and burst, else 0.",
)
@click.option(
    "--calls",
    callback=read_files,
    multiple=True,
    metavar="[FUNCTION=]FILE",
    help="What is sent instead of the example: with FUNCTION= its rows, one a line in JSON; else "
    "lines with `function` and `body` (and `answer`, which must come), or a capture. Sent in turn.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Send recorded calls at their times: a capture of a function, which may be repeated, or a "
    "CSV file of `wakeful scale trace`.",
)
@click.option(
    "--speed",
    type=FiniteRange(0, min_open=True),
    metavar="FACTOR",
    help="Of a trace: times as fast. By default 1.",
)
@click.option(
    "--wire",
    type=click.Choice(["json", "raw", "v2", "stream"]),
    help="The form of calls: JSON, the body of a field of bytes, binary tensors of the Open "
    "Inference Protocol, events. By default events where a function streams, else JSON.",
)
@header_option(
    "A header of every call, such as 'authorization: Bearer …' or one that a stage reads; may be "
    "repeated."
)
@click.option(
    "--sequence-calls",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    metavar="COUNT",
    help="Calls of each sequence, one after another, of functions that have sequences.",
)
@promise_option("latency_p50_ms", "Promise that half of the calls are answered within this")
@promise_option("latency_p95_ms", "The same of 95 of 100 calls")
@promise_option("latency_p99_ms", "The same of 99 of 100 calls")
@promise_option("success", "Promise this share of right answers, from 0 to 1", 1.0)
@promise_option(
    "warm", "Promise this share of calls that find the function loaded, from 0 to 1", 1.0
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Another gives other arrivals."
)
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_PROCESSES),
    default=1,
    show_default=True,
    help="That send.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 20_000),
    help="Of each process at once, at most; more calls wait, and count from their time. By default "
    "1000, or as many as a process may have files open.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=FiniteRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="After which a call is given up.",
)
@click.option(
    "--price",
    default="",
    metavar="UNIT=PRICE,…",
    help="By the hour, of a core and of a GB of memory: cpu=0.04,memory=0.005. The result then has "
    "the cost of 1,000 right answers.",
)
@click.option("--skip-bad", "should_skip", is_flag=True, help="Leave out damaged lines of files.")
@click.option(
    "--find-capacity",
    "finds_capacity",
    is_flag=True,
    help="Find the highest rate at which the promises hold, beginning at --rps: some minutes, and "
    "up to half an hour where latencies vary much (--for).",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="RUN.JSON",
    help="Compare with a run that --out wrote; a regression fails.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write run.json, calls.csv and report.html into this folder.",
)
@secrets_option
@json_option
@click.pass_context
def loadtest(
    ctx: click.Context, /, file: Path | None, url: str | None, trust: ClientFiles, **given: Any
) -> None:
    """Send the functions of FILE calls at a rate, and judge what they promise (`slo:`).

    Calls are sent when their time has come, whatever the server does, and their latency counts from
    then: a server that stalls hides nothing. Without --url FILE is served by a `wakeful run` of its
    own, which ends with the load test; with --url what is up there is called, and FILE, if it is
    given, says the promises and examples.

    Ctrl-C ends it with what there is.

    Exit status: 0 PASS, or nothing is promised; 1 FAIL; 2 UNSURE, and for how much longer to send;
    64 it cannot be run as it is asked for; 70 it broke; 130 interrupted before the load began.
    """
    for module in _NEEDED if given["out"] is None else (*_NEEDED, *NEEDED_BY_REPORT):
        require_module(module)
    from deployments.cli.operations.foreground import count_signals
    from deployments.cli.traffic.load_terminal import LoadLine
    from deployments.loadtest.generator.workers import GeneratorFailed
    from deployments.loadtest.preparation import make_plan, read_given, with_recordings
    from deployments.loadtest.results.files import read_run

    secrets, out = given.pop("secrets"), given.pop("out")
    if out is not None:
        _make_folder(out)
    as_json = given.pop("as_json")
    before = None if (against := given.pop("against")) is None else read_run(against)
    options = options_of(**given)
    if options.finds_capacity:
        _refuse_with_capacity(options, has_before=before is not None)
    rows = read_given(options)
    with (
        count_signals() as signals,
        LoadLine() as line,
        serving(file, url, trust, secrets, options, rows, line, signals) as target,
    ):
        options = with_recordings(target.options, target.served)
        if "cpu" in options.prices and target.processes is None:
            raise click.UsageError(
                "--price: the processor's time is that of processes of this machine, and the server"
                " is none that is known here. Leave `cpu=` out."
            )
        plan = make_plan(target.url, target.served, target.declared, options, rows, target.root)
        plan = replace(plan, trust=target.trust)
        try:
            if options.finds_capacity:
                finish = _send_capacity(plan, target, line, signals, options.seconds)
            else:
                finish = _send(plan, target, line, signals)
        except GeneratorFailed as error:
            click.echo(f"wakeful: {error}", err=True)
            ctx.exit(FAULT)
    ctx.exit(finish(out, before, as_json))


Finish = Callable[["Path | None", "Run | None", bool], int]
"""Writes and prints what came of it, when the server has ended; returns the exit status."""


def _send(plan: LoadPlan, target: LoadTarget, line: LoadLine, signals: SignalCounter) -> Finish:
    """One load test."""
    from deployments.loadtest.generator.rate_check import check_rate
    from deployments.loadtest.generator.running import run_load

    check_rate(plan)
    run = run_load(
        plan,
        processes=target.processes,
        on_progress=line.show,
        should_stop=lambda: signals.count > 0,
    )

    def finish(out: Path | None, before: Run | None, as_json: bool) -> int:
        from deployments.cli.traffic.load_terminal import print_run, run_as_json
        from deployments.loadtest.results.comparison import compare
        from deployments.loadtest.results.verdict import judge

        verdict = judge(run)
        comparison = None if before is None else compare(before, run)
        if as_json:
            echo_json(run_as_json(run, verdict, comparison))
        else:
            print_run(run, verdict, comparison)
        if out is not None:  # last: on a full disk what came of it has been told
            _write(run, verdict, before, out)
        return exit_status_of(verdict, comparison)

    return finish


def exit_status_of(verdict: Verdict, comparison: Comparison | None) -> int:
    """A broken promise, or what got worse, fails; else a load that cannot be compared is unsure."""
    if verdict.outcome == "FAIL" or (comparison is not None and comparison.has_regression):
        return FAIL
    if comparison is not None and comparison.other_load:
        return UNSURE
    return verdict.exit_status


def _send_capacity(
    plan: LoadPlan,
    target: LoadTarget,
    line: LoadLine,
    signals: SignalCounter,
    longest_s: float | None,
) -> Finish:
    """A search for the highest rate."""
    from deployments.loadtest.generator.finding import find_capacity
    from deployments.loadtest.generator.running import run_load
    from deployments.loadtest.results.capacity import LONGEST_SEARCH_S

    def should_stop() -> bool:
        return signals.count > 0

    def send(step: LoadPlan, words: str) -> Run:
        line.say(words)
        return run_load(
            step, processes=target.processes, on_progress=line.show, should_stop=should_stop
        )

    longest_s = LONGEST_SEARCH_S if longest_s is None else longest_s
    found = find_capacity(plan, send, longest_s=longest_s, should_stop=should_stop)

    def finish(out: Path | None, before: Run | None, as_json: bool) -> int:
        from deployments.cli.traffic.load_terminal import capacity_as_json, print_capacity
        from deployments.loadtest.results.verdict import judge

        if as_json:
            echo_json(capacity_as_json(found))
        else:
            print_capacity(found)
        if out is not None and found.best is not None:
            _write(found.best, judge(found.best), None, out)
        if found.capacity.is_converged:
            return 0
        return UNSURE if found.capacity.rate or found.is_partial else FAIL

    return finish


def _refuse_with_capacity(options: LoadOptions, *, has_before: bool) -> None:
    if options.shape != "steady":
        raise click.UsageError("--find-capacity sends at steady rates. Leave the shape out.")
    if options.seconds is not None and options.seconds < SHORTEST_SEARCH_S:
        raise click.UsageError(
            f"--find-capacity finds nothing in {options.seconds:g} s. Give it"
            f" {SHORTEST_SEARCH_S:g} s at least (`--for`), or leave --for out: it ends by itself."
        )
    if has_before:
        raise click.UsageError("--against compares one run. Leave --find-capacity out.")


def _write(run: Run, verdict: Verdict, before: Run | None, folder: Path) -> None:
    from deployments.loadtest.report import write_report
    from deployments.loadtest.results.files import write_run

    report = folder / REPORT_FILE
    try:
        write_run(run, folder)
        write_report(run, verdict, report, before)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{folder} cannot be written: {error}.") from None
    click.echo(f"report: {report}", err=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out: {folder} cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"--out: {folder} cannot be written into.")
