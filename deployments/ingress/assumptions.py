"""What Wakeful takes for granted of HAProxy: the form of its answers on its socket, and what its
commands and signals do (``ASSUMPTIONS``). What it does with the configuration is held by the tests
of that.

Each check starts the HAProxy that would serve, on a configuration of a few lines in a folder of its
own, and ends it: some 50 ms.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deployments.ingress import admin_socket
from deployments.ingress.haproxy.rules import DRAINING
from deployments.ingress.haproxy_config import binary, foreground_command, read_refusal
from deployments.ingress.haproxy_metrics import write_metrics
from deployments.ingress.tls.pem import read_pair
from deployments.ray_support.haproxy_names import FRONTEND
from runtime.system.assumptions import Assumption, require

START_S: Final = 10.0

OLDEST: Final = (2, 8)

CONFIGURATION: Final = f"""\
global
    stats socket {{folder}}/s mode 600 level admin
    expose-experimental-directives
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    timeout queue 30s
frontend {FRONTEND}
    bind unix@{{folder}}/in
    http-request return status 429 if {{{{ var({DRAINING}) -m bool }}}}
    default_backend one
backend one
    server w1 127.0.0.1:1 check inter 1h disabled
backend two
    server w1 127.0.0.1:1 track one/w1
"""

REQUEST: Final = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class RunningHAProxy(NamedTuple):
    """A HAProxy that runs: its process, its socket for commands, and where it listens."""

    process: subprocess.Popen[bytes]
    admin: Path
    listens: Path

    def connect(self) -> socket.socket:
        """A client's connection, with a request sent."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(START_S)
        client.connect(str(self.listens))
        client.sendall(REQUEST)
        return client


@contextmanager
def _running(more: str = "") -> Iterator[RunningHAProxy]:
    """Of a configuration with these sections as well."""
    with tempfile.TemporaryDirectory(prefix="wakeful") as name:
        folder = Path(name)
        file = folder / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(folder=folder) + more, encoding="utf-8")
        command = foreground_command(binary(), file)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + START_S
            while admin_socket.send_command(folder / "s", "show info") is None:
                require(process.poll() is None, read_refusal(binary(), file) or "it ends at once")
                require(time.monotonic() < until, f"it does not listen within {START_S:g} s")
                time.sleep(0.01)
            yield RunningHAProxy(process, folder / "s", folder / "in")
        finally:
            process.kill()
            process.wait()


