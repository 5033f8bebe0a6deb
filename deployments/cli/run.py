"""``wakeful run``: serve a file on this machine, without Ray."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stdout,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import (
    LISTED,
    curl_example,
    file_argument,
    hidden_packages,
    json_option,
    port_option,
    read,
    secrets_option,
)
from runtime.errors import DeclarationError, WakefulError
from runtime.system.cores import MAX_PROCESSES

if TYPE_CHECKING:
    from deployments.cli.operations.foreground import SignalCounter
    from deployments.local.hang_records import HangRecords
    from deployments.local.reload import VersionLink
    from runtime.declaration.config_file import ConfigFile
    from runtime.declaration.function_spec import FunctionSpec
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
    are sent again to another.
    """
    import logging

    from deployments.cli.operations.foreground import count_signals
    from deployments.ray_support import ports
    from runtime.http import server
    from runtime.settings import Settings

    # a function has the threads it declares; a tokenizer's pool is the host's
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("wakeful.wake", "wakeful.load"):
        logging.getLogger(name).setLevel(logging.INFO)
    settings = Settings.read(secrets=secrets, file=file)
    output = RunOutput(as_json)
    workers = workers or settings.workers

    if should_reload:
        if workers > 1:
            raise click.UsageError(
                "--reload is for one process, and --workers (or WAKEFUL_WORKERS) asks for "
                f"{workers}: leave one of them away."
            )
        with count_signals() as signals:
            ctx.exit(_reload(file, secrets, settings, (host, port), output, signals))
    if workers > 1:
        with count_signals() as signals:
            ctx.exit(_serve_processes(file, settings, (host, port), workers, output, signals))
    config = _resolve(read(file, settings), settings)
    address = _address((host, port), settings, config.file.http)
    sockets = ports.bind(*address, fix=_OTHER_PORT)
    url = ports.local_url(address[0], sockets[0].getsockname()[1])
    with (
        output.redirect(),
        _recorded(url, file, settings, settings.log_level or "WARNING") as hangs,
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
            hangs=hangs.history(config.functions),
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


class RunOutput:
    """Prints what a run does: text for people, or a line of JSON for each event. Then what stages
    print goes to standard error.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._events = sys.stdout

    def redirect(self) -> AbstractContextManager[object]:
        """Within, standard output is for events alone."""
        return redirect_stdout(sys.stderr) if self._as_json else nullcontext()

    def say(self, event: str, text: str, *, is_fault: bool = False, **fields: Any) -> None:
        """Print an event.

        Args:
            text: for people; a fault goes to standard error.
            fields: of the JSON, beside ``event``; without any, it has the ``message``.
        """
        if self._as_json:
            line = json.dumps({"event": event, **(fields or {"message": text})})
            click.echo(line, file=self._events)
        else:
            click.echo(text, err=is_fault)

    def on_loading(self, config: ResolvedConfig) -> None:
        """The file is right, and its functions are loaded."""
        self.say("loading", f"loading {_count(config)}.")

    def on_error(self, error: WakefulError) -> int:
        """Print what is wrong as every command does; return the exit status that it has."""
        if isinstance(error, DeclarationError):
            for problem in error.problems:
                click.echo(str(problem), err=True)
            return 2
        click.echo(f"wakeful: {error.message}", err=True)
        return 1

    def on_loaded(self, name: str, state: EntryState) -> None:
        """A function was loaded, or left asleep; of one that failed, the log has said why."""
        if state.state != "failed" or self._as_json:
            after = f" in {state.load_s:.2f} s" if state.load_s else ""
            reason = f": {state.reason}" if state.reason else ""
            self.say(
                "function",
                f"{name} is {state.state}{after}{reason}",
                is_fault=bool(state.reason),
                name=name,
                state=state.state,
                load_s=round(state.load_s, 3),
                reason=state.reason,
            )

    def on_serving(self, url: str, config: ResolvedConfig) -> None:
        """The port is open: where, and a line that calls each function."""
        if self._as_json:
            urls = {spec.name: url + spec.route_prefix for spec in config.functions}
            self.say("serving", "", url=url, functions=urls)
            return
        click.echo(f"serving on {url}; Ctrl-C drains and ends it.")
        for spec in config.functions[:LISTED]:
            self.on_called(spec.name, _call_line(spec, config, url))
        if (more := len(config.functions) - LISTED) > 0:
            click.echo(f"\nand {more} more; `wakeful status` lists them.")
        if all(spec.route_prefix != "/" for spec in config.functions):
            click.echo(f"\n{url}/docs in a browser shows what is served, and tries it.")

    def on_called(self, name: str, line: str) -> None:
        """How a function is called, for people."""
        if not self._as_json:
            click.echo(f"\n{name}\n  {line}")


def _call_line(spec: FunctionSpec, config: ResolvedConfig, url: str) -> str:
    return curl_example(spec, config.assemblies.get(spec.name), url + spec.route_prefix)


def _resolve(declared: ConfigFile, settings: Settings) -> ResolvedConfig:
    from deployments.rollout.project_folder import missing_build
    from deployments.rollout.unapplied_keys import unused_keys
    from runtime.graph.resolve import resolve

    for warning in (*hidden_packages(declared.path, settings), *unused_keys(declared)):
        click.echo(f"warning: {warning}", err=True)
    return resolve(declared, settings, other_problems=missing_build(declared))


def _count(config: ResolvedConfig) -> str:
    count = len(config.functions)
    return f"{count} function{'' if count == 1 else 's'}"


@contextmanager
def _recorded(url: str, file: Path, settings: Settings, level: str) -> Iterator[HangRecords]:
    """Within, other commands find this run, and read what it prints. Where the state folder cannot
    be used it serves all the same.

    Args:
        level: from which on what stages log is shown.

    Yields:
        The records of runs that ended since stages did not return.
    """
    import logging

    from deployments.local.hang_records import HangRecords
    from deployments.local.runs import record_run
    from deployments.ray_support.state_dir import StateDir, StateDirUnusable
    from runtime.system.function_context import show_logs

    state_dir, hangs = StateDir(), HangRecords(None)
    with ExitStack() as stack:
        try:
            stack.enter_context(record_run(state_dir, url, file, settings.secrets.hide))
            hangs = HangRecords(state_dir.path / "hangs.json")
        except (StateDirUnusable, OSError) as error:
            click.echo(f"`wakeful status` will not find this run: {error}", err=True)
        shown = show_logs(level, settings.secrets.hide)
        stack.callback(logging.getLogger().removeHandler, shown)
        yield hangs


def _serve_processes(
    file: Path,
    settings: Settings,
    flags: tuple[str | None, int | None],
    workers: int,
    output: RunOutput,
    signals: SignalCounter,
) -> int:
    """Serve in several processes until a signal; return the exit status."""
    import runtime.onnx.session  # noqa: F401  # before the forks, which then start in no time
    from deployments.local.front import require_front
    from deployments.local.process_run import ProcessRun
    from deployments.ray_support import ports

    require_front()
    declared = read(file, settings)
    host, port = _address(flags, settings, declared.http)
    sockets = ports.bind(host, port, fix=_OTHER_PORT)
    url = ports.local_url(host, sockets[0].getsockname()[1])

    def resolve() -> ResolvedConfig:
        return _resolve(declared, settings)

    with (
        output.redirect(),
        _recorded(url, file, settings, settings.log_level or "WARNING") as hangs,
    ):
        run = ProcessRun(workers, declared, resolve, settings, url, output, hangs)
        return run.run(sockets, lambda: signals.count)


def _reload(
    file: Path,
    secrets: Path | None,
    settings: Settings,
    flags: tuple[str | None, int | None],
    output: RunOutput,
    signals: SignalCounter,
) -> int:
    """Serve the newest version of a file that loads, until a signal; return the exit status."""
    import runtime.http.server  # before the forks, which then start in no time
    import runtime.onnx.session  # noqa: F401
    from deployments.local.reload import Reloader
    from deployments.ray_support import ports

    declared = _wait_for_file(file, output, signals)
    if declared is None:
        return 0
    host, port = _address(flags, settings, declared)
    sockets = ports.bind(host, port, fix=_OTHER_PORT)
    port = sockets[0].getsockname()[1]
    url = ports.local_url(host, port)

    def serve_version(link: VersionLink) -> int:
        return _serve_version(link, file, secrets, declared, url, output, hangs)

    with output.redirect(), _recorded(url, file, settings, settings.log_level or "INFO") as hangs:
        return Reloader(
            serve_version,
            sockets,
            lambda: ports.bind(host, port, fix=_OTHER_PORT),
            [file, *([secrets] if secrets else [])],
            lambda text: output.say("reload", text),
        ).run(lambda: signals.count)


def _wait_for_file(file: Path, output: RunOutput, signals: SignalCounter) -> HttpOptions | None:
    """Where the file declares to listen; while the file cannot be read at all, each edit is tried.
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
                return config_file.read(file).http
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
) -> tuple[dict[str, str], dict[str, str]]:
    """The lines that call functions in another way than the serving version's, of those that would
    be printed; and the functions' digests, each with one of its line behind it.

    Args:
        digests: of what functions are made of.
        served: such digests of the serving version; None: there is none, and no line is new.
    """
    from runtime.declaration.function_spec import hash_of

    lines, complete = {}, dict(digests)
    for spec in config.functions[:LISTED]:
        made_of, _, called = (served or {}).get(spec.name, "").partition(" ")
        if made_of != digests[spec.name]:
            line = _call_line(spec, config, url)
            if served is not None and hash_of(line) != called:
                lines[spec.name] = line
            called = hash_of(line)
        complete[spec.name] = f"{digests[spec.name]} {called}"
    return lines, complete


