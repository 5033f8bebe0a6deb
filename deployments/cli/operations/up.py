"""``wakeful up``: serves a file on Ray, until Ctrl-C or in the background, and prints a curl line
for each function. ``wakeful down``: takes a function, or everything, down.
"""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.operations.foreground import (
    INTERRUPTED,
    StatusWords,
    count_signals,
    handle_signals,
    stay_attached,
)
from deployments.cli.options import (
    LISTED,
    check_address,
    complete_function,
    curl_example,
    file_argument,
    insecure_option,
    keys_asked_for,
    port_option,
    require_module,
    resolve_for_cluster,
    secrets_option,
)
from deployments.cli.terminal import Progress
from runtime.errors import DeclarationError

if TYPE_CHECKING:
    from deployments.preflight import LoadResult
    from deployments.ray_support.state_dir import ClusterState, StateDir
    from deployments.rollout.prepare import DeployableConfig
    from deployments.rollout.rollout import RolloutOutcome
    from runtime.declaration.config_file import ConfigFile
    from runtime.errors import Problem
    from runtime.graph.resolve import ResolvedConfig
    from runtime.settings import Settings


NOT_OURS: Final = (
    "no effect on this cluster, whose HAProxy `up` does not configure; let what stands in front of "
    "it {}."
)

NO_KEYS: Final = (
    "this cluster's HAProxy, which `up` does not configure, compares no keys, and would serve "
    "whatever reaches it. Let what stands in front of it ask for them, and delete the key."
)

ENDING: Final = StatusWords(
    "stopping",
    "down.",
    "Ray ended by itself; what was left of it has been taken down. `wakeful logs` shows what the "
    "functions wrote.",
)


