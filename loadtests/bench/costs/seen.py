"""What it costs to be seen: metrics, the access log and traces, each against nothing, in one
process that changes between them (``switched``); and recorded calls, which an operator switches.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx
import orjson

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.costs.switched import (
    KINDS,
    LOG,
    NOTHING,
    SETTLE_S,
    SLICE_S,
    SLICES,
    TRACES,
    Slice,
)
from loadtests.bench.numbers import Number
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


CAPTURED = {0.01: 0.99, 1.0: 0.95}
"""Share of the calls that is recorded, and the least share of ``embed``'s rate that stays."""

CAPTURE_S = 3
CAPTURE_ROUNDS = 9

WRITTEN_S = 2.2
"""After the last call of a turn: its lines are held for two seconds, and then written."""


class Turn(NamedTuple):
    """What a load of some seconds gave at one rate of recording.

    Attributes:
        per_s: calls answered in a second.
        busy_us: of processor for a call, with what is written of it afterwards.
        void: why that means nothing; empty where it means something.
    """

    per_s: float
    busy_us: float
    void: str


def captured(bench: Bench) -> Iterator[Number]:
    """`embed` at 64 connections, and a function that computes nothing at 8, by one `wakeful run`
    whose calls are recorded, or not: share of the rate, and processor time of a call.

    Each turn with recorded calls is compared with the mean of those without before and behind it:
    what drifts meanwhile, such as a neighbour's load, falls out.
    """
    folder = bench.folder / "captures"
    with _serving(bench, {"WAKEFUL_CAPTURES": str(folder)}, ("-m", "deployments.cli")) as server:
        for name, (_, connections) in CALLED.items():
            _take_turn(bench, server, name, 0.0)  # buffers grow, and it is not counted
            plain = [_take_turn(bench, server, name, 0.0)]
            turns: dict[float, list[Turn]] = {rate: [] for rate in CAPTURED}
            shares: dict[float, list[float]] = {rate: [] for rate in CAPTURED}
            more: dict[float, list[float]] = {rate: [] for rate in CAPTURED}
            order = list(CAPTURED)
            for _ in bench.rounds(f"`{name}`, {connections} connections", CAPTURE_ROUNDS):
                for rate in order:
                    turn = _take_turn(bench, server, name, rate)
                    plain.append(_take_turn(bench, server, name, 0.0))
                    turns[rate].append(turn)
                    beside = plain[-2:]
                    per_s = statistics.fmean(one.per_s for one in beside)
                    busy_us = statistics.fmean(one.busy_us for one in beside)
                    shares[rate].append(turn.per_s / per_s)
                    more[rate].append((turn.busy_us / busy_us - 1) * 100)
                order.reverse()
            lost = _capture(server, name, 0.0)["lost"]
            what = f"`{name}` by `wakeful run`, {connections} connections"
            yield _number(f"{what}, not recorded", [one.per_s for one in plain], "req/s", plain)
            for rate, bound in CAPTURED.items():
                line = _number(
                    f"{what}, {rate:.0%} recorded: share of that", shares[rate], "", turns[rate]
                )
                at_least = bound if name == "embed" else -math.inf
                yield replace(line, note=f"{lost} lost", at_least=at_least)
            time_of = f"{what}: processor time of 1,000 calls"
            times = [one.busy_us / 1000 for one in plain]
            yield _number(f"{time_of}, not recorded", times, "s", plain)
            for rate, of in turns.items():
                kind = f"{time_of}, {rate:.0%} recorded"
                yield _number(kind, [one.busy_us / 1000 for one in of], "s", of)
                yield _number(f"{kind}: more than that", more[rate], "%", of)


def _number(name: str, rounds: Sequence[float], unit: str, turns: Sequence[Turn]) -> Number:
    void = next((turn.void for turn in turns if turn.void), "")
    return Number(name, rounds, unit, void=void)


def _take_turn(bench: Bench, server: Server, name: str, rate: float) -> Turn:
    """Load a function while this share of its calls is recorded."""
    row, connections = CALLED[name]
    _capture(server, name, rate)
    busy_s = _busy_s(server)
    load = wrk.run(server.url + path_of(name), [row], connections, bench.pick(CAPTURE_S, 1))
    time.sleep(WRITTEN_S)
    busy_s = _busy_s(server) - busy_s
    return Turn(load.requests_per_s, busy_s / max(1, load.requests) * 1e6, load.void)


def _capture(server: Server, name: str, rate: float) -> Mapping[str, int]:
    """Have a function's calls recorded at this rate from now on; what was until now."""
    url = f"{server.url}/v2/repository/models/{name}/capture"
    order = {"rate": rate, "for_s": 3600}
    answer = httpx.post(url, json=order) if rate else httpx.delete(url)
    told: Mapping[str, int] = answer.raise_for_status().json()
    return told


def _busy_s(server: Server) -> float:
    """Seconds of processor that the server has used."""
    text = httpx.get(f"{server.url}/metrics").text
    line = next(one for one in text.splitlines() if one.startswith("process_cpu_seconds_total "))
    return float(line.partition(" ")[2])


def _serving(
    bench: Bench,
    settings: Mapping[str, str],
    program: Sequence[str] = ("-m", "loadtests.bench.costs.switched"),
) -> AbstractContextManager[Server]:
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE)
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    file = declare.write(bench.folder / "seen.yaml", (embed, trivial))
    python = (sys.executable, *program)
    return local(file, free_port(), bench.log("seen"), settings, python)


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
