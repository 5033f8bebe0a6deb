"""``wakeful up``: serve a file on Ray, until Ctrl-C or in the background."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.options import checked, file_argument, secrets_option
from deployments.cli.signals import INTERRUPTED, counted
from deployments.cli.staying import Words, stay
from runtime.errors import DeclarationError

if TYPE_CHECKING:
    from deployments.cli.progress import Progress
    from deployments.home import Home
    from deployments.rollout import Outcome
    from runtime.probe import Probe
    from runtime.settings import Settings
    from runtime.specfile import ServeFile

ENDING: Final = Words(
    "stopping", "down.", "Ray ended by itself; what was left of it has been taken down. `wakeful logs` shows what the functions wrote."
)

LISTED: Final = 20
"""Functions printed with a line that calls them."""


@click.command(short_help="Serve a file's functions on Ray.")
@file_argument
@click.option("--detach", is_flag=True, help="Return once every function is ready or asleep; `wakeful down` ends it.")
@click.option("--host", help="Address to serve on; before WAKEFUL_HOST, that before the file's.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on; before WAKEFUL_PORT, that before the file's.")
@secrets_option
@click.option("--address", metavar="HOST:PORT", help="Join the Ray cluster there instead of starting one; it needs `wakeful env`.")
@click.option(
    "--node-ip-address",
    metavar="IP",
    help="This machine's address, on which others may join the cluster (`wakeful join`); by default none may.",
)
@click.option("--num-gpus", type=click.IntRange(min=0), help="GPUs that a Ray started here shall believe in; by default those it finds.")
@click.pass_context
def up(
    ctx: click.Context,
    file: Path,
    detach: bool,
    host: str | None,
    port: int | None,
    secrets: Path | None,
    address: str | None,
    node_ip_address: str | None,
    num_gpus: int | None,
) -> None:
    """Serve the functions of FILE on Ray.

    FILE is checked first; what is wrong is printed with its line, and nothing starts. Then a Ray of our own starts on this machine
    (loopback, token, no dashboard), or a running one is joined. Each function is printed with its URL and a line that calls it.

    Stays until Ctrl-C or SIGTERM, which drain and take everything down. Run again while it is up, it applies what changed in FILE, in
    the code of stages, in models and in files that stages are given: a function's former version serves until the new one is warm, and
    goes on serving if that does not start.
    """
    from deployments.cli.progress import Progress
    from deployments.cluster import Cluster, Request
    from deployments.fitting import Devices, unfit
    from deployments.headoptions import LOOPBACK
    from deployments.home import Home
    from deployments.plan import plan
    from deployments.sameness import named, pinned
    from deployments.sealing import seal, withhold
    from runtime.contents import written
    from runtime.settings import Settings

    settings = Settings.read(secrets=secrets)
    declared = checked(file, settings)
    home = Home()
    home.prepare()
    standing = Cluster(home).current()
    is_open = bool(address or node_ip_address or (standing and standing.is_open))
    if is_open:
        _refuse_loopback(node_ip_address, host or settings.host or declared.http_host)
        declared = pinned(declared, settings)
    declared = written(declared, settings)
    declared, carried = seal(declared, settings.secrets, home.key())
    withhold(declared)
    with _interruptible():
        try:
            with Progress("probing") as progress:
                probes = _probed(declared, settings, progress)
                if problems := unfit(declared, probes, Devices.of(settings, num_gpus, joined=address is not None)):
                    raise DeclarationError(problems)
                wanted = plan(declared, settings, probes, host=host, port=port, is_open=is_open)
                names = tuple(named(declared.functions, settings)) if is_open else ()
                request = Request(wanted, settings, str(file.resolve()), address, num_gpus, carried, node_ip_address or LOOPBACK, names)
                outcome = Cluster(home, progress).up(request)
        except KeyboardInterrupt:
            click.echo("interrupted; what was started has been taken down.", err=True)
            ctx.exit(INTERRUPTED)
        with counted() as signals:  # from here on no signal leaves what is up between two lines
            ok = _report(home, outcome, declared, settings)
            if not ok and (detach or outcome.failed or outcome.refused):
                ctx.exit(1)
            if detach or not outcome.fresh:
                return
            click.echo("\nCtrl-C drains and takes everything down; a second one does not wait.")
            ctx.exit(stay(home, settings.drain_s, signals, ENDING))


def _refuse_loopback(node_ip: str | None, host: str) -> None:
    """HTTP goes from any machine's HAProxy into replicas on any other."""
    from deployments.ports import is_loopback

    if node_ip and is_loopback(host):
        raise click.UsageError(f"HTTP is to listen on {host}, where no other machine reaches it. Add `--host 0.0.0.0`.")


