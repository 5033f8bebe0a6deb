"""HAProxy before the processes of ``wakeful run --workers``: one port for all of them, as before
the replicas of a cluster, by the same rules (``deployments/ingress/haproxy/workers.cfg.j2``).

A call goes to its function's own process if that one has nothing to do, and otherwise to the one
with the fewest calls. So a function that is called now and then wakes in one process, and a busy
one in as many as its calls take. The process of a sequence is remembered
(``deployments.ingress.sequence_routing``). A call whose process dies before it has begun to answer
goes to another one, unless its function declines that (``limits.replay``); while no process serves,
calls wait (``waiting.lua``).

Processes listen on the loopback address, at any free port, since what they know of a client they
ask TCP (``runtime.http.transport.peer``). HAProxy is told by its socket where each one is. It takes
the port of the run from the process that starts it, which keeps it while HAProxy is started again.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployments.ingress import admin_socket
from deployments.ingress.access_table import AccessTable
from deployments.ingress.draining import LINGER_S
from deployments.ingress.haproxy.access import access_maps, write_files, write_private
from deployments.ingress.haproxy.rendering import render
from deployments.ingress.haproxy.rules import CONSOLE, NEWEST
from deployments.ingress.haproxy.terms import (
    RUN_ACCESS,
    DeployedCors,
    TlsTerms,
    decide_per_address,
    own_addresses,
)
from deployments.ingress.haproxy_config import binary, foreground_command, read_refusal
from deployments.ingress.tls.copies import CertificateWatch, refresh
from deployments.ingress.tls.files import TlsFiles
from deployments.local.peers import OWN_PREFIX
from deployments.ray_support.environment import (
    BUFFER_BYTES,
    CLIENT_S,
    CONNECTIONS,
    LOOPBACK,
    RETRIES,
)
from deployments.ray_support.secret_store import edge_secret
from runtime.declaration.access.key_table import KeyTable
from runtime.declaration.sections import MAX_TIMEOUT_S
from runtime.errors import DeclarationError, WakefulError
from runtime.system.child_processes import ending_with_parent

if TYPE_CHECKING:
    from runtime.declaration.config_file import ConfigFile

HOLD_S: Final = 30
"""Longest wait of a call while no process serves."""

KEEP_ALIVE_S: Final = 90
"""How long a connection without a request is kept, as by one process."""

HARD_STOP_S: Final = int(MAX_TIMEOUT_S) + KEEP_ALIVE_S + 1
"""One that was replaced ends with its last call. That may come as late as its connections are kept,
and take as long as any function may be given: the newest has it answered, by the deadlines that
hold then.
"""

MOST_FORMER: Final = 8
"""Replaced ones at once, 7 MB each; of more the oldest is ended, with what it has."""

SERVER_DAYS: Final = 7
"""HAProxy wants a bound; a process has one of its own for each call."""

CHECK_S: Final = 2
"""How often HAProxy connects to each process."""

START_S: Final = 10.0
"""Longest wait for HAProxy to listen: it takes 20 ms."""

DRAIN_POLL_S: Final = 0.05
"""Between two looks at the calls under way, at the end."""

FIRST_SOCKET: Final = "n"
"""HAProxy's socket for commands in its folder, until it answers there and has the name that all
know.
"""

FIRST_NEWEST: Final = "m"
FIRST_WAITING: Final = "v"
"""Likewise, the sockets where it takes what others pass on (``rules.NEWEST``), and where calls wait
(``WAITING``): where it does not start, they reach the one before.
"""

WAITING: Final = "w"

SPARE_FILES: Final = 256
"""Files beside those of connections that HAProxy may open."""

TASKS: Final = "/v1"
"""Below it are the routes by task."""


class FrontFailed(WakefulError):
    """HAProxy is not there, or does not start."""

    code = "front"
    fault = "operator"


@dataclass(frozen=True, slots=True)
class FrontRules:
    """What the file decides.

    Attributes:
        once: prefixes of functions whose calls are not sent again.
        cors: ``CorsSpec`` as plain data; None: pages of other origins may not call.
        drain_s: longest time that a call under way has once the end has begun. Another one wants no
            other HAProxy.
        secret: of the run, where clients need keys or certificates: HAProxy and the processes know
            each other by it; empty: processes answer whatever reaches them.
        functions: by their prefixes.
        tls: the files of TLS; None: HTTP is in the clear.
        per_address: as of ``terms.decide_per_address``.
        keys: that calls need from now on; None: those before. They want no other HAProxy.
    """

    once: tuple[str, ...] = ()
    cors: Mapping[str, Any] | None = None
    drain_s: float = field(default=60.0, compare=False)
    secret: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    per_address: int | None = None
    keys: KeyTable | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        declared: ConfigFile,
        drain_s: float,
        secret: str = "",
        tls: TlsFiles | None = None,
        keys: KeyTable | None = None,
    ) -> FrontRules:
        """Of a file. The functions of the routes by task are named in bodies: one of these that is
        called once has all calls there sent once.

        Args:
            drain_s, secret, tls, keys: as of ``FrontRules``.
        """
        once = [spec for spec in declared.functions if not spec.limits.replay]
        prefixes = [spec.route_prefix for spec in once]
        if any(spec.task for spec in once):
            prefixes.append(TASKS)
        cors = None if declared.cors is None else declared.cors.model_dump(mode="json")
        functions = {spec.route_prefix: spec.name for spec in declared.functions}
        return cls(
            tuple(prefixes),
            cors,
            drain_s,
            secret,
            functions,
            tls,
            declared.connections_per_address,
            None if keys is None else KeyTable(keys.declared, keys.path),  # to be read there
        )


def write_config(
    folder: Path,
    listeners: Sequence[int],
    ports: Sequence[int | None],
    rules: FrontRules,
    *,
    has_keys: bool,
    hosts: Sequence[str] = (),
) -> str:
    """Return HAProxy's configuration.

    Args:
        folder: for its sockets and what it writes down.
        listeners: descriptors of bound sockets that it inherits.
        ports: of each process, on the loopback address; None: it does not serve.
        has_keys: calls need one.
        hosts: the addresses that the sockets are bound to.
    """
    connections = _connections()
    values = {
        "folder": folder,
        "socket": folder / FIRST_SOCKET,
        "newest": folder / FIRST_NEWEST,
        "first_waiting": folder / FIRST_WAITING,
        "waiting": folder / WAITING,
        "listeners": listeners,
        "places": [{"name": server_name(slot), "port": port} for slot, port in enumerate(ports)],
        "once": [match for one in rules.once for match in _matches(one)],
        "cors": DeployedCors(rules.cors),
        "tls": TlsTerms.of(folder, rules.tls),
        "own_prefix": OWN_PREFIX,
        "connections": connections,
        "per_address": decide_per_address(rules.per_address, hosts, connections),
        "own": own_addresses(hosts),
        "buffer_bytes": BUFFER_BYTES,
        "retries": RETRIES,
        "client_s": CLIENT_S,
        "server_days": SERVER_DAYS,
        "keep_alive_s": KEEP_ALIVE_S,
        "check_s": CHECK_S,
        "hold_s": HOLD_S,
        "hard_stop_s": HARD_STOP_S,
        "edge": edge_secret(rules.secret) if rules.secret else "",
        "secret": rules.secret,
        "access": RUN_ACCESS if has_keys else None,
    }
    return render("workers.cfg.j2", values)


def _matches(prefix: str) -> tuple[str, str]:
    return f"path {prefix}", f"path_beg {prefix.rstrip('/')}/"


def server_name(slot: int) -> str:
    """HAProxy's name for a process, by its place from 0 on."""
    return f"w{slot + 1}"