@click.command(short_help="Serve a file's functions on Ray.")
@file_argument
@click.option(
    "--detach",
    is_flag=True,
    help="Return once every function is ready or asleep; `wakeful down` ends it.",
)
@click.option("--host", help="Address to serve on; before WAKEFUL_HOST, that before the file's.")
@port_option
@secrets_option
@click.option(
    "--address",
    metavar="HOST:PORT",
    callback=check_address,
    help="Join the Ray cluster there instead of starting one; it needs `wakeful env`.",
)
@click.option(
    "--node-ip-address",
    metavar="IP",
    help="This machine's address, on which others may join the cluster (`wakeful join`); by "
    "default none may.",
)
@click.option(
    "--num-gpus",
    type=click.IntRange(min=0),
    help="GPUs that a Ray started here shall believe in; by default those it finds.",
)
@insecure_option
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
    insecure: bool,
) -> None:
    """Serve the functions of FILE on Ray.

    FILE is checked first; what is wrong is printed with its line, and nothing starts. Then a Ray of
    our own starts on this machine (loopback, token, no dashboard), or a running one is joined. Each
    function is printed with its URL and a line that calls it.

    Stays until Ctrl-C or SIGTERM, which drain and take everything down. Run again while it is up,
    it applies what changed in FILE, in the code of stages, in models and in files that stages are
    given: a function's former version serves until the new one is warm, and goes on serving if that
    does not start. Ctrl-C before the end of that leaves everything as it was.

    Calls need keys (`wakeful keys`) where FILE says `http.auth`, and where other machines reach the
    address; without a key that is refused, unless --insecure is said.
    """
    from deployments.cluster.cluster import Cluster
    from deployments.cluster.up_request import DriverRequest, refuse_move
    from deployments.preflight.gpu_fit import Devices, gpu_problems
    from deployments.ray_support import ports
    from deployments.ray_support.environment import LOOPBACK
    from deployments.ray_support.state_dir import StateDir
    from deployments.rollout.plan import plan
    from deployments.rollout.prepare import prepare_for_deployment, remove_from_environment
    from deployments.rollout.rollout import UpdateInterrupted
    from runtime.settings import Settings
    from runtime.system.telemetry.exports import SPAN_EXPORTER

    if address and (num_gpus is not None or node_ip_address):
        flag = "--node-ip-address" if node_ip_address else "--num-gpus"
        raise click.UsageError(
            f"{flag} is about a Ray that `up` starts, and --address joins one. Give one of them."
        )
    require_module("ray")
    settings = Settings.read(secrets=secrets, file=file)
    if settings.trace_sampler is not None:  # else each replica would say so, and none would serve
        require_module(SPAN_EXPORTER)
    resolved = resolve_for_cluster(file, settings)
    state_dir = StateDir()
    state_dir.prepare()
    current = Cluster(state_dir).current()
    port, has_any_port = _choose_port(port, settings.port, current)
    if port == 0:
        port = ports.find_free(host or LOOPBACK, 0)
    if current is not None:  # before everything is probed
        refuse_move(
            current,
            host or settings.host or resolved.file.http_host,
            port or settings.port or resolved.file.http_port,
        )
    is_open = bool(address or node_ip_address or (current and current.is_open))
    if is_open:
        _refuse_loopback(node_ip_address, host or settings.host or resolved.file.http_host)
    auth = _auth(resolved.file, settings, host, address, insecure)
    if (tls := _tls_problem(resolved.file, is_open=is_open, is_joined=bool(address))) is not None:
        raise DeclarationError([tls])
    for key, value, task in (
        ("cors", resolved.file.cors, "answer preflights"),
        ("connections_per_address", resolved.file.connections_per_address, "bound connections"),
    ):
        if address and value is not None:
            problem = resolved.file.problem(f"http.{key}", NOT_OURS.format(task))
            click.echo(f"warning: {problem}", err=True)
    config = prepare_for_deployment(
        resolved, settings, secret_key=state_dir.key(), should_pin=is_open
    )
    remove_from_environment(config.specs)
    with handle_signals(_interrupt, signal.SIGTERM, signal.SIGHUP):
        try:
            with Progress("probing") as progress:
                results = _load_all_once(config, settings, progress)
                devices = Devices.of(settings, num_gpus, joined=address is not None)
                if problems := gpu_problems(resolved, results, devices):
                    raise DeclarationError(problems)
                if untried := [
                    spec.name
                    for spec in config.specs
                    if not (spec.is_tried or spec.deployed.part_of)
                ]:
                    progress("untried", {"names": untried})
                request = DriverRequest(
                    plan(
                        config,
                        settings,
                        results,
                        host=host,
                        port=port,
                        is_open=is_open,
                        auth=auth,
                    ),
                    settings,
                    str(file.resolve()),
                    address,
                    num_gpus,
                    config.secret_values,
                    node_ip_address or LOOPBACK,
                    has_any_port,
                )
                outcome = Cluster(state_dir, progress).up(request)
        except UpdateInterrupted as interrupted:
            click.echo(f"interrupted; {interrupted.outcome}", err=True)
            ctx.exit(INTERRUPTED)
        except KeyboardInterrupt:
            click.echo(f"interrupted; {_after_interrupt(state_dir, current)}", err=True)
            ctx.exit(INTERRUPTED)
        # from here on no signal cuts what is printed
        with count_signals() as signals:
            is_all_up = _report(state_dir, outcome, resolved)
            returns = detach or not outcome.fresh
            if not is_all_up and (returns or outcome.failed):
                ctx.exit(1)
            if returns:
                return
            click.echo("\nCtrl-C drains and takes everything down; a second one does not wait.")
            ctx.exit(stay_attached(state_dir, settings.drain_s, signals, ENDING))


def _auth(
    file: ConfigFile, settings: Settings, host: str | None, address: str | None, insecure: bool
) -> dict[str, Any] | None:
    """The keys that calls need, as ``ClusterState`` has them; None: they need none.

    Args:
        host, address: of the command line.

    Raises:
        DeclarationError: keys are declared, and nothing on this cluster would compare them.
        OpenToStrangers: other machines would reach it, and that was not asked for.
    """
    from deployments.ray_support.ports import is_loopback
    from runtime.declaration.access.asked import OpenToStrangers

    listened = host or settings.host or file.http_host
    if address and file.auth is not None:
        raise DeclarationError([file.problem("http.auth", NO_KEYS)])
    if address and not insecure and not is_loopback(listened):
        raise OpenToStrangers(
            f"{listened} is reached from other machines, and this cluster's HAProxy, which `up` "
            "does not configure, compares no keys. Say `--insecure` where something in front of it"
            " keeps strangers out."
        )
    keys = keys_asked_for(file.auth, settings, listened, is_insecure=insecure)
    if keys is None:
        return None
    declared = () if file.auth is None else file.auth.keys
    return {
        "file": str(keys.path),
        "keys": [key.model_dump(mode="json", exclude_none=True) for key in declared],
    }


