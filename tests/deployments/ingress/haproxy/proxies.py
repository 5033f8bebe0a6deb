"""HAProxy in tests: the real program on what Ray really writes, before two servers in place of
replicas.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx
import psutil
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from deployments.ingress.admin_socket import process_id
from deployments.ingress.haproxy.ray_config import read
from deployments.ingress.haproxy.rendering import render_serve
from deployments.ingress.haproxy.rules import ARRIVED, FUNCTION
from deployments.ingress.haproxy.terms import Deployed, decide_terms
from deployments.ingress.haproxy_config import binary
from deployments.ray_support.environment import SERVING, to_mapping
from tests.backends import Backend
from tests.deployments.projects import wait_until

BUFFER_BYTES = int(to_mapping(SERVING)["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"])

END = b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

OURS = Deployed(is_ours=True)


class Replica(Backend):
    """Answers with what it got; at `/f/die` the first one to be called closes the connection
    instead, at `/f/half` in mid answer. `/f/up` says that something else has failed."""

    requests: list[tuple[str, str]] = []  # noqa: RUF012 - emptied by `forget`
    heads: list[list[tuple[str, str]]] = []  # noqa: RUF012
    given_up = threading.Event()

    @classmethod
    def forget(cls) -> None:
        """What was seen so far."""
        cls.requests.clear()
        cls.heads.clear()
        cls.given_up.clear()

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """HAProxy's health check, or a look."""
        if self.path == "/console/events":
            self.watch()
            return
        if self.path.startswith("/f/heads"):
            self.heads.append(self.headers.items())
        super().do_GET()

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """A call; at `/f/refused` one that is answered by its head."""
        if self.path != "/f/refused":
            super().do_POST()
            return
        self.close_connection = True
        self.send_response(413)
        self.send_header("content-length", "0")
        self.end_headers()

    def answer(self, body: bytes) -> None:
        self.requests.append((self.headers[ARRIVED], body.decode()))
        if self.path.startswith("/f/heads"):
            self.heads.append(self.headers.items())
        if self.path == "/f/large":
            self.send_large()
            return
        if self.path == "/f/watched":
            self.watch()
            return
        if self.path == "/f/slow":
            self.send_in_two(b"sl", b"ow")
            return
        if self.path == "/f/late":
            time.sleep(2)
            self.say(b"late")
            return
        if self.path == "/f/die" and len(self.requests) == 1:
            self.close_connection = True
            return
        if self.path == "/f/half":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.close_connection = True
            return
        if self.path in ("/f/busy", "/f/up"):
            self.send_response(429 if self.path == "/f/busy" else 502)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.say(body)

    def send_in_two(self, first: bytes, second: bytes) -> None:
        """With a pause between them, as a stream."""
        self.send_response(200)
        self.send_header("content-length", str(len(first + second)))
        self.end_headers()
        self.wfile.write(first)
        time.sleep(2)
        self.wfile.write(second)

    def watch(self) -> None:
        """Wait until the caller is gone, as one that computes would notice it."""
        self.close_connection = True
        self.connection.settimeout(30)
        with suppress(ConnectionError):
            if self.connection.recv(1):
                return
        self.given_up.set()

    def send_large(self) -> None:
        """More than the kernel keeps for a client that does not read."""
        self.send_response(200)
        self.send_header("content-length", str(64 << 20))
        self.end_headers()
        try:
            self.wfile.write(bytes(64 << 20))
        except OSError:
            self.given_up.set()
            self.close_connection = True


def free() -> int:
    """A port that is not in use, below those that the kernel gives to connections: HAProxy would find
    it taken by one that came in between.
    """
    while True:
        port = SystemRandom().randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def at(ports: Sequence[int]) -> list[ServerConfig]:
    """Servers of this machine."""
    return [ServerConfig(f"r{number}", "127.0.0.1", one) for number, one in enumerate(ports)]


