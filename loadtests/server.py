"""Wakeful as a user starts it, in a state folder of its own: `wakeful up`, or `wakeful run` without
Ray; what stands before it (``Door``); and other processes that a load test starts. Each is ended
by its id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from deployments.ray_support.environment import inherited_variables
from deployments.ray_support.processes import cluster_processes, end_processes
from runtime.declaration.access.keys import digest_of, make_key
from runtime.declaration.http_section import SCOPES

HOST = "127.0.0.1"
GRACE_S = 10.0
"""How long a process may take to end before it is killed."""

UP_S = 600.0
"""Longest `wakeful up`: fifty models may have to be prepared first."""

DOWN_S = 90.0
"""Longest `wakeful down`, which drains first."""

START_S = 300.0
"""Longest wait for a first answer: `wakeful run` loads every function before it."""

SHORT = "/tmp"
"""Where a state folder's path is short enough for Ray's sockets."""


@dataclass(frozen=True, slots=True)
class Door:
    """How a server is reached.

    Attributes:
        http: the section of this name in its file.
        headers: of each request.
        context: trusts its certificate; None: it takes plain HTTP.
    """

    http: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    context: ssl.SSLContext | None = None

    @property
    def scheme(self) -> str:
        """Of its URLs."""
        return "http" if self.context is None else "https"

    def client(self, url: str, timeout_s: float = 30.0) -> httpx.Client:
        """A client of a server."""
        verify = True if self.context is None else self.context
        return httpx.Client(
            base_url=url, headers=dict(self.headers), verify=verify, timeout=timeout_s
        )


OPEN: Final = Door()


def with_key() -> Door:
    """Calls need a key, which is made, and opens everything."""
    key = make_key()
    auth = {"keys": [{"name": "loadtests", "sha256": digest_of(key), "scope": list(SCOPES)}]}
    return Door({"auth": auth}, {"x-api-key": key})


def with_tls(folder: Path) -> Door:
    """Calls come by TLS, with a certificate that is made in a folder and signs itself."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    key.chmod(0o600)
    tls = {"cert": str(cert), "key": str(key)}
    return Door({"tls": tls}, context=ssl.create_default_context(cafile=cert))


def closed(folder: Path) -> Door:
    """Both."""
    keyed, encrypted = with_key(), with_tls(folder)
    return Door({**keyed.http, **encrypted.http}, keyed.headers, encrypted.context)


class ChildFailed(Exception):
    """A process ended or did not answer; the message ends with the tail of its output."""


