"""What it costs to be seen: metrics, the access log and traces, each against the same server that
counts nothing, in alternating rounds of one run.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.numbers import Number
from loadtests.bench.uncounted import UNCOUNTED
from loadtests.command import CORES, Bench
from loadtests.server import HOST, Server, free_port, local, path_of

PROGRAM = (sys.executable, "-m", "loadtests.bench.uncounted")
"""Of every server: the same code started by another program was 2 % faster or slower."""

ONE = {"min_replicas": 1, "max_replicas": 1}
ROUNDS = 5

TEXT = {"text": "the day on which the money of the month comes in"}

CALLED = {"embed": (TEXT, 64), "trivial": ({"x": 1.5}, 8)}
"""By function: a row, and connections."""

AT_LEAST = {"metrics and access log": 0.98, "metrics, access log, traces at 1 %": 0.97}
"""Of the rate of ``embed``."""


def seen(bench: Bench) -> Iterator[Number]:
    """`wakeful run` of `embed` at 64 connections, and of a function that computes nothing at 8."""
    with collector() as endpoint, ExitStack() as stack:
        log = {"WAKEFUL_ACCESS_LOG": str(bench.folder / "access.log")}
        traces = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }
        kinds: dict[str, dict[str, str]] = {
            "nothing": {UNCOUNTED: "1"},
            "metrics": {},
            "metrics and access log": log,
            "metrics, access log, traces at 1 %": {**log, **traces},
        }
        servers = {
            kind: stack.enter_context(_serving(bench, f"seen-{index}", settings))
            for index, (kind, settings) in enumerate(kinds.items())
        }
        for name, (row, connections) in CALLED.items():
            yield from _compare(bench, servers, name, row, connections)


def _compare(
    bench: Bench, servers: Mapping[str, Server], name: str, row: object, connections: int
) -> Iterator[Number]:
    """Each server in turn: the rate of the one that counts nothing, and the others' share of it;
    and the processor time of a call, which other work on the machine hardly moves.
    """
    rates: dict[str, list[float]] = {kind: [] for kind in servers}
    times: dict[str, list[float]] = {kind: [] for kind in servers}
    voids: dict[str, str] = dict.fromkeys(servers, "")
    for server in servers.values():  # not counted: buffers grow now
        wrk.run(server.url + path_of(name), [row], connections, 1)
    turns = deque(servers.items())
    for _ in bench.rounds(f"`{name}`, {connections} connections", ROUNDS):
        for kind, server in turns:
            before = processor_s(server)
            load = wrk.run(server.url + path_of(name), [row], connections, bench.pick(10, 2))
            times[kind].append((processor_s(server) - before) / max(1, load.requests) * 1e6)
            rates[kind].append(load.requests_per_s)
            voids[kind] = voids[kind] or load.void
        turns.rotate()  # none is always the first, or after the same one
    base = rates.pop("nothing")
    what = f"`{name}` by `wakeful run`, {connections} connections"
    yield Number(f"{what}, nothing is counted", base, "req/s", void=voids["nothing"])
    for kind, measured in rates.items():
        shares = [rate / most for rate, most in zip(measured, base, strict=True)]
        bound = AT_LEAST.get(kind, -math.inf) if name == "embed" else -math.inf
        yield Number(f"{what}, {kind}: share of that", shares, void=voids[kind], at_least=bound)
    for kind, measured in times.items():
        yield Number(f"{what}, {kind}: processor time a call", measured, "us", void=voids[kind])


def processor_s(server: Server) -> float:
    """Seconds of processor that it has used so far, as its metrics say."""
    page = server.client.get("/metrics").text
    (line,) = (one for one in page.splitlines() if one.startswith("process_cpu_seconds_total "))
    return float(line.split()[1])


def _serving(
    bench: Bench, name: str, settings: Mapping[str, str]
) -> AbstractContextManager[Server]:
    """A server of its own, on a port of its own; all stand at once, and one at a time is called."""
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE)
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    file = declare.write(bench.folder / f"{name}.yaml", (embed, trivial))
    return local(file, free_port(), bench.log(name), settings, PROGRAM)


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """A collector of traces that takes all and keeps nothing; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Any request."""
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *of: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