def _choose_port(
    named: int | None, in_environment: int | None, current: ClusterState | None
) -> tuple[int | None, bool]:
    """The port to serve on, and whether any would do: 0 is a free one, None the file's.

    Args:
        named: by the command line.
        current: what is up; one that was started on any port is left where it is.
    """
    is_any = named == 0 or (named is None and not in_environment and current is not None)
    if current is None or not is_any or not (named == 0 or current.has_any_port):
        return named, named == 0
    return current.port, current.has_any_port


def _refuse_loopback(node_ip: str | None, host: str) -> None:
    """Each machine's HAProxy sends calls to replicas on every other machine."""
    from deployments.ray_support.ports import is_loopback

    if node_ip and is_loopback(host):
        raise click.UsageError(
            f"HTTP is to listen on {host}, where no other machine reaches it. Add `--host 0.0.0.0`."
        )


def _tls_problem(file: ConfigFile, *, is_open: bool, is_joined: bool) -> Problem | None:
    """Why TLS of the file cannot be ended; None: it can, or there is none."""
    from deployments.ingress.tls.files import NO_HAPROXY, ONE_HAPROXY, ONLY_OURS, tls_problem
    from deployments.ray_support.environment import ingress_variables

    if file.tls is None:
        return None
    if is_joined:
        return tls_problem(file, ONLY_OURS)
    if not ingress_variables():
        return tls_problem(file, NO_HAPROXY)
    if is_open and file.raw.get("proxy_location") not in (None, "EveryNode"):
        return tls_problem(file, ONE_HAPROXY)
    return None


def _load_all_once(
    config: DeployableConfig, settings: Settings, progress: Progress
) -> dict[str, LoadResult]:
    """Every function, loaded once in a process of its own with a replica's environment, by name;
    those for a GPU are skipped where there is none.

    Raises:
        DeclarationError: with every function that does not load.
    """
    from deployments.preflight import load_all_once
    from deployments.preflight.gpu_fit import load_environment
    from deployments.ray_support.environment import library_variables

    results = load_all_once(
        config.specs,
        settings,
        lambda result: progress("probe", asdict(result)),
        environment={**library_variables(), **load_environment()},
    )
    broken = [
        config.resolved.file.problem(
            config.resolved.key_of(result.name), f"does not load: {result.error}"
        )
        for result in results
        if result.error
    ]
    if broken:
        raise DeclarationError(sorted(broken, key=lambda problem: problem.line))
    return {result.name: result for result in results}


def _report(state_dir: StateDir, outcome: RolloutOutcome, resolved: ResolvedConfig) -> bool:
    """Prints what is served and what is not; returns whether everything is. If nothing was up
    before and a function failed, everything is taken down again.
    """
    from deployments.cluster.cluster import Cluster
    from deployments.observability.status_messages import waiting_reason

    for state in outcome.failed:
        click.echo(f"{state.name} failed: {waiting_reason(state.message)}", err=True)
    if outcome.failed and outcome.fresh:
        Cluster(state_dir).down()
        click.echo(
            "Everything was taken down again, since nothing was up before. `wakeful logs` still "
            "shows what it wrote.",
            err=True,
        )
        return False
    _report_served(outcome, resolved)
    if outcome.up.is_open and outcome.up.kind == "own":
        join = f"wakeful join {outcome.up.address} --token-file token"
        click.echo(f"\nOther machines join with a copy of {state_dir.path / 'token'}:\n  {join}")
    _report_waiting(outcome)
    for name, why in outcome.refused.items():
        click.echo(f"\n{name} keeps the version before; the new one did not start: {why}", err=True)
    return not (outcome.failed or outcome.waiting or outcome.refused)


