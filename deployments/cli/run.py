"""``wakeful run``: serve a file on this machine, without Ray."""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from deployments.cli.operations.run_output import RunOutput, call_line
from deployments.cli.options import (
    LISTED,
    file_argument,
    hidden_packages,
    insecure_option,
    json_option,
    keys_asked_for,
    port_option,
    read,
    secrets_option,
)
from runtime.errors import DeclarationError, WakefulError
from runtime.system.cores import MAX_PROCESSES

if TYPE_CHECKING:
    from deployments.cli.operations.foreground import SignalCounter
    from deployments.ingress.tls.files import TlsFiles
    from deployments.local.hang_records import HangRecords
    from deployments.local.process_run import RunAccess, RunConsole
    from deployments.local.reload import VersionLink
    from runtime.declaration.config_file import ConfigFile
    from runtime.declaration.ray_schema import HttpOptions
    from runtime.graph.resolve import ResolvedConfig
    from runtime.http.transport.draining_server import DrainingServer
    from runtime.library.library import EntryState
    from runtime.settings import Settings


@click.command(short_help="Serve a file's functions on this machine, without Ray.")
@file_argument
@secrets_option
@click.option("--host", help="Address to serve on; before WAKEFUL_HOST, that before the file's.")
@port_option
@click.option(
    "--reload",
    "should_reload",
    is_flag=True,
    help="Serve each edit of the file, of code and of models as soon as it loads; until then, and "
    "while it does not load, the version before answers.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_PROCESSES),
    help="Processes that serve, behind one port; for stages that compute in Python. Each has its "
    "part of the memory and cores. Before WAKEFUL_WORKERS; by default 1.",
)
@insecure_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    secrets: Path | None,
    host: str | None,
    port: int | None,
    should_reload: bool,
    workers: int | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Serve the functions of FILE on this machine, at the same URLs, without Ray: in this process,
    or in several.

    For development, tests, and one machine that needs no Ray. Functions are loaded at the start,
    and those without min_replicas sleep when idle and wake for their next call. Each is printed
    with a line that calls it. Stays until Ctrl-C or SIGTERM, which drain; `wakeful status`, `logs`
    and `call` find it meanwhile. With --json each event is a line, `serving` with the `url` among
    them.

    With --reload, what stages keep in memory is lost at an edit, sequences included.

    With --workers, HAProxy stands before the processes. One that dies is replaced, and its calls
    are sent again to another. So it does where calls need keys (`wakeful keys`): where FILE says
    `http.auth`, and where other machines reach the address, unless --insecure says otherwise.
    """
    import logging

    from deployments.cli.operations.foreground import count_signals
    from deployments.ray_support import ports
    from runtime.http import server
    from runtime.settings import Settings

    # a model that ends ONNX Runtime ends this process: its stacks say what was being loaded
    if not faulthandler.is_enabled():
        with suppress(RuntimeError, OSError):  # a process may have no standard error
            faulthandler.enable()
    # a function has the threads it declares; a tokenizer's pool is the host's
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("wakeful.wake", "wakeful.load"):
        logging.getLogger(name).setLevel(logging.INFO)
    settings = Settings.read(secrets=secrets, file=file)
    output = RunOutput(as_json)
    workers = workers or settings.workers

    if should_reload and workers > 1:
        raise click.UsageError(
            "--reload is for one process, and --workers (or WAKEFUL_WORKERS) asks for "
            f"{workers}: leave one of them away."
        )
    if should_reload:
        with count_signals() as signals:
            ctx.exit(_reload(file, secrets, settings, (host, port), insecure, output, signals))
    declared = read(file, settings)
    address = _address((host, port), settings, declared.http)
    access = _access(declared, settings, address, insecure)
    output.has_keys = access.keys is not None
    tls = _tls(declared, settings)
    if workers > 1 or access.keys is not None or tls is not None:
        with count_signals() as signals:
            ctx.exit(
                _serve_processes(declared, settings, address, workers, access, tls, output, signals)
            )
    config = _resolve(declared, settings, access)
    sockets = ports.bind(*address, fix=_OTHER_PORT)
    url = ports.local_url(address[0], sockets[0].getsockname()[1])
    with (
        output.redirect(),
        _recorded(url, file, settings, access, settings.log_level or "WARNING") as records,
    ):
        output.on_loading(config)
        status = server.serve(
            config.functions,
            settings,
            sockets,
            output.on_loaded,
            on_serving=lambda _: output.on_serving(url, config),
            assemblies=config.assemblies,
            cors=config.file.cors,
            hangs=records.hangs.history(config.functions),
            console=records.console.facts(config),
        )
    ctx.exit(status)


_OTHER_PORT: Final = "Stop that, or take another with `--port`."


def _address(
    flags: tuple[str | None, int | None], settings: Settings, declared: HttpOptions
) -> tuple[str, int]:
    """Host and port to listen on; flags go before the environment, that before the file."""
    host, port = flags
    if port is None:
        port = settings.port or declared.port
    return host or settings.host or declared.host, port


def _resolve(
    declared: ConfigFile, settings: Settings, access: RunAccess, *, has_front: bool = False
) -> ResolvedConfig:
    from deployments.rollout.project_folder import missing_build
    from deployments.rollout.unapplied_keys import uncounted_keys, unused_keys
    from runtime.graph.resolve import resolve

    unused = unused_keys(declared)
    if access.is_insecure and not has_front:
        unused += uncounted_keys(declared)
    for warning in (*hidden_packages(declared.path, settings), *unused):
        click.echo(f"warning: {warning}", err=True)
    return resolve(declared, settings, other_problems=missing_build(declared))


class RunRecords(NamedTuple):
    """What a run has beside its file.

    Attributes:
        hangs: of runs that ended since stages did not return.
    """

    hangs: HangRecords
    console: RunConsole


@contextmanager
def _recorded(
    url: str, file: Path, settings: Settings, access: RunAccess, level: str
) -> Iterator[RunRecords]:
    """Within, other commands find this run, and read what it prints. Where the state folder cannot
    be used it serves all the same.

    Args:
        level: from which on what stages log is shown.
    """
    import logging

    from deployments.local.hang_records import HangRecords
    from deployments.local.process_run import RunConsole
    from deployments.local.runs import record_run
    from deployments.ray_support.state_dir import StateDir, StateDirUnusable
    from runtime.system.function_context import show_logs

    state_dir, hangs, log = StateDir(), HangRecords(None), None
    with ExitStack() as stack:
        try:
            hide = settings.secrets.hide
            log = stack.enter_context(
                record_run(
                    state_dir,
                    url,
                    file,
                    hide,
                    is_insecure=access.is_insecure,
                    secret=access.secret,
                )
            )
            hangs = HangRecords(state_dir.path / "hangs.json")
        except (StateDirUnusable, OSError) as error:
            click.echo(f"`wakeful status` will not find this run: {error}", err=True)
        shown = show_logs(level, settings.secrets.hide)
        stack.callback(logging.getLogger().removeHandler, shown)
        yield RunRecords(hangs, RunConsole(log))


def _access(
    declared: ConfigFile, settings: Settings, address: tuple[str, int], insecure: bool
) -> RunAccess:
    """What the run asks of calls, at this address.

    Raises:
        PortTaken: it cannot be listened on, which is said before what it would be open to.
        OpenToStrangers, DeclarationError: as of ``keys_asked_for``.
    """
    from deployments.local.process_run import RunAccess
    from deployments.ray_support import ports

    is_local = ports.is_loopback(address[0])
    if not is_local:
        ports.require_free(*address, fix=_OTHER_PORT)
    keys = keys_asked_for(declared.auth, settings, address[0], is_insecure=insecure)
    return RunAccess.of(
        keys,
        asks_for_certificates=declared.tls is not None and declared.tls.client_ca is not None,
        is_insecure=keys is None and not is_local,
    )


def _tls(declared: ConfigFile, settings: Settings) -> TlsFiles | None:
    """The files of TLS, if HTTP is not in the clear; what is doubtful of them is printed.

    Raises:
        DeclarationError: they cannot be served with.
    """
    from deployments.ingress.tls.files import TlsFiles, find_problems

    wrong, doubtful = find_problems(declared, settings.root, time.time())
    if wrong:
        raise DeclarationError(wrong)
    for warning in doubtful:
        click.echo(f"warning: {warning}", err=True)
    return TlsFiles.of(declared.tls, settings.root)


def _wanting_front(access: RunAccess, workers: int = 1) -> str:
    """Why HAProxy is wanted, in words; one thing, if there are several."""
    if workers > 1:
        return "--workers"
    return "a server that asks for keys" if access.keys is not None else "http.tls"


def _serve_processes(
    declared: ConfigFile,
    settings: Settings,
    address: tuple[str, int],
    workers: int,
    access: RunAccess,
    tls: TlsFiles | None,
    output: RunOutput,
    signals: SignalCounter,
) -> int:
    """Serve in several processes until a signal; return the exit status."""
    import runtime.onnx.session  # noqa: F401  # before the forks, which then start in no time
    from deployments.local.process_run import ProcessRun, require_front
    from deployments.ray_support import ports

    require_front(_wanting_front(access, workers))
    sockets = ports.bind(*address, fix=_OTHER_PORT)
    port = sockets[0].getsockname()[1]
    url = ports.local_url(address[0], port, is_tls=tls is not None)

    def resolve() -> ResolvedConfig:
        return _resolve(declared, settings, access, has_front=True)

    with (
        output.redirect(),
        _recorded(url, declared.path, settings, access, settings.log_level or "WARNING") as records,
    ):
        run = ProcessRun(workers, declared, resolve, settings, url, output, *records, access, tls)
        return run.run(sockets, lambda: signals.count)


def _reload(
    file: Path,
    secrets: Path | None,
    settings: Settings,
    flags: tuple[str | None, int | None],
    insecure: bool,
    output: RunOutput,
    signals: SignalCounter,
) -> int:
    """Serve the newest version of a file that loads, until a signal; return the exit status."""
    import runtime.http.server  # before the forks, which then start in no time
    import runtime.onnx.session  # noqa: F401
    from deployments.local.front import Front, FrontRules
    from deployments.local.process_run import require_front
    from deployments.local.reload import Reloader
    from deployments.local.runs import run_folder
    from deployments.ray_support import ports
    from deployments.ray_support.environment import LOOPBACK

    declared = _wait_for_file(file, output, signals)
    if declared is None:
        return 0
    host, port = _address(flags, settings, declared.http)
    access = _access(declared, settings, (host, port), insecure)
    output.has_keys = access.keys is not None
    tls = _tls(declared, settings)
    has_front = access.keys is not None or tls is not None
    if has_front:
        require_front(_wanting_front(access))
    sockets = ports.bind(host, port, fix=_OTHER_PORT)
    port = sockets[0].getsockname()[1]
    url = ports.local_url(host, port, is_tls=tls is not None)

    def serve_version(link: VersionLink) -> int:
        return _serve_version(link, file, secrets, declared, access, tls, url, output, records)

    with ExitStack() as stack:
        stack.enter_context(output.redirect())
        records = stack.enter_context(
            _recorded(url, file, settings, access, settings.log_level or "INFO")
        )
        front = None
        if has_front:
            folder = stack.enter_context(run_folder())
            rules = FrontRules.of(declared, 0.0, access.secret, tls)
            front = Front(folder, sockets, 1, rules, access.keys)
            host, sockets = LOOPBACK, ports.bind(LOOPBACK, 0, fix="")
            port = sockets[0].getsockname()[1]
        return Reloader(
            serve_version,
            sockets,
            lambda: ports.bind(host, port, fix=_OTHER_PORT),
            [file, *([secrets] if secrets else [])],
            lambda text: output.say("reload", text),
            front,
        ).run(lambda: signals.count)


def _wait_for_file(file: Path, output: RunOutput, signals: SignalCounter) -> ConfigFile | None:
    """The file; while the file cannot be read at all, each edit is tried.
    None: a signal came first.
    """
    from deployments.local.watched_files import POLL_S
    from runtime.declaration import config_file
    from runtime.system.files import file_state

    is_first, tried = True, None
    while not signals.count:
        state = file_state(file)
        if is_first or state != tried:
            try:
                return config_file.read(file)
            except DeclarationError as error:
                if is_first and state is None:
                    raise
                output.on_error(error)
                output.say("reload", "nothing answers yet; save the file to try again.")
            is_first, tried = False, state
        time.sleep(POLL_S)
    return None


def _with_lines(
    digests: Mapping[str, str],
    served: Mapping[str, str] | None,
    config: ResolvedConfig,
    url: str,
    has_key: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """The lines that call functions in another way than the serving version's, of those that would
    be printed; and the functions' digests, each with one of its line behind it.

    Args:
        digests: of what functions are made of.
        served: such digests of the serving version; None: there is none, and no line is new.
        has_key: calls need one.
    """
    from runtime.declaration.function_spec import hash_of

    lines, complete = {}, dict(digests)
    for spec in config.functions[:LISTED]:
        made_of, _, called = (served or {}).get(spec.name, "").partition(" ")
        if made_of != digests[spec.name]:
            line = call_line(spec, config, url, has_key=has_key)
            if served is not None and hash_of(line) != called:
                lines[spec.name] = line
            called = hash_of(line)
        complete[spec.name] = f"{digests[spec.name]} {called}"
    return lines, complete


def _serve_version(
    link: VersionLink,
    file: Path,
    secrets: Path | None,
    declared: ConfigFile,
    access: RunAccess,
    tls: TlsFiles | None,
    url: str,
    output: RunOutput,
    records: RunRecords,
) -> int:
    """Load and serve one version of a file, in a process of its own; return its exit status.

    Args:
        declared: the file at the start, which says where all versions listen, and whether they ask
            for keys.
    """
    from deployments.cli.operations.run_edits import take_keys
    from deployments.local.front import FrontRules
    from deployments.local.process_link import run_guard
    from deployments.local.watched_files import changed_functions, function_digest, source_files
    from deployments.ray_support.environment import import_folders
    from runtime.artifacts.python_imports import ImportScanner
    from runtime.http import server
    from runtime.settings import Settings

    try:
        settings = Settings.read(secrets=secrets, file=file)
        folders = [Path(folder) for folder in import_folders(settings, file)]
        link.watch((), folders)
        read_file, scanner = read(file, settings), ImportScanner()
        files = [source_files(spec, settings, scanner) for spec in read_file.functions]
        digests = {
            spec.name: function_digest(spec, made_of)
            for spec, made_of in zip(read_file.functions, files, strict=True)
        }
        everything = frozenset[Path]().union(*files)
        packages = {path.parent for path in everything if path.suffix == ".py"}
        link.watch(everything, {*folders, *packages})
        config = _resolve(read_file, settings, access, has_front=tls is not None)
        lines, digests = _with_lines(digests, link.served, config, url, output.has_keys)
        required = None if link.served is None else changed_functions(link.served, digests)
        if required is None:
            output.on_loading(config)
        keys = take_keys(
            declared,
            read_file,
            settings,
            asks_for_keys=access.keys is not None,
            say=lambda text: output.say("reload", text),
        )
        drain_s = server.drain_limit_s(settings, read_file.functions)
        rules = FrontRules.of(read_file, drain_s, access.secret, tls, keys)

        def on_loaded(name: str, state: EntryState) -> None:
            if required is None or name in required or state.state == "failed":
                output.on_loaded(name, state)

        def announce() -> None:
            if required is None:
                output.on_serving(url, config)
            for name, line in lines.items():
                output.on_called(name, line)

        def on_serving(running: DrainingServer) -> None:
            link.take_over(running, digests, rules, announce)

        return server.serve(
            config.functions,
            settings,
            link.sockets,
            on_loaded,
            on_serving=on_serving,
            required=required,
            assemblies=config.assemblies,
            cors=config.file.cors,
            guard=run_guard(access.secret),
            hangs=records.hangs.history(config.functions),
            console=records.console.facts(config),
            has_front=bool(access.secret or tls),
        )
    except WakefulError as error:
        return output.on_error(error)
