"""``wakeful scale``: runs the scaling policies on recorded or made-up calls; nothing is started."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import (
    FiniteRange,
    echo_json,
    file_argument,
    finite,
    json_option,
    read,
)
from deployments.cli.terminal import new_table, print_table

if TYPE_CHECKING:
    from deployments.scaling.simulation import FunctionCosts, Summary, Totals

MOST_CALLS: Final = 5_000_000
"""Of a trace that is made up: these take half a minute, and 0.7 GB while they are put in order."""


SERIES: Final = ("answers", "places", "cold_at")
"""Of a summary, what is as long as the trace."""

MIN_WIDTH: Final = 110
"""Characters of the table, also where the terminal has fewer: its numbers are not wrapped."""


@click.group()
def scale() -> None:
    """Try how functions scale and sleep, on recorded or made-up calls; nothing is started."""


@scale.command(short_help="Run a trace of calls through the policies.")
@click.argument("trace", type=click.Path(path_type=Path))
@file_argument
@click.option(
    "--cores",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Worker threads of the shared host.",
)
@click.option(
    "--cpus",
    type=FiniteRange(1),
    default=8.0,
    show_default=True,
    help="Logical CPUs of the cluster; the host takes one.",
)
@click.option(
    "--memory-mb",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="What functions in the host may hold together.",
)
@click.option(
    "--function-mb",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Memory of a loaded function.",
)
@click.option(
    "--service-s",
    type=FiniteRange(0),
    default=0.02,
    show_default=True,
    help="Worker seconds of a call without its own.",
)
@click.option(
    "--wake-s",
    type=FiniteRange(0),
    default=0.1,
    show_default=True,
    help="Seconds that a load in the host takes.",
)
@click.option(
    "--start-s",
    type=FiniteRange(0),
    default=2.0,
    show_default=True,
    help="Seconds until a replica of its own answers.",
)
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(path_type=Path),
    help="What `wakeful profile` measured: its functions have batches, wakes and memory of it.",
)
@click.option("--why", is_flag=True, help="Print every decision with its reason.")
@json_option
def replay(
    trace: Path,
    file: Path,
    *,
    profile_path: Path | None,
    why: bool,
    as_json: bool,
    **machine: Any,
) -> None:
    """Run the calls of TRACE through the tiers, scaling and sleep that FILE declares, and print
    what would have come of it.

    TRACE is a CSV file with a line for each call: `at_s`, seconds from the beginning; `function`,
    its name in FILE; and, if the file has the column, `service_s`, the seconds of one worker that
    the call takes. The first line names the columns:

    \b
      at_s,function,service_s
      0.00,embed,0.012
      0.35,embed,0.011
      7.20,forecast,

    `wakeful scale trace` makes one up. The policies are those that serve; the machine is a model: a
    call takes a worker for its seconds, loads and starts take the time given here. With --profile
    calls are batched, and take what their batches took when they were measured; `wakeful plan` goes
    on from there to machines and costs. For each function: the calls, those refused, those not
    answered within `request_timeout_s`, those that found it asleep; how long a call waited for a
    worker (median, 95 of 100, longest; cold starts included); the share of the time in each tier;
    the most replicas of its own, and their seconds together.
    """
    from deployments.scaling.simulation import SimulatedMachine
    from deployments.scaling.simulation import read_arrivals as read_trace
    from deployments.scaling.simulation import replay as run
    from runtime.settings import Settings

    settings = Settings.read(file=file)
    declared = read(file, settings)
    assumed = SimulatedMachine(
        cores=machine["cores"],
        cpus=machine["cpus"],
        memory_bytes=machine["memory_mb"] * 1_000_000,
        function_bytes=machine["function_mb"] * 1_000_000,
        service_s=machine["service_s"],
        wake_s=machine["wake_s"],
        start_s=machine["start_s"],
        costs=_costs(profile_path),
    )
    arrivals = read_trace(trace, {spec.name for spec in declared.functions})
    functions, totals = run(declared.functions, arrivals, assumed)
    if as_json:
        echo_json({"functions": [_to_json(entry) for entry in functions], "totals": asdict(totals)})
        return
    _print_table(functions, totals)
    for at, name, reason in sorted(
        (at, entry.function, reason) for entry in functions for at, reason in entry.decisions if why
    ):
        click.echo(f"{at:10.1f} s  {name}  {reason}")


@scale.command(short_help="Make up a trace of calls.")
@click.argument("rates", nargs=-1, required=True, metavar="FUNCTION=RATE...")
@click.option(
    "--for",
    "seconds",
    type=FiniteRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Length in seconds.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Another one gives other calls at the same rates.",
)
def trace(rates: tuple[str, ...], seconds: float, seed: int) -> None:
    """Print a CSV of independent calls, RATE a second of each FUNCTION: `wakeful scale trace
    embed=5 forecast=0.01 > trace.csv`.
    """
    from deployments.scaling.simulation import poisson_arrivals

    by_function: dict[str, float] = {}
    for name, rate in map(_parse_rate, rates):
        if name in by_function:
            raise click.BadParameter(f"{name!r} has two rates. Give it one.")
        by_function[name] = rate
    if (calls := seconds * sum(by_function.values())) > MOST_CALLS:
        raise click.BadParameter(
            f"that is {calls:,.0f} calls, {MOST_CALLS:,} at most are made up. Lower a rate, or"
            " `--for`."
        )
    click.echo("at_s,function")
    for arrival in poisson_arrivals(by_function, seconds, seed):
        click.echo(f"{arrival.at},{arrival.function}")


def _parse_rate(text: str) -> tuple[str, float]:
    from runtime.declaration.constrained_types import is_name
    from runtime.system.setting_values import to_number

    name, _, number = text.partition("=")
    rate = to_number(number)
    if not is_name(name) or not (math.isfinite(rate) and rate >= 0):
        raise click.BadParameter(
            f"{text!r} is given, FUNCTION=RATE is wanted, with calls a second: embed=5."
        )
    return name, rate


def _costs(path: Path | None) -> dict[str, FunctionCosts]:
    from deployments.scaling.planning.profiles import read_profile

    profiled = {} if path is None else read_profile(path).functions
    return {name: one.costs() for name, one in profiled.items()}


def _to_json(entry: Summary) -> dict[str, Any]:
    entry = replace(entry, answers=(), places=(), cold_at=())
    rest = {name: value for name, value in asdict(entry).items() if name not in SERIES}
    decisions = [{"at_s": round(at, 3), "why": reason} for at, reason in entry.decisions]
    told: dict[str, Any] = finite({**rest, "decisions": decisions})
    return told


def _print_table(functions: list[Summary], totals: Totals) -> None:
    from deployments.scaling.planning.words import duration

    table = new_table()
    table.add_column("function", overflow="fold")
    for column in (
        "calls",
        "refused",
        "expired",
        "cold",
        "waits: p50, p95, most",
        "host, own, asleep",
        "replicas",
        "replica-s",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in functions:
        table.add_row(
            entry.function,
            *map(str, (entry.calls, entry.refused, entry.expired, entry.cold_starts)),
            ", ".join(
                duration(seconds)
                for seconds in (entry.wait_p50_s, entry.wait_p95_s, entry.wait_max_s)
            ),
            ", ".join(
                f"{seconds / (totals.seconds or 1):.0%}"
                for seconds in (entry.host_s, entry.own_s, entry.asleep_s)
            ),
            str(entry.replicas),
            f"{entry.replica_s:.0f}",
        )
    print_table(table, min_width=MIN_WIDTH)
    click.echo(
        f"\n{totals.seconds:.0f} s; at most {totals.most_bytes / 1e6:.0f} MB; "
        f"{totals.replica_s:.0f} replica-seconds."
    )