def _report_served(outcome: RolloutOutcome, resolved: ResolvedConfig) -> None:
    """Each function with its state, its URL and a line that calls it."""
    states = {state.name: state.state for state in outcome.states}
    parents = {entry.name: entry.part_of for entry in outcome.up.deployed}
    functions = [spec for spec in resolved.functions if not parents.get(spec.name)]
    for spec in functions[:LISTED]:
        state = states.get(spec.name, "failed")
        if state == "failed":
            continue
        url = outcome.up.url + spec.route_prefix
        assembly, tls = resolved.assemblies.get(spec.name), resolved.file.tls
        curl = curl_example(spec, assembly, url, tls, has_key=outcome.up.auth is not None)
        click.echo(f"\n{spec.name} is {state}: {url}\n  {curl}")
        for name, parent in parents.items():
            if parent == spec.name and name in states:
                click.echo(f"  {name}, a stage of it, is {states[name]}.")
    if len(functions) > LISTED:
        click.echo(f"\nand {len(functions) - LISTED} more; `wakeful status` lists them.")
    if resolved.file.catalogue is not None and outcome.up.auth is None:
        page = "console" if resolved.file.has_console else "docs"
        click.echo(f"\n{outcome.up.url}/{page} in a browser shows what is served, and tries it.")


def _report_waiting(outcome: RolloutOutcome) -> None:
    """Each application that waits for resources, with what holds them."""
    from deployments.observability.status_messages import running_shares, waiting_reason

    resources = {entry.name: entry.resources for entry in outcome.up.deployed}
    held = running_shares({state.name: state.replicas for state in outcome.states}, resources)
    for state in outcome.waiting:
        name = state.name
        why = waiting_reason(state.message, resources.get(name, {}), held)
        meanwhile = ""
        if state.replicas:
            serves = (
                "The version before serves"
                if name in outcome.former
                else f"{state.replicas} of its replicas serve{'s' if state.replicas == 1 else ''}"
            )
            meanwhile = f" {serves} until then; `wakeful down {name}` makes its room free."
        click.echo(f"\n{name} {why}{meanwhile}", err=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM and the end of the terminal act as Ctrl-C."""
    raise KeyboardInterrupt


def _after_interrupt(state_dir: StateDir, before: ClusterState | None) -> str:
    """What runs after a Ctrl-C that was no update's, or the second one during an update."""
    if before is None:
        return "what was started has been taken down."
    up = state_dir.load()
    if up is not None and any(not entry.fingerprint for entry in up.deployed):
        return (
            "some functions may have the new version, others the one before. `wakeful up` leaves "
            "one; until then `wakeful status` says which they are."
        )
    return "nothing was changed."


def _nothing_up(state_dir: StateDir) -> str:
    from deployments.local.runs import live_runs

    runs = "".join(
        f"\n`wakeful run` of {run.file} ends with Ctrl-C in its terminal, or `kill {run.pid}`."
        for run in live_runs(state_dir)
    )
    return f"nothing is up.{runs}"


@click.command(short_help="Take everything down, or one function.")
@click.argument("function", required=False, shell_complete=complete_function)
@click.pass_context
def down(ctx: click.Context, function: str | None) -> None:
    """Drain and take everything down, or FUNCTION alone.

    Readiness fails first and new calls are refused (503); those in flight are answered, each within
    its request_timeout_s and all within WAKEFUL_DRAIN_S; Ctrl-C ends the wait. No process and no
    port is left, also of a Ray that was killed. On a joined cluster only what `up` deployed goes.
    FUNCTION comes back with the next `up` of a file that has it.
    """
    from deployments.cli.options import pick
    from deployments.cluster.cluster import Cluster
    from deployments.ray_support.state_dir import StateDir
    from runtime.settings import Settings

    state_dir = StateDir()
    if function is None:
        drain_s = Settings.read().drain_s
        with count_signals() as signals, Progress("stopping") as progress:
            was_up = Cluster(state_dir, progress).down(
                drain_s=drain_s, should_stop=lambda: signals.count > 0
            )
        click.echo("down." if was_up else _nothing_up(state_dir))
        ctx.exit(INTERRUPTED if signals.count else 0)
    up = Cluster(state_dir).require()
    name = pick(function, [entry.name for entry in up.deployed])
    with Progress(f"stopping {name}") as progress:
        Cluster(state_dir, progress).delete(name)
    click.echo(f"{name} is down.")
