"""``wakeful profile``: measures functions on this machine. ``wakeful plan``: what a traffic needs,
by the scaling policies and a profile; nothing is started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from deployments.cli.options import (
    NEEDED_BY_REPORT,
    FiniteRange,
    check_url,
    echo_json,
    file_argument,
    finite,
    header_option,
    json_option,
    pick,
    read,
    require_module,
    with_key,
)
from deployments.cli.terminal import new_table, print_table

if TYPE_CHECKING:
    from deployments.scaling.planning.profiles import FunctionProfile, Profile
    from deployments.scaling.planning.traffic import PlannedTraffic
    from deployments.scaling.planning.traffic_plan import MachineSize, TrafficPlan
    from runtime.declaration.function_spec import FunctionSpec
    from runtime.graph.resolve import ResolvedConfig
    from runtime.settings import Settings

PROFILE: Final = "profile.json"

SECONDS: Final = 600.0
"""Of a rate that are looked at."""

MIN_WIDTH: Final = 120

Read = TypeVar("Read")

function_option = click.option(
    "--function",
    "names",
    multiple=True,
    metavar="NAME",
    help="One of FILE's functions; may be given again. By default all.",
)


@click.command(short_help="Measure functions on this machine, for `plan`.")
@file_argument
@function_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=PROFILE,
    show_default=True,
    help="File to write; functions that it has of this machine already stay in it.",
)
@click.option(
    "--seconds",
    type=FiniteRange(1, 3600),
    default=40.0,
    show_default=True,
    help="For the batches of each function; its load, wakes and HTTP come on top.",
)
@click.option(
    "--url",
    callback=check_url,
    help="Where the functions are served: what a call takes over HTTP is then measured there, with "
    "all that stands before them. By default on loopback, in this process.",
)
@header_option(
    "A header of every call over HTTP, such as 'authorization: Bearer …' or one that a stage reads;"
    " may be repeated."
)
@json_option
def profile(
    file: Path,
    names: tuple[str, ...],
    out: Path,
    seconds: float,
    url: str | None,
    headers: Mapping[str, str],
    as_json: bool,
) -> None:
    """Measure the functions of FILE on this machine, about a minute each: what batches take by rows
    and by length of a row, what a call takes over HTTP beside them, what a wake takes, and the
    memory. The result is written as JSON, with the machine and the versions that it holds for;
    `wakeful plan` reads it.

    Nothing has to be up. Each function is loaded in this process and called with its `example`,
    whose texts and lists are repeated for longer rows where it takes them. Measure on a machine
    that does nothing else.
    """
    from deployments.cli.terminal import Progress
    from deployments.scaling.planning import measure, profiles
    from runtime.graph.resolve import resolve
    from runtime.settings import Settings

    with _as_usage_errors():
        profiles.refuse_other_file(out)
    settings = Settings.read(file=file)
    config = resolve(read(file, settings), settings)
    chosen = _chosen(names, [spec.name for spec in config.functions])
    machine, held = profiles.this_machine(), measure.process_bytes()
    found: dict[str, FunctionProfile] = {}
    with Progress("measuring") as progress, _as_usage_errors():
        for name, one in measure.measure(
            config,
            settings,
            chosen,
            seconds=seconds,
            url=url or "",
            headers=with_key(headers),
            on_step=lambda name, step: progress("measuring", {"name": name, "what": step}),
        ):
            found[name] = one
    made = profiles.make_profile(found, machine, held)
    try:
        profiles.write_profile(made, out)
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written: {error.strerror or error}."
        ) from error
    if as_json:
        echo_json(made.model_dump(mode="json"))
        return
    _print_profile(found)
    click.echo(f"\nwritten: {out}. `wakeful plan {file} --rps …` reads it.")


def _chosen(names: Sequence[str], known: list[str]) -> list[str]:
    return [pick(name, known) for name in dict.fromkeys(names)] if names else known


def _print_profile(found: Mapping[str, FunctionProfile]) -> None:
    from deployments.scaling.planning.words import duration

    table = new_table()
    table.add_column("function", overflow="fold")
    columns = ("a row", "of the largest batch", "beside others", "over HTTP", "wake", "memory")
    for column in (*columns, "rows"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in found.items():
        usual = [batch for batch in one.batches if batch.length == one.batches[0].length]
        largest = usual[-1]
        lengths = sorted({batch.length for batch in one.batches})
        table.add_row(
            name,
            duration(one.batches[0].seconds),
            f"{duration(largest.seconds / largest.rows)} of {largest.rows}",
            f"{one.crowded:.2f} x",
            duration(one.call_s),
            duration(one.wake_s["total"]),
            f"{one.memory_bytes / 1e6:.0f} MB"
            + (f", GPU {one.gpu_memory_mb} MB" if one.gpu_memory_mb else ""),
            f"{lengths[0]:g} to {lengths[-1]:g} long" if len(lengths) > 1 else "one length",
        )
    print_table(table, min_width=MIN_WIDTH)
    for name, one in found.items():
        for note in one.notes:
            click.echo(f"{name}: {note}")


@click.command(short_help="What a traffic needs: replicas, memory, machines, p95, cost.")
@file_argument
@click.option(
    "--rps",
    "rates",
    multiple=True,
    metavar="[NAME=]RATE",
    help="Calls a second, independent of each other; may be given again, for each function.",
)
@click.option(
    "--shape",
    show_default="steady",
    metavar="NAME[:KEY=NUMBER,…]",
    help="How `--rps` goes with time, as of `wakeful loadtest`: day, burst:factor=5, ramp, spike.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Recorded calls instead: a CSV as of `wakeful scale`, or a capture (.jsonl).",
)
@click.option("--skip-bad", is_flag=True, help="Leave out damaged lines of a capture.")
@click.option(
    "--for",
    "seconds",
    type=FiniteRange(10, 31 * 86400),
    show_default="600",
    help="Seconds of `--rps` that are looked at; of a steady rate, after a minute to start with.",
)
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(path_type=Path),
    default=PROFILE,
    show_default=True,
    help="What `wakeful profile` has written.",
)
@click.option(
    "--price",
    "prices",
    default="",
    metavar="UNIT=PRICE,…",
    help="By the hour: of a core, a GPU, a GB of memory: cpu=0.04,gpu=1.2,memory=0.005.",
)
@click.option(
    "--p95-ms",
    type=FiniteRange(0, min_open=True),
    help="p95 to plan for, instead of each function's `slo.latency_p95_ms`.",
)
@click.option(
    "--machine",
    default="",
    metavar="KEY=NUMBER,…",
    help="Size of a machine: cores=4,memory=16,gpus=1, memory in GB. By default this one.",
)
@click.option(
    "--machines",
    type=click.IntRange(1, 1000),
    help="How many there are. By default as few as everything fits on.",
)
@click.option(
    "--start-s",
    type=FiniteRange(0, 3600),
    default=2.0,
    show_default=True,
    help="Seconds until a replica of its own answers.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is random.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the plan as one HTML page too, with its plots.",
)
@json_option
def plan(
    file: Path,
    rates: tuple[str, ...],
    shape: str | None,
    trace: Path | None,
    skip_bad: bool,
    seconds: float | None,
    profile_path: Path,
    prices: str,
    p95_ms: float | None,
    machine: str,
    machines: int | None,
    start_s: float,
    seed: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """What a traffic needs of FILE's functions: replicas, memory and machines, how many wakes there
    are, which share of the calls finds its function warm, p95, and with prices the cost of 1,000
    calls and of a month. Nothing is started.

    The calls of `--rps` or `--trace` run through the policies that serve: batching, tiers, scaling
    and sleep, several times where they are few enough, so that numbers have a range. How long
    batches, calls and wakes take is what `wakeful profile` measured. Of other machines than the
    profile's, and of a GPU that it has not seen, nothing is known: that is said beside the numbers,
    and none is made up. PASS, FAIL, or UNSURE: a promised latency lies within its range.

    \b
      wakeful profile --function embed
      wakeful plan --rps embed=200 --price cpu=0.04,memory=0.005
      wakeful plan --trace calls.jsonl --p95-ms 50 --machine cores=4,memory=16
    """
    from deployments.scaling.planning import costs, needs, profiles
    from runtime.settings import Settings

    for module in NEEDED_BY_REPORT if report is not None else ():
        require_module(module)
    if bool(rates) == (trace is not None):
        raise click.UsageError("Which traffic? Give either `--rps` or `--trace`.")
    _refuse_unused(trace, shape, seconds, skip_bad=skip_bad)
    settings = Settings.read(file=file)
    profile = profiles.read_profile(profile_path)
    specs = _specs(file, settings)
    if p95_ms is not None:
        specs = {name: needs.promising(spec, p95_ms) for name, spec in specs.items()}
    here = profiles.this_machine()
    with _as_usage_errors(), _spinner("running the calls through the policies"):
        traffic = (
            _made_up(rates, list(specs), shape or "steady", seconds or SECONDS, seed)
            if trace is None
            else _recorded(trace, specs, profile, seed, skip_bad=skip_bad)
        )
        found = needs.make_plan(
            specs,
            profile,
            traffic,
            _machine_size(machine, profile, settings),
            costs.parse_prices(prices),
            machines=machines,
            start_s=start_s,
            seed=seed,
        )
    called = {name: specs[name] for name in traffic.functions}
    doubts = profile.doubts(called, here)
    if report is not None:
        _write_page(found, profile, doubts, report)
    if as_json:
        echo_json({**_to_json(found), "doubts": doubts})
        return
    _print_plan(found, doubts)


def _refuse_unused(
    trace: Path | None, shape: str | None, seconds: float | None, *, skip_bad: bool
) -> None:
    """Raises what an option says that the other traffic has no use for."""
    if trace is not None and (shape is not None or seconds is not None):
        unused = "--for" if shape is None else "--shape"
        raise click.UsageError(f"{unused} is of `--rps`; recorded calls have their times.")
    if skip_bad and (trace is None or trace.suffix.lower() == ".csv"):
        raise click.UsageError("--skip-bad is of captures (.jsonl).")


@contextmanager
def _as_usage_errors() -> Iterator[None]:
    """What an option says wrongly ends as a wrong command line does."""
    from runtime.errors import RequestError

    try:
        yield
    except RequestError as error:
        if not error.where.startswith("--"):
            raise
        raise click.BadParameter(error.message, param_hint=f"'{error.where}'") from error


def _spinner(what: str) -> AbstractContextManager[object]:
    """Says what goes on, on a terminal: a long trace takes a minute."""
    from rich.console import Console

    return Console(stderr=True).status(f"{what} …")


def _specs(file: Path, settings: Settings) -> dict[str, FunctionSpec]:
    """The functions as one process serves them, so that a version can be compared."""
    from runtime.graph.resolve import resolve

    config: ResolvedConfig = resolve(read(file, settings), settings)
    return {spec.name: spec for spec in config.functions}


def _made_up(
    texts: Sequence[str], known: Sequence[str], shape: str, seconds: float, seed: int
) -> PlannedTraffic:
    from deployments.loadtest.arrivals import make_arrivals, parse_shape
    from deployments.scaling.planning import traffic

    rates = traffic.parse_rates(texts, known)
    if shape == "steady":
        return traffic.steady_traffic(rates, seconds, seed)
    if shape.partition(":")[0] == "trace":
        raise click.UsageError("recorded calls are planned for with `--trace FILE`.")
    made = parse_shape(shape, {}, rates, seconds)
    return traffic.shaped_traffic(
        str(made), partial(make_arrivals, made), made.average_rates, seconds, seed
    )


def _recorded(
    trace: Path, specs: Mapping[str, FunctionSpec], profile: Profile, seed: int, *, skip_bad: bool
) -> PlannedTraffic:
    from deployments.loadtest.calls.captures import read_capture
    from deployments.scaling.planning import traffic

    if trace.suffix.lower() == ".csv":
        return traffic.listed_traffic(trace, list(specs))
    found = read_capture(trace, skip_bad=skip_bad)
    name = pick(found.function, list(specs))
    return traffic.captured_traffic(
        f"{trace}{f', {found.skipped} damaged lines left out' if found.skipped else ''}",
        name,
        specs[name].route_prefix,
        found.calls,
        profile.function(name).length_of,
        seed,
    )


BOUNDS: Final = {"cores": (1.0, 4096.0), "memory": (0.1, 1e6), "gpus": (0.0, 64.0)}
"""The least and the most of a machine, by the keys of ``--machine``."""


def _machine_size(text: str, profile: Profile, settings: Settings) -> MachineSize:
    """Of ``cores=4,memory=16,gpus=1``; what it leaves out is as the profile's machine has it.

    Raises:
        RequestError: an unknown key, or no number that a machine can have.
    """
    from deployments.scaling.planning.traffic_plan import MachineSize
    from runtime.errors import RequestError
    from runtime.system.setting_values import to_number

    mine = profile.machine
    size = {"cores": float(mine.cores), "memory": mine.memory_bytes / 1e9, "gpus": len(mine.gpus)}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, number = part.partition("=")
        least, most = BOUNDS.get(key, (0.0, -1.0))
        value = to_number(number)
        is_whole = key == "memory" or value.is_integer()
        if not least <= value <= most or not is_whole:
            raise RequestError(
                f"{part!r} is given, one of cores=, memory= (GB) and gpus= with a number is wanted:"
                " cores=4,memory=16.",
                where="--machine",
            )
        size[key] = value
    return MachineSize(
        cores=int(size["cores"]),
        memory_bytes=int(size["memory"] * 1e9),
        gpus=int(size["gpus"]),
        cpus_per_core=settings.cpus_per_core,
        host_mb=settings.memory_mb,
    )


def _to_json(found: TrafficPlan) -> dict[str, Any]:
    functions = [
        {
            **asdict(one),
            "held_s": one.held_s,
            "gpu_s": one.gpu_s,
            "holds": one.holds,
            "broken": one.broken,
            "unsure": one.unsure,
            "outcome": one.outcome,
        }
        for one in found.functions
    ]
    held = {"holds": found.holds, "outcome": found.outcome}
    told: dict[str, Any] = finite({**asdict(found), **held, "functions": functions})
    return told


def _print_plan(found: TrafficPlan, doubts: Sequence[str]) -> None:
    from deployments.scaling.planning import words
    from deployments.scaling.planning.charts import chart

    for doubt in doubts:
        click.echo(f"careful: {doubt}", err=True)
    click.echo(f"{found.traffic}; {found.seconds:.0f} s of it\n")
    table, columns = new_table(), words.columns_of(found)
    table.add_column("function", overflow="fold")
    for head, _ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for one in found.functions:
        table.add_row(one.function, *(cell(one) for _, cell in columns))
    print_table(table, min_width=MIN_WIDTH)
    click.echo("")
    for one in found.functions:
        for name, blocks, most in chart(one):
            click.echo(f"{one.function} {name:8} {blocks} {most}")
    click.echo("\n" + "\n".join([*words.totals_of(found), words.sentence_of(found)]))
    for note in found.notes:
        click.echo(f"note: {note}")


def _write_page(found: TrafficPlan, profile: Profile, doubts: Sequence[str], path: Path) -> None:
    from deployments.loadtest.report import write_plan

    try:
        write_plan(found, profile, doubts, path)
    except OSError as error:
        raise click.ClickException(
            f"{path} cannot be written: {error.strerror or error}."
        ) from error
    click.echo(f"report: {path}", err=True)