@contextmanager
def _accepting() -> Iterator[socket.socket]:
    """A server that accepts connections, and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(START_S)
        yield server


def _version() -> None:
    done = subprocess.run([binary(), "-vv"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    require(found is not None, f"its version is not in {done.stdout.partition(chr(10))[0]!r}")
    assert found
    version = int(found[1]), int(found[2])
    require(version >= OLDEST, f"it is {found[1]}.{found[2]}, which is older than 2.8")
    require("+LUA" in done.stdout or "Lua version" in done.stdout, "it is built without Lua")


VERSION: Final = Assumption(
    "HAProxy 2.8 or later, with Lua",
    "Its configuration is written for these. Without it HAProxy does not start.",
    "",
    _version,
)


def _process_id() -> None:
    with _running() as it:
        found = admin_socket.process_id(it.admin)
        require(found == it.process.pid, f"process {it.process.pid} says that it is {found}")


PROCESS_ID: Final = Assumption(
    "show info",
    "`down` tells the HAProxy that serves from one that a reload has displaced. Without it it "
    "waits for calls that there are not.",
    "",
    _process_id,
)


def _refuses() -> None:
    with _running() as it:
        counted = admin_socket.refuse_new(it.admin)
        require(counted == 0, f"with no call in flight it counts {counted}")
        with it.connect() as client:
            answer = client.recv(64)
        require(b" 429 " in answer, f"while it refuses it answers {answer!r}")
        admin_socket.accept_again(it.admin)
    with _running() as it, _accepting() as server:
        admin_socket.set_server(it.admin, "w1", "one", ("two",), server.getsockname())
        with it.connect():
            connection, _ = server.accept()  # the call has passed the frontend
            with connection:
                counted = admin_socket.refuse_new(it.admin)
                require(counted == 1, f"with a call in flight it counts {counted}")


REFUSES: Final = Assumption(
    "set var, show sess",
    "`down` has HAProxy refuse new calls, and counts those in flight. Without it calls are cut.",
    "",
    _refuses,
)


def _counts() -> None:
    with _running() as it:
        page = write_metrics(admin_socket.read_frontends(it.admin) or "")
        lines = [line for line in page.splitlines() if not line.startswith("#")]
        require(len(lines) == 10, f"of its counts there are {lines}")
        table = (admin_socket.read_frontends(it.admin) or "").partition("\n")[0].split(",")
        missing = {"pxname", "req_tot", "ereq", "scur", "dcon", "hrsp_5xx", "hrsp_other"} - {
            name.removeprefix("# ") for name in table
        }
        require(not missing, f"its table has no column {', '.join(sorted(missing))}")


COUNTS: Final = Assumption(
    "show stat",
    "`/metrics` has HAProxy's own answers. Without it they are missing.",
    "",
    _counts,
)


def _servers() -> None:
    with _running() as it, _accepting() as server:
        address = server.getsockname()
        admin_socket.set_server(it.admin, "w1", "one", ("two",), address)
        with it.connect():
            connection, _ = server.accept()
            connection.close()
        states = admin_socket.send_command(it.admin, "show servers state") or ""
        moved = [line for line in states.splitlines() if f" {address[1]} " in f"{line} "]
        require(len(moved) == 2, f"its servers are {states!r}")


SERVERS: Final = Assumption(
    "set server",
    "`run --workers` says where a process listens that takes the place of another. Without it "
    "calls go to the dead one until HAProxy is started anew.",
    "",
    _servers,
)


def _ends_softly() -> None:
    with _running() as it:
        it.process.send_signal(signal.SIGUSR1)
        try:
            it.process.wait(START_S)
        except subprocess.TimeoutExpired:
            require(False, "with no call in flight it does not end upon SIGUSR1")


ENDS_SOFTLY: Final = Assumption(
    "SIGUSR1",
    "`down` has HAProxy close its port, answer what it has, and end. Without it it is killed.",
    "",
    _ends_softly,
)


def _refusal() -> None:
    with tempfile.TemporaryDirectory(prefix="wakeful") as name:
        file = Path(name, "haproxy.cfg")
        file.write_text(CONFIGURATION.format(folder=name), encoding="utf-8")
        refusal = read_refusal(binary(), file)
        require(not refusal, f"it refuses a plain configuration: {refusal}")
        file.write_text("no such section\n", encoding="utf-8")
        require(bool(read_refusal(binary(), file)), "it takes a file that is no configuration")


REFUSAL: Final = Assumption(
    "haproxy -c",
    "A configuration that HAProxy refuses is not given to it, and Ray's serves instead. Without it "
    "no HTTP begins.",
    "",
    _refusal,
)


def _certificates() -> None:
    done = subprocess.run([binary(), "-vv"], capture_output=True, text=True, check=True)
    require("+OPENSSL" in done.stdout, "it is built without OpenSSL")
    first, second = (read_pair(*_make_pair()) for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="wakeful") as name:
        file = Path(name, "tls.pem")
        file.write_text(first.text, encoding="utf-8")
        with _running(f"listen tls\n    bind unix@{name}/tls ssl crt {file}\n") as it:
            _require_served(it.admin, file, first.sha1)
            refused = admin_socket.set_certificate(it.admin, file, second.text)
            require(not refused, f"it does not take another certificate: {refused}")
            _require_served(it.admin, file, second.sha1)


def _require_served(admin: Path, file: Path, sha1: str) -> None:
    served = admin_socket.read_certificates(admin, file)
    require(served == frozenset({sha1}), f"{sha1} is served, and it says {served}")


def _make_pair() -> tuple[bytes, bytes]:
    """A certificate and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([]), datetime.now(UTC)
    building = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a")]), critical=True)
    )
    cert = building.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return cert, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CERTIFICATES: Final = Assumption(
    "set ssl cert, show ssl cert",
    "Certificates that change are taken without a restart. Without it the former ones are served "
    "until HAProxy is started anew.",
    "",
    _certificates,
)

ASSUMPTIONS: Final = (
    *(VERSION, PROCESS_ID, REFUSES, COUNTS, SERVERS),
    *(ENDS_SOFTLY, REFUSAL, CERTIFICATES),
)