def written(
    folder: Path,
    port: int,
    servers: Sequence[ServerConfig],
    deployment: str = FUNCTION,
    *,
    host: str = "127.0.0.1",
    backends: bool = True,
    routers: Sequence[ServerConfig] = (),
    **options: Any,
) -> str:
    """What Ray writes for two applications: one with these servers of a deployment; one whose
    server does not listen. Or before it knows of any.

    Args:
        routers: of the first one, which Ray's script asks for a replica by the names of servers.
        options: of ``HAProxyConfig``.
    """
    replicas = [
        ServerConfig(f"SERVE_REPLICA_f-{deployment}-{one.name}", one.host, one.port, one.name)
        for one in servers
    ]
    known: dict[str, Any] = {
        "socket_path": str(folder / "s"),
        "server_state_base": str(folder),
        "server_state_file": str(folder / "state"),
        "http_options": HTTPOptions(host=host, port=port),
        "stats_port": free(),
        "metrics_port": free(),
        "retry_on": to_mapping(SERVING)["RAY_SERVE_HAPROXY_RETRY_ON"],
        "retries": 3,
        "bufsize": BUFFER_BYTES,
        "health_check_inter": "500ms",
        **options,
    }
    applications = {
        "f": BackendConfig(
            name="http-f",
            app_name="f",
            path_prefix="/f",
            servers=replicas,
            ingress_request_router_servers=list(routers),
        ),
        "g": BackendConfig(
            name="http-g",
            app_name="g",
            path_prefix="/g",
            servers=[ServerConfig("SERVE_REPLICA_g-Shop-none", "127.0.0.1", free())],
        ),
    }
    file = folder / "haproxy.cfg"
    HAProxyApi(
        HAProxyConfig(**known), applications if backends else {}, config_file_path=str(file)
    )._generate_config_file_internal()
    return file.read_text()


def ours(text: str, deployed: Deployed = OURS) -> str:
    """As our program starts HAProxy on it."""
    ray = read(text)
    return render_serve(ray, decide_terms(ray, deployed, lambda prefix: False))


@dataclass(frozen=True)
class Running:
    """A HAProxy that runs.

    Attributes:
        url: of HTTP.
        folder: of its files.
        ports: of the replicas behind it.
        pid: its process.
    """

    url: str
    folder: Path
    ports: tuple[int, ...]
    pid: int

    @property
    def port(self) -> int:
        """Of HTTP."""
        return int(self.url.rpartition(":")[2])

    def tell(self, command: str) -> str:
        """Its answer to a command at its socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(30)
            admin.connect(str(self.folder / "s"))
            admin.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def send(self, request: bytes) -> bytes:
        """The answer to a request, byte by byte."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as caller:
            caller.sendall(request)
            return b"".join(iter(lambda: caller.recv(4096), b""))


@contextmanager
def started(folder: Path, text: str, port: int, ports: Sequence[int] = ()) -> Iterator[Running]:
    """HAProxy on this configuration, once it answers at a port.

    Args:
        text: with its socket at ``s`` in the folder.
    """
    file = folder / "haproxy.cfg"
    file.write_text(text)
    complaints = folder / "haproxy.log"
    with complaints.open("wb") as log:
        child = subprocess.Popen([binary(), "-db", "-f", str(file)], stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=30).close()
                break
            except OSError:
                assert child.poll() is None, complaints.read_text()
                assert time.monotonic() < until, complaints.read_text()
                time.sleep(0.02)
        yield Running(f"http://127.0.0.1:{port}", folder, tuple(ports), child.pid)
    finally:
        child.kill()
        child.wait()


@contextmanager
def replaced(before: Running, text: str) -> Iterator[Running]:
    """Another HAProxy, on this configuration, that takes the place of one that runs as Ray has it
    done; once that one listens no more.
    """
    file, admin = before.folder / "haproxy.cfg", before.folder / "s"
    file.write_text(text)
    takes_over = ["-x", str(admin), "-sf", str(before.pid)]
    with (before.folder / "haproxy.log").open("ab") as log:
        child = subprocess.Popen([binary(), "-db", "-f", str(file), *takes_over], stderr=log)
    try:
        wait_until(lambda: process_id(admin) == child.pid)
        wait_until(lambda: not is_listening(before.pid))
        yield replace(before, pid=child.pid)
    finally:
        child.kill()
        child.wait()


def is_listening(pid: int) -> bool:
    """Whether a process does; one that has ended does not."""
    try:
        return any(one.status == "LISTEN" for one in psutil.Process(pid).net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False


@contextmanager
def replicas(count: int = 2, kind: type[Replica] = Replica) -> Iterator[tuple[int, ...]]:
    """The ports of so many replicas."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for _ in range(count)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield tuple(server.server_port for server in servers)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@contextmanager
def before_two(
    folder: Path,
    deployment: str = FUNCTION,
    deployed: Deployed = OURS,
    *,
    change: Callable[[str], str] = lambda text: text,
    **options: Any,
) -> Iterator[Running]:
    """Our HAProxy before two replicas of a deployment, which have seen nothing yet.

    Args:
        change: of the text of its configuration.
        options: of ``written``.
    """
    with replicas() as ports:
        port = free()
        text = written(folder, port, at(ports), deployment, **options)
        with started(folder, change(ours(text, deployed)), port, ports) as running:
            until = time.monotonic() + 30
            while httpx.post(f"{running.url}/f", content=b"", timeout=60).status_code != 200:
                assert time.monotonic() < until
            Replica.forget()
            yield running
