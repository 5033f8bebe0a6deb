"""What it costs to be seen: metrics, the access log and traces, each against nothing, in one
process that changes between them (``switched``).
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.numbers import Number
from loadtests.bench.switched import (
    KINDS,
    LOG,
    NOTHING,
    SETTLE_S,
    SLICE_S,
    SLICES,
    TRACES,
    Slice,
)
from loadtests.command import CORES, Bench, say
from loadtests.server import HOST, Server, free_port, local, path_of

ONE = {"min_replicas": 1, "max_replicas": 1}
ROUNDS = 15

TEXT = {"text": "the day on which the money of the month comes in"}

CALLED = {"embed": (TEXT, 64), "trivial": ({"x": 1.5}, 8)}
"""By function: a row, and connections."""

AT_LEAST = {LOG: 0.98, TRACES: 0.97}
"""Of the rate of ``embed``."""


def seen(bench: Bench) -> Iterator[Number]:
    """`wakeful run` of `embed` at 64 connections, and of a function that computes nothing at 8."""
    slices = bench.folder / "slices"
    with collector() as endpoint:
        settings = {
            SLICES: str(slices),
            "WAKEFUL_ACCESS_LOG": str(bench.folder / "access.log"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
            "OTEL_BSP_SCHEDULE_DELAY": f"{SETTLE_S * 1000:.0f}",  # so that a slice pays for its own
        }
        with _serving(bench, settings) as server:
            for name in CALLED:
                yield from _compare(bench, server, name, slices)


def _compare(bench: Bench, server: Server, name: str, slices: Path) -> Iterator[Number]:
    """The rate while nothing is counted, and the others' share of it; and the processor time of a
    call, which other work on the machine moves less.
    """
    row, connections = CALLED[name]
    rounds = bench.pick(ROUNDS, 1)
    seconds = math.ceil((rounds + 1) * len(KINDS) * (SETTLE_S + SLICE_S))
    say(f"`{name}`, {connections} connections: {seconds} s")
    began = time.monotonic() + SETTLE_S  # not counted: buffers grow before
    load = wrk.run(server.url + path_of(name), [row], connections, seconds)
    ended = time.monotonic()
    found: dict[str, list[Slice]] = {kind: [] for kind in KINDS}
    for line in slices.read_bytes().splitlines():
        each = Slice(*orjson.loads(line))
        if began <= each.began and each.ended <= ended:
            found[each.kind].append(each)
    rates = {
        kind: [one.answered / (one.ended - one.began) for one in found[kind]] for kind in KINDS
    }
    what = f"`{name}` by `wakeful run`, {connections} connections"
    yield Number(f"{what}, {NOTHING}", rates[NOTHING], "req/s", void=load.void)
    for kind in KINDS:
        shares = [rate / base for rate, base in zip(rates[kind], rates[NOTHING], strict=False)]
        times = [one.busy_s / max(1, one.answered) * 1e6 for one in found[kind]]
        bound = AT_LEAST.get(kind, -math.inf) if name == "embed" else -math.inf
        if kind != NOTHING:
            yield Number(f"{what}, {kind}: share of that", shares, "", "", load.void, bound)
        yield Number(f"{what}, {kind}: processor time a call", times, "us", void=load.void)


def _serving(bench: Bench, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE)
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    file = declare.write(bench.folder / "seen.yaml", (embed, trivial))
    program = (sys.executable, "-m", "loadtests.bench.switched")
    return local(file, free_port(), bench.log("seen"), settings, program)


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