def _connections() -> int:
    """Connections of clients at once: each takes a file, and another to a process; a call that
    waits twice as many.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(16, min(CONNECTIONS, (most - SPARE_FILES) // 4))


class Front:
    """HAProxy. Blocking; in a process of one thread, since it is forked.

    Args:
        folder: its own, readable by the user only.
        sockets: bound ones, that clients connect to; not closed here.
        processes: their number.
        keys: that calls need; None: they need none.

    Mutable state: ``_process``, ``_former`` (those that it has replaced, while they answer what
    they have), ``_ports`` (as of ``write_config``), ``_rules``, ``_keys``, ``_held``, the keys as
    they were read, and ``_fault``, why they could not be read last.
    """

    def __init__(
        self,
        folder: Path,
        sockets: Sequence[socket.socket],
        processes: int,
        rules: FrontRules,
        keys: KeyTable | None = None,
    ) -> None:
        self._folder = folder
        self._sockets = sockets
        self._rules = rules
        self._keys = keys
        self._ports: list[int | None] = [None] * processes
        self._process: subprocess.Popen[bytes] | None = None
        self._former: list[subprocess.Popen[bytes]] = []
        self._held = () if keys is None else keys.read()
        self._fault = ""
        self._table = AccessTable(folder)
        self._certificates = CertificateWatch(folder)

    @property
    def pid(self) -> int | None:
        """Of HAProxy; None before it is started."""
        return None if self._process is None else self._process.pid

    @property
    def secret(self) -> str:
        """As of ``FrontRules``."""
        return self._rules.secret

    @property
    def drain_s(self) -> float:
        """As of ``FrontRules``."""
        return self._rules.drain_s

    @property
    def has_died(self) -> bool:
        """Whether it was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start it, and return when it listens.

        Raises:
            FrontFailed: it does not; with what it says.
        """
        try:
            self._process = self._start()
        except OSError as error:  # of a full disk, say
            raise FrontFailed(f"HAProxy cannot be started: {error}") from error
        if self._keys is not None:
            with contextlib.suppress(OSError):  # it has read them, and is told all the same
                self._set_maps()

    def _start(self) -> subprocess.Popen[bytes]:
        """Return one that listens; until then the sockets for commands, for what others pass on,
        and for calls that wait, stay those of the one before.

        Raises:
            FrontFailed, OSError: there is none.
        """
        if self._keys is not None:  # for this one alone: the one before may have to go on
            self._write_maps()
        if self._rules.tls is not None:
            state, _ = refresh(self._rules.tls, self._folder, time.time())
            if not state.sha1:
                raise FrontFailed(f"HAProxy has no certificate: {state.refused}")
        program = binary()
        file, first_socket = self._folder / "haproxy.cfg", self._folder / FIRST_SOCKET
        listeners = [one.fileno() for one in self._sockets]
        text = write_config(
            self._folder,
            listeners,
            self._ports,
            self._rules,
            has_keys=self._keys is not None,
            hosts=[one.getsockname()[0] for one in self._sockets],
        )
        write_private(file, text)
        first_socket.unlink(missing_ok=True)
        # a session of its own: Ctrl-C is for the process that starts it
        process = subprocess.Popen(
            foreground_command(program, file),
            pass_fds=listeners,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=ending_with_parent(signal.SIGUSR1),
        )
        try:
            until = time.monotonic() + START_S
            while admin_socket.process_id(first_socket) is None:
                if process.poll() is not None or time.monotonic() > until:
                    reason = read_refusal(program, file, listeners) or "it does not say why"
                    raise FrontFailed(f"HAProxy does not start: {reason}")
                time.sleep(0.01)
            (self._folder / FIRST_WAITING).replace(self._folder / WAITING)
            (self._folder / FIRST_NEWEST).replace(self._folder / NEWEST)
            first_socket.replace(self._socket)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def set_port(self, slot: int, port: int | None) -> None:
        """From now on a process serves at this port, or does not serve."""
        if self._ports[slot] == port:
            return
        self._ports[slot] = port
        if self._process is None or self.has_died:
            return  # it is started with what holds then
        address = None if port is None else (LOOPBACK, port)
        others = ("held", "once", "console", CONSOLE)
        admin_socket.set_server(self._socket, server_name(slot), "workers", others, address)

    def look(self, report: Callable[[str], None]) -> None:
        """Start HAProxy again if it has died, and tell it of keys and certificates that have
        changed. To be called often.

        Args:
            report: prints a line.

        Raises:
            FrontFailed: it does not start.
        """
        self._former = [one for one in self._former if one.poll() is None]
        if self.has_died:
            report("HAProxy died; it is started again.")
            self.start()
        if self._rules.tls is not None and self._process is not None:
            self._certificates.look(self._rules.tls, report)
        if self._keys is None:
            return
        if self._keys.has_changed():
            try:
                self._held = self._keys.read()
                self._set_maps()
            except DeclarationError as error:
                former, self._fault = self._fault, str(error)
                if self._fault != former:  # one that may pass is met at each look
                    report(f"keys stay as they were, since their file is wrong:\n{error}")
            except OSError as error:  # of a full disk, say; this HAProxy was told all the same
                self._fault = ""
                report(f"keys have changed, and {self._folder} cannot be written: {error}")
            else:
                self._fault = ""
                report(f"keys have changed: {len(self._held)} are taken.")
        self._table.refresh()

    def _write_maps(self) -> None:
        write_files(self._folder, access_maps(self._held, self._rules.functions))

    def _set_maps(self) -> None:
        self._table.set_maps(access_maps(self._held, self._rules.functions))

    def update(self, rules: FrontRules) -> bool:
        """From now on other rules hold. Another HAProxy takes the place of this one, which answers
        what it has, and gets no port of a process any more: where calls wait, ``set_port`` comes
        first. The new one gets keys at the next ``look``.

        Returns: whether ``MOST_FORMER`` were there already, so that the oldest was ended.

        Raises:
            FrontFailed: it does not start; the one before goes on, by the rules and the keys that
                it has.
        """
        keys, former_keys = rules.keys, self._keys
        if keys is not None and former_keys is not None and not keys.is_like(former_keys):
            self._keys = keys
        before, former = self._rules, self._process
        self._rules = rules
        if rules == before or former is None or self.has_died:
            return False  # it is started with what holds then
        try:
            self.start()
        except FrontFailed:
            self._rules, self._keys = before, former_keys
            if self._keys is not None:
                with contextlib.suppress(OSError):  # they are written anew by each start
                    self._write_maps()
            raise
        former.send_signal(signal.SIGUSR1)
        self._former.append(former)
        for oldest in (ended := self._former[:-MOST_FORMER]):
            _kill(oldest)
        return bool(ended)

    def refuse_new(self) -> int | None:
        """Refuse new requests, and return the calls under way; None where it does not answer."""
        return admin_socket.refuse_new(self._socket)

    def drain(self, until: float, signal_count: Callable[[], int]) -> None:
        """Refuse new requests until those under way are answered, then close the port. A second
        signal ends the wait, and so does this time (seconds of ``time.monotonic``).

        Those that were replaced go on until ``close`` or ``kill``. They tell nothing of their calls
        (HAProxy closes its socket for commands with its port): the processes answer these before
        they end.
        """
        began = time.monotonic()
        while self.pid is not None and signal_count() < 2 and time.monotonic() < until:
            under_way = self.refuse_new()
            if under_way is None or (not under_way and time.monotonic() > began + LINGER_S):
                break
            time.sleep(DRAIN_POLL_S)
        self.forget()
        self._stop(LINGER_S)

    def forget(self) -> None:
        """Close the sockets here, so that the port is HAProxy's alone; in a fork, too."""
        for one in self._sockets:
            one.close()

    def close(self, timeout_s: float = LINGER_S) -> None:
        """Close the port, and end when the connections are closed, or after this time."""
        until = time.monotonic() + timeout_s
        self.forget()
        self._stop(timeout_s)
        for process in self._former:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        self.kill()

    def _stop(self, timeout_s: float) -> None:
        """The same of the newest alone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            _kill(self._process)

    def kill(self) -> None:
        """End it now. Idempotent."""
        for process in (*self._former, *([self._process] if self._process else [])):
            _kill(process)

    @property
    def _socket(self) -> Path:
        return self._folder / "s"


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
