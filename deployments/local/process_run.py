"""``wakeful run`` behind HAProxy (``--workers``, keys): what is done once for all processes, and
what each of them does. And what any run has of its own: what it asks of calls, and its console.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import socket
from typing import Final, Protocol

from deployments.ingress.haproxy_config import binary
from deployments.ingress.tls.files import TlsFiles
from deployments.local.front import Front, FrontFailed, FrontRules
from deployments.local.hang_records import HangRecords
from deployments.local.process_link import ProcessLink
from deployments.local.runs import run_folder
from deployments.local.supervisor import Supervisor
from deployments.observability.console_log import FunctionLog
from deployments.observability.logs import LogSources
from deployments.ray_support import ports
from runtime.declaration.access.key_table import KeyTable
from runtime.declaration.config_file import ConfigFile
from runtime.errors import WakefulError
from runtime.graph.description.explained import ExplainedFunction, explain_function
from runtime.graph.resolve import ResolvedConfig
from runtime.http import server
from runtime.http.catalogue.console.sources import ConsoleFacts
from runtime.http.transport.draining_server import DrainingServer
from runtime.library.library import EntryState
from runtime.settings import Settings, budget_bytes
from runtime.system.extras import install_line, is_installed

SECRET_BYTES: Final = 32

TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class RunAccess:
    """What a run asks of calls.

    Attributes:
        keys: that they need; None: they need none.
        secret: by which HAProxy and the processes know each other; empty where neither keys nor
            certificates of clients are asked for.
        is_insecure: other machines reach the run, and it asks for no keys.
    """

    keys: KeyTable | None = None
    secret: str = field(default="", repr=False)
    is_insecure: bool = False

    @classmethod
    def of(
        cls, keys: KeyTable | None, *, asks_for_certificates: bool, is_insecure: bool
    ) -> RunAccess:
        """With a secret of its own, where no call may come past HAProxy."""
        is_guarded = keys is not None or asks_for_certificates
        secret = secrets.token_hex(SECRET_BYTES) if is_guarded else ""
        return cls(keys, secret, is_insecure)


@dataclass(frozen=True, slots=True)
class RunConsole:
    """The console of a run, whatever processes serve it and whichever version of its file.

    Attributes:
        log: what the run writes, in the state folder; None: it has none.
        token: as of ``ConsoleFacts``.
    """

    log: Path | None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)

    def facts(self, config: ResolvedConfig) -> ConsoleFacts | None:
        """Return what is shown of a version of the file; None: it wants no console."""
        if not config.file.has_console:
            return None
        specs = {spec.name: spec for spec in config.functions}

        def explain(name: str) -> ExplainedFunction | None:
            return explain_function(name, config, specs)

        log = self.log
        if log is None:
            no_log = "the state folder cannot be used, so what functions write is not kept."
            return ConsoleFacts(self.token, explain, no_log=no_log)
        files = (log.with_suffix(".log.1"), log)

        def open_log(name: str) -> FunctionLog:
            return FunctionLog(lambda: LogSources(log.parent / "none", name, runs=files))

        return ConsoleFacts(self.token, explain, open_log, "")


class Report(Protocol):
    """Where a run says what it does."""

    def say(self, event: str, text: str) -> None: ...
    def on_loading(self, config: ResolvedConfig) -> None: ...
    def on_loaded(self, name: str, state: EntryState) -> None: ...
    def on_serving(self, url: str, config: ResolvedConfig) -> None: ...
    def on_error(self, error: WakefulError) -> int: ...


class ProcessRun:
    """A file, served by several processes.

    Args:
        processes: their number.
        resolve: of the file; called in each process, since it imports stages.
        url: where clients on this machine reach it.
        hangs: of processes before these.
        console: of the run.
        access: the keys that calls need.
        tls: the files of TLS; None: HTTP is in the clear.
        report: of the first process, for all; ``on_error`` returns the exit status of an error.
    """

    def __init__(
        self,
        processes: int,
        declared: ConfigFile,
        resolve: Callable[[], ResolvedConfig],
        settings: Settings,
        url: str,
        report: Report,
        hangs: HangRecords,
        console: RunConsole,
        access: RunAccess,
        tls: TlsFiles | None = None,
    ) -> None:
        self._tls = tls
        self._access = access
        self._processes = processes
        self._declared = declared
        self._resolve = resolve
        # what is free now is divided once, and not by each process as it finds it
        memory_mb = max(1, budget_bytes(settings) // 1_000_000)
        self._settings = replace(settings, memory_mb=memory_mb)
        self._url = url
        self._report = report
        self._hangs = hangs
        self._console = console

    def run(self, sockets: Sequence[socket], signal_count: Callable[[], int]) -> int:
        """Serve on these until a signal was counted; return the exit status. Blocking."""
        drain_s = server.drain_limit_s(self._settings, self._declared.functions)
        with run_folder() as folder:
            rules = FrontRules.of(self._declared, drain_s, self._access.secret, self._tls)
            front = Front(folder, sockets, self._processes, rules, self._access.keys)
            return Supervisor(
                self._serve,
                self._processes,
                folder,
                self._declared.functions,
                front,
                drain_s,
                self._say,
            ).run(signal_count)

    def _say(self, text: str) -> None:
        self._report.say("process", text)

    def _serve(self, link: ProcessLink) -> int:
        """In a process: load and serve until its end; return its exit status."""
        try:
            config = self._resolve()
            if link.is_first:
                self._report.on_loading(config)
            sockets = ports.bind("127.0.0.1", 0, fix="")
            port = sockets[0].getsockname()[1]

            def on_loaded(name: str, state: EntryState) -> None:
                if link.is_first:
                    self._report.on_loaded(name, state)

            def on_serving(running: DrainingServer) -> None:
                link.serve(running, port, lambda: self._report.on_serving(self._url, config))

            return server.serve(
                config.functions,
                self._settings,
                sockets,
                on_loaded,
                on_serving=on_serving,
                assemblies=config.assemblies,
                share=link.share,
                guard=link.guard,
                hangs=self._hangs.history(config.functions),
                console=self._console.facts(config),
            )
        except WakefulError as error:
            return self._report.on_error(error)


def require_front(reason: str) -> None:
    """See that HAProxy can stand before processes here, before anything begins.

    Args:
        reason: what asks for it, such as ``--workers``.

    Raises:
        FrontFailed: with what is missing.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        raise FrontFailed(
            f"{reason} needs Linux 5.3 or later, which tells when a process has ended. Serve "
            "without it here, or in a container."
        ) from None
    try:
        binary()
    except FileNotFoundError:
        raise FrontFailed(
            f"{reason} puts HAProxy before the processes, and there is none here. Run: "
            f"{install_line('workers')}, or put haproxy (2.8 or later, with Lua) on the PATH."
        ) from None
    if not is_installed("jinja2"):
        raise FrontFailed(
            f"{reason} writes HAProxy's configuration with jinja2, which is not installed here. "
            f"Run: {install_line('workers')}"
        )
