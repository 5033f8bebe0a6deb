"""What it costs to be seen: metrics, the access log and traces, each against the same server that
counts nothing, in rounds of one run.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
ROUNDS = 9

TEXT = {"text": "the day on which the money of the month comes in"}

CALLED = {"embed": (TEXT, 64), "trivial": ({"x": 1.5}, 8)}
"""By function: a row, and connections."""

AT_LEAST = {"metrics and access log": 0.98, "metrics, access log, traces at 1 %": 0.97}
"""Of the rate of ``embed``."""


def seen(bench: Bench) -> Iterator[Number]:
    """`wakeful run` of `embed` at 64 connections, and of a function that computes nothing at 8."""
    with collector() as endpoint:
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
        yield from _compare(bench, kinds)


@dataclass
class Measured:
    """Of one function by one kind of server, a number for each round."""

    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    void: str = ""


def _compare(bench: Bench, kinds: Mapping[str, Mapping[str, str]]) -> Iterator[Number]:
    """A server of each kind in turn, in each round a new one: of servers that were all the same,
    one process was up to 2 % faster than another for as long as it lived. The rate of the one that
    counts nothing, and the others' share of it; and the processor time of a call, which other work
    on the machine moves less.
    """
    found = {(name, kind): Measured() for name in CALLED for kind in kinds}
    turns = deque(kinds.items())
    for _ in bench.rounds("a server of each kind", ROUNDS):
        for kind, settings in turns:
            with _serving(bench, settings) as server:
                for name, (row, connections) in CALLED.items():
                    _measure(bench, server, name, row, connections, found[name, kind])
        turns.rotate()  # none is always the first, or after the same one
    for name, (_, connections) in CALLED.items():
        base = found[name, "nothing"]
        what = f"`{name}` by `wakeful run`, {connections} connections"
        yield Number(f"{what}, nothing is counted", base.rates, "req/s", void=base.void)
        for kind in kinds:
            one = found[name, kind]
            shares = [rate / most for rate, most in zip(one.rates, base.rates, strict=True)]
            bound = AT_LEAST.get(kind, -math.inf) if name == "embed" else -math.inf
            if kind != "nothing":
                yield Number(f"{what}, {kind}: share of that", shares, "", "", one.void, bound)
            yield Number(f"{what}, {kind}: processor time a call", one.times, "us", void=one.void)


def _measure(
    bench: Bench, server: Server, name: str, row: object, connections: int, into: Measured
) -> None:
    """One function of a server."""
    target = server.url + path_of(name)
    wrk.run(target, [row], connections, 1)  # not counted: buffers grow now
    before = processor_s(server)
    load = wrk.run(target, [row], connections, bench.pick(5, 2))
    into.times.append((processor_s(server) - before) / max(1, load.requests) * 1e6)
    into.rates.append(load.requests_per_s)
    into.void = into.void or load.void


def processor_s(server: Server) -> float:
    """Seconds of processor that it has used so far, as its metrics say."""
    page = server.client.get("/metrics").text
    (line,) = (one for one in page.splitlines() if one.startswith("process_cpu_seconds_total "))
    return float(line.split()[1])


def _serving(bench: Bench, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE)
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    file = declare.write(bench.folder / "seen.yaml", (embed, trivial))
    return local(file, free_port(), bench.log("seen"), settings, PROGRAM)


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