class Child:
    """A process in a session of its own, so that Ctrl-C reaches only its parent, which ends it.

    Args:
        log: file that its output is added to.
    """

    # Mutable state: the process.

    def __init__(
        self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.command, self.log = tuple(command), log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environ,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it: asked first; it and what it started are killed after ``GRACE_S``."""
        if self.is_running:
            process = psutil.Process(self.process.pid)
            family = [process, *process.children(recursive=True)]
            process.terminate()
            for survivor in psutil.wait_procs(family, GRACE_S)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    survivor.kill()
        self.process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Its exit code.

        Raises:
            ChildFailed: it is still running after ``timeout_s``.
        """
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still running after {timeout_s:g} s") from None

    def failure(self, what: str) -> ChildFailed:
        """The error to raise about it."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        command = " ".join(self.command)
        return ChildFailed(f"{command}: {what} (exit {self.process.poll()})\n{tail}".rstrip())


def run(
    command: Sequence[str], log: Path, timeout_s: float, environ: Mapping[str, str] | None = None
) -> None:
    """A command to its end.

    Raises:
        ChildFailed: its code is not 0, or it takes longer.
    """
    with Child(command, log, environ) as child:
        if child.wait(timeout_s):
            raise child.failure("failed")


def script(name: str) -> str:
    """A console script of this interpreter's environment, else the one that the shell finds."""
    path = Path(sys.executable).with_name(name)
    return str(path) if os.access(path, os.X_OK) else name


def poll(seconds: float, every_s: float = 0.02) -> Iterator[float]:
    """Yields the seconds passed, every so often, until ``seconds`` are over."""
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        yield passed
        time.sleep(every_s)


def free_port() -> int:
    """A port of loopback that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def path_of(name: str) -> str:
    """The path of a function."""
    return f"/v2/models/{name}"


@dataclass(frozen=True, slots=True)
class Server:
    """A Wakeful that serves.

    Attributes:
        port: its HTTP port on loopback.
        up_s: seconds that the command took.
        home: its state folder.
        environ: the environment it was started with; other commands about it need the same.
        door: what stands before it.
    """

    port: int
    up_s: float
    home: Path
    environ: Mapping[str, str] = field(repr=False)
    client: httpx.Client = field(repr=False)
    door: Door = OPEN

    @property
    def url(self) -> str:
        """Without a path."""
        return f"{self.door.scheme}://{HOST}:{self.port}"

    def post(self, name: str, row: object) -> Any:
        """The decoded answer to one call outside of what is timed.

        Raises:
            ChildFailed: it was not served.
        """
        return _decoded(self.client.post(path_of(name), json=row))

    def entry(self, name: str) -> dict[str, Any]:
        """A function's entry in the catalogue, with its decisions. Wakes nothing."""
        found: dict[str, Any] = _decoded(self.client.get(f"/functions/{name}"))
        return found

    def wait(self, name: str, state: str, within_s: float) -> None:
        """Waits until a function is seen in a state.

        Raises:
            ChildFailed: not in time.
        """
        entry: dict[str, Any] = {}
        for _ in poll(within_s, every_s=0.05):
            entry = self.entry(name)
            if entry["state"] == state and not entry["doing"]:
                return
        raise ChildFailed(f"{name} is not {state} after {within_s:g} s: {entry}")

    def processes(self) -> list[psutil.Process]:
        """All of its cluster's."""
        return cluster_processes(self.home)

    def titled(self, title: str) -> list[psutil.Process]:
        """Those whose command line contains a title, such as ``ServeController``."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def wakeful(self, *arguments: str, log: Path, timeout_s: float = 200.0) -> int:
        """How another command about it ended; -1 if it did not."""
        with Child([script("wakeful"), *arguments], log, self.environ) as command:
            try:
                return command.wait(timeout_s)
            except ChildFailed:
                return -1


def _decoded(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        request = f"{answer.request.method} {answer.request.url.path}"
        raise ChildFailed(f"{request}: {answer.status_code} {answer.text[:200]}")
    return answer.json()


@contextlib.contextmanager
def up(
    file: Path,
    port: int,
    log: Path,
    settings: Mapping[str, str] | None = None,
    *,
    door: Door = OPEN,
) -> Iterator[Server]:
    """`wakeful up --detach`, then `wakeful down`.

    Args:
        settings: further environment variables.
        door: what the file has before the server.

    Raises:
        ChildFailed: the port is taken, `up` or `down` failed, or `down` left processes.
    """
    with _prepared(port, settings, door) as server:
        began = time.perf_counter()
        try:
            run([script("wakeful"), "up", "--detach", str(file)], log, UP_S, server.environ)
            yield replace(server, up_s=time.perf_counter() - began)
        finally:
            run([script("wakeful"), "down"], log, DOWN_S, server.environ)
            _, remaining = psutil.wait_procs(server.processes(), 2.0)
            if remaining:
                raise ChildFailed(f"`wakeful down` left {remaining}")


@contextlib.contextmanager
def local(
    file: Path,
    port: int,
    log: Path,
    settings: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
    options: Sequence[str] = (),
    *,
    door: Door = OPEN,
) -> Iterator[Server]:
    """`wakeful run`: every function in one process, no Ray.

    Args:
        program: instead of the `wakeful` command.
        options: further ones of `run`.
        door: what the file has before the server.

    Raises:
        ChildFailed: the port is taken, it ended, or there is no answer in time.
    """
    with _prepared(port, settings, door) as server:
        began = time.perf_counter()
        command_line = [*(program or (script("wakeful"),)), "run", str(file), *options]
        with Child(command_line, log, server.environ) as command:
            wait_for_answer(f"{server.url}/v2/health/ready", command, door)
            yield replace(server, up_s=time.perf_counter() - began)


def wait_for_answer(url: str, command: Child, door: Door = OPEN) -> None:
    """Waits until a GET is answered with 200.

    Raises:
        ChildFailed: the command ended, or it takes longer than ``START_S``.
    """
    with door.client("") as client:
        for _ in poll(START_S):
            with contextlib.suppress(httpx.TransportError):
                if client.get(url).status_code == 200:
                    return
            if not command.is_running:
                raise command.failure("ended before its first answer")
    raise command.failure(f"no answer after {START_S:g} s")


@contextlib.contextmanager
def _prepared(port: int, settings: Mapping[str, str] | None, door: Door) -> Iterator[Server]:
    """A server to be: its state folder, and an environment that names it and the port."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ChildFailed(f"{HOST}:{port} is in use. Free it, or choose another with --port.")
    folder = Path(tempfile.mkdtemp(prefix="wk-", dir=SHORT))
    home = folder / f"wakeful-{os.getuid()}"
    # files that a section writes lie elsewhere, and name the models of the working folder
    root = str(Path.cwd())
    own = {
        "WAKEFUL_ROOT": root,
        "WAKEFUL_PORT": str(port),
        "TMPDIR": str(folder),
        **(settings or {}),
    }
    environ = inherited_variables(own)
    try:
        with door.client(f"{door.scheme}://{HOST}:{port}") as client:
            yield Server(port, 0.0, home, environ, client, door)
    finally:
        end_processes(home)
        shutil.rmtree(folder, ignore_errors=True)