def _serve_version(
    link: VersionLink,
    file: Path,
    secrets: Path | None,
    declared: HttpOptions,
    url: str,
    output: RunOutput,
    hangs: HangRecords,
) -> int:
    """Load and serve one version of a file, in a process of its own; return its exit status.

    Args:
        declared: where the first version was to listen, and all others do.
    """
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
        config = _resolve(read_file, settings)
        lines, digests = _with_lines(digests, link.served, config, url)
        required = None if link.served is None else changed_functions(link.served, digests)
        if required is None:
            output.on_loading(config)
        if read_file.http != declared:
            output.say("reload", "http_options are taken at the start alone: start the run anew.")

        def on_loaded(name: str, state: EntryState) -> None:
            if required is None or name in required or state.state == "failed":
                output.on_loaded(name, state)

        def on_serving(running: DrainingServer) -> None:
            link.take_over(running, digests)
            if required is None:
                output.on_serving(url, config)
                return
            for name, line in lines.items():
                output.on_called(name, line)

        return server.serve(
            config.functions,
            settings,
            link.sockets,
            on_loaded,
            on_serving=on_serving,
            required=required,
            assemblies=config.assemblies,
            cors=config.file.cors,
            hangs=hangs.history(config.functions),
        )
    except WakefulError as error:
        return output.on_error(error)
