"""What it costs to be closed to strangers: keys, and TLS, each against neither, in turns.

By `wakeful run`, where HAProxy stands before the process only if there are keys or TLS, and by
`wakeful run --workers`, where it always does: one server of each kind, of which one is called at a
time.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import ssl
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.costs.seen import CALLED, ONE
from loadtests.bench.numbers import Number
from loadtests.command import CORES, Bench
from loadtests.server import (
    HOST,
    SHORT,
    START_S,
    Child,
    free_port,
    path_of,
    poll,
    script,
)
from runtime.declaration.access.keys import digest_of, make_key

OPEN: Final = "neither"
KEYS: Final = "keys"
TLS: Final = "TLS"

AT_LEAST: Final = {(KEYS, "embed"): 0.98, (KEYS, "trivial"): 0.95, (TLS, "embed"): 0.95}
"""Of the rate with neither, before the processes of ``--workers``."""

TURN_S: Final = 4
ROUNDS: Final = 7

WORKERS: Final = ("--workers", "2")


@dataclass(frozen=True, slots=True)
class Served:
    """A server of one kind.

    Attributes:
        headers: of each request.
        process: the command; what it has started is below it.
    """

    url: str
    headers: Mapping[str, str]
    process: psutil.Process

    def busy_s(self) -> float:
        """Seconds of processor that it has used, HAProxy included."""
        family = [self.process, *self.process.children(recursive=True)]
        times = [one.cpu_times() for one in family]
        return float(sum(one.user + one.system for one in times))


def closed(bench: Bench) -> Iterator[Number]:
    """`embed` at 64 connections, and a function that computes nothing at 8."""
    for options in ((), WORKERS):
        by = f"`{' '.join(('wakeful run', *options))}`"
        with ExitStack() as stack:
            served = {
                kind: stack.enter_context(_serving(bench, kind, options))
                for kind in (OPEN, KEYS, TLS)
            }
            for name in CALLED:
                yield from _compare(bench, served, name, by, is_bound=options == WORKERS)


def _compare(
    bench: Bench, served: Mapping[str, Served], name: str, by: str, *, is_bound: bool
) -> Iterator[Number]:
    """Each turn is compared with the mean of those with neither before and behind it."""
    for one in served.values():
        _take_turn(bench, one, name)  # buffers grow, and it is not counted
    connections = CALLED[name][1]
    plain = [_take_turn(bench, served[OPEN], name)]
    shares: dict[str, list[float]] = {KEYS: [], TLS: []}
    times: dict[str, list[float]] = {OPEN: [plain[0].busy_us], KEYS: [], TLS: []}
    voids = {KEYS: plain[0].void, TLS: plain[0].void}
    order = [KEYS, TLS]
    for _ in bench.rounds(f"`{name}` by {by}, {connections} connections", ROUNDS):
        for kind in order:
            turn = _take_turn(bench, served[kind], name)
            plain.append(_take_turn(bench, served[OPEN], name))
            shares[kind].append(turn.per_s / statistics.fmean(one.per_s for one in plain[-2:]))
            times[kind].append(turn.busy_us)
            times[OPEN].append(plain[-1].busy_us)
            voids[kind] = voids[kind] or turn.void or plain[-1].void
        order.reverse()
    what = f"`{name}` by {by}, {connections} connections"
    rates = [one.per_s for one in plain]
    yield Number(f"{what}, {OPEN}", rates, "req/s", void=voids[KEYS] and voids[TLS])
    for kind, of in shares.items():
        bound = AT_LEAST.get((kind, name), -math.inf) if is_bound else -math.inf
        yield Number(f"{what}, {kind}: share of that", of, "", "", voids[kind], bound)
    for kind, each in times.items():
        yield Number(f"{what}, {kind}: processor time a call", each, "us")


@dataclass(frozen=True, slots=True)
class _Turn:
    per_s: float
    busy_us: float
    void: str


def _take_turn(bench: Bench, served: Served, name: str) -> _Turn:
    row, connections = CALLED[name]
    busy_s = served.busy_s()
    url, seconds = served.url + path_of(name), bench.pick(TURN_S, 1)
    load = wrk.run(url, [row], connections, seconds, served.headers)
    busy_s = served.busy_s() - busy_s
    return _Turn(load.requests_per_s, busy_s / max(1, load.requests) * 1e6, load.void)


@contextlib.contextmanager
def _serving(bench: Bench, kind: str, options: Sequence[str]) -> Iterator[Served]:
    """Raises ``ChildFailed`` if it does not answer in time."""
    key, port = make_key(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="wk-", dir=SHORT))
    try:
        http: dict[str, Any] = {}
        if kind == KEYS:
            http = {"auth": {"keys": [{"name": "bench", "sha256": digest_of(key)}]}}
        elif kind == TLS:
            http = {"tls": _make_certificate(folder)}
        graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
        trivial = declare.function("trivial", graph, autoscaling=ONE)
        embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
        file = declare.write(folder / "serve_config.yaml", (embed, trivial), http)
        environ = {**os.environ, "TMPDIR": str(folder), "WAKEFUL_ROOT": str(Path.cwd())}
        command = [script("wakeful"), "run", str(file), "--port", str(port), *options]
        with Child(command, bench.log(f"closed-{kind}"), environ) as child:
            scheme = "https" if kind == TLS else "http"
            headers = {"x-api-key": key} if kind == KEYS else {}
            process = psutil.Process(child.process.pid)
            served = Served(f"{scheme}://{HOST}:{port}", headers, process)
            for name in CALLED:
                _wait_for_answer(served, name, folder / "cert.pem", child)
            yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_answer(served: Served, name: str, certificate: Path, child: Child) -> None:
    verify = ssl.create_default_context(cafile=certificate) if certificate.exists() else True
    row = CALLED[name][0]
    for _ in poll(START_S, every_s=0.1):
        with contextlib.suppress(httpx.TransportError):
            url = served.url + path_of(name)
            if httpx.post(url, json=row, headers=served.headers, verify=verify).status_code == 200:
                return
        if not child.is_running:
            raise child.failure("ended before its first answer")
    raise child.failure(f"no answer after {START_S:g} s")


def _make_certificate(folder: Path) -> dict[str, str]:
    """Return ``http.tls`` of a certificate that signs itself."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    key.chmod(0o600)
    return {"cert": str(cert), "key": str(key)}