def _probed(declared: ServeFile, settings: Settings, told: Progress) -> dict[str, Probe]:
    """Every function, loaded once in a process of its own with a replica's environment, by name; those for a GPU are skipped where
    there is none.

    Raises:
        DeclarationError: with every function that does not load.
    """
    from deployments.fitting import probing
    from deployments.rayenv import SERVING, mapping
    from runtime.probe import probe_all

    environment = {**mapping(variable for variable in SERVING if not variable.name.startswith("RAY_")), **probing()}
    found = probe_all(declared.functions, settings, lambda probe: told("probe", asdict(probe)), environment=environment)
    probes = {probe.name: probe for probe in found}
    broken = [declared.problem(declared.key_of(probe.name), f"does not load: {probe.error}") for probe in probes.values() if probe.error]
    if broken:
        raise DeclarationError(sorted(broken, key=lambda problem: problem.line))
    return probes


def _report(home: Home, outcome: Outcome, declared: ServeFile, settings: Settings) -> bool:
    """Print what is served and what is not; whether everything is. If nothing was up before and a function failed, nothing is after."""
    from deployments import shares
    from deployments.cluster import Cluster
    from deployments.reasons import reason
    from deployments.samples import curl

    failed = outcome.failed
    for state in failed:
        click.echo(f"{state['name']} failed: {reason(state['message'])}", err=True)
    if failed and outcome.fresh:
        Cluster(home).down()
        click.echo("Everything was taken down again, since nothing was up before. `wakeful logs` still shows what it wrote.", err=True)
        return False
    states = {state["name"]: state for state in outcome.states}
    whose = {entry.name: entry.part_of for entry in outcome.up.deployed}
    functions = [spec for spec in declared.functions if not whose.get(spec.name)]
    for spec in functions[:LISTED]:
        if (state := states.get(spec.name, {"state": "failed"}))["state"] != "failed":
            url = outcome.up.url + spec.route_prefix
            click.echo(f"\n{spec.name} is {state['state']}: {url}\n  {curl(spec, url, settings)}")
            for part in [states[name] for name, function in whose.items() if function == spec.name and name in states]:
                click.echo(f"  {part['name']}, a stage of it, is {part['state']}.")
    if len(functions) > LISTED:
        click.echo(f"\nand {len(functions) - LISTED} more; `wakeful status` lists them.")
    if outcome.up.is_open and outcome.up.kind == "own":
        join = f"wakeful join {outcome.up.address} --token-file token"
        click.echo(f"\nOther machines join with a copy of {home.path / 'token'}:\n  {join}")
    resources = {entry.name: entry.resources for entry in outcome.up.deployed}
    held = shares.running({name: state["replicas"] for name, state in states.items()}, resources)
    for state in outcome.waiting:
        wants = resources.get(state["name"], {})
        name = state["name"]
        meanwhile = f" The version before serves until then; `wakeful down {name}` makes its room free." if state["replicas"] else ""
        click.echo(f"\n{state['name']} {reason(state['message'], wants, held)}{meanwhile}", err=True)
    for name, why in outcome.refused.items():
        click.echo(f"\n{name} keeps the version before; the new one did not start: {why}", err=True)
    return not (failed or outcome.waiting or outcome.refused)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, are Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
