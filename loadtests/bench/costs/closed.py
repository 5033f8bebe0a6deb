"""What it costs to be closed to strangers: keys, and TLS, each against neither, in turns.

By `wakeful run`, where HAProxy stands before the process only if there are keys or TLS, and by
`wakeful run --workers`, where it always does: one server of each kind, of which one is called at a
time. On Ray, where a machine has one cluster, one server after the other.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.costs.seen import CALLED, ONE
from loadtests.bench.numbers import Number
from loadtests.command import CORES, Bench
from loadtests.server import (
    HOST,
    OPEN,
    SHORT,
    START_S,
    Child,
    Door,
    free_port,
    path_of,
    poll,
    script,
    up,
    with_key,
    with_tls,
)

NEITHER: Final = "neither"
KEYS: Final = "keys"
TLS: Final = "TLS"

AT_LEAST: Final = {(KEYS, "embed"): 0.98, (KEYS, "trivial"): 0.95, (TLS, "embed"): 0.95}
"""Of the rate with neither, before the processes of ``--workers``."""

TURN_S: Final = 4
ROUNDS: Final = 7

WORKERS: Final = ("--workers", "2")

RAY_ROUNDS: Final = 5
RAY_TURNS: Final = 3


@dataclass(frozen=True, slots=True)
class Served:
    """A server of one kind.

    Attributes:
        headers: of each request.
        processes: returns all of its processes, HAProxy's included.
    """

    url: str
    headers: Mapping[str, str]
    processes: Callable[[], list[psutil.Process]]

    def busy_s(self) -> float:
        """Seconds of processor that it has used."""
        times = [one.cpu_times() for one in self.processes()]
        return float(sum(one.user + one.system for one in times))


def closed(bench: Bench) -> Iterator[Number]:
    """`embed` at 64 connections, and a function that computes nothing at 8."""
    for options in ((), WORKERS):
        by = f"`{' '.join(('wakeful run', *options))}`"
        with ExitStack() as stack:
            served = {
                kind: stack.enter_context(_serving(bench, kind, options))
                for kind in (NEITHER, KEYS, TLS)
            }
            for name in CALLED:
                yield from _compare(bench, served, name, by, is_bound=options == WORKERS)


def closed_on_ray(bench: Bench) -> Iterator[Number]:
    """The same functions; in each round a cluster of each kind."""
    found: dict[tuple[str, str], list[list[_Turn]]] = {}
    kinds = [NEITHER, KEYS, TLS]
    for _ in bench.rounds("by `wakeful up`", RAY_ROUNDS):
        for kind in kinds:
            folder = bench.folder / f"closed-{kind}"
            folder.mkdir(exist_ok=True)
            door = _door(kind, folder)
            file, log = _write(folder, door), bench.log(f"closed-up-{kind}")
            with up(file, free_port(), log, declare.ROOM, door=door) as server:
                served = Served(server.url, door.headers, server.processes)
                for name in CALLED:
                    _take_turn(bench, served, name)
                    turns = [_take_turn(bench, served, name) for _ in range(RAY_TURNS)]
                    found.setdefault((kind, name), []).append(turns)
        kinds.reverse()
    for name, (_, connections) in CALLED.items():
        what = f"`{name}` by `wakeful up`, {connections} connections"
        rates = {kind: [_median_rate(turns) for turns in found[kind, name]] for kind in kinds}
        voids = {kind: _why_void(found[kind, name]) for kind in kinds}
        yield Number(f"{what}, {NEITHER}", rates[NEITHER], "req/s", void=voids[NEITHER])
        for kind in (KEYS, TLS):
            shares = [rate / open_ for rate, open_ in zip(rates[kind], rates[NEITHER], strict=True)]
            void = voids[NEITHER] or voids[kind]
            bound = AT_LEAST.get((kind, name), -math.inf)
            yield Number(f"{what}, {kind}: share of that", shares, "", "", void, bound)
        for kind in (NEITHER, KEYS, TLS):
            each = [turn.busy_us for turns in found[kind, name] for turn in turns]
            yield Number(f"{what}, {kind}: processor time a call", each, "us")


def _compare(
    bench: Bench, served: Mapping[str, Served], name: str, by: str, *, is_bound: bool
) -> Iterator[Number]:
    """Each turn is compared with the mean of those with neither before and behind it."""
    for one in served.values():
        _take_turn(bench, one, name)  # buffers grow, and it is not counted
    connections = CALLED[name][1]
    plain = [_take_turn(bench, served[NEITHER], name)]
    shares: dict[str, list[float]] = {KEYS: [], TLS: []}
    times: dict[str, list[float]] = {NEITHER: [plain[0].busy_us], KEYS: [], TLS: []}
    voids = {KEYS: plain[0].void, TLS: plain[0].void}
    order = [KEYS, TLS]
    for _ in bench.rounds(f"`{name}` by {by}, {connections} connections", ROUNDS):
        for kind in order:
            turn = _take_turn(bench, served[kind], name)
            plain.append(_take_turn(bench, served[NEITHER], name))
            shares[kind].append(turn.per_s / statistics.fmean(one.per_s for one in plain[-2:]))
            times[kind].append(turn.busy_us)
            times[NEITHER].append(plain[-1].busy_us)
            voids[kind] = voids[kind] or turn.void or plain[-1].void
        order.reverse()
    what = f"`{name}` by {by}, {connections} connections"
    rates = [one.per_s for one in plain]
    yield Number(f"{what}, {NEITHER}", rates, "req/s", void=voids[KEYS] and voids[TLS])
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


def _median_rate(turns: Sequence[_Turn]) -> float:
    return statistics.median(turn.per_s for turn in turns)


def _why_void(rounds: Sequence[Sequence[_Turn]]) -> str:
    return next((turn.void for turns in rounds for turn in turns if turn.void), "")


def _door(kind: str, folder: Path) -> Door:
    if kind == KEYS:
        return with_key()
    return with_tls(folder) if kind == TLS else OPEN


def _write(folder: Path, door: Door) -> Path:
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE, tier="own")
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES}, tier="own")
    return declare.write(folder / "serve_config.yaml", (embed, trivial), door.http)


@contextlib.contextmanager
def _serving(bench: Bench, kind: str, options: Sequence[str]) -> Iterator[Served]:
    """Raises ``ChildFailed`` if it does not answer in time."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="wk-", dir=SHORT))
    try:
        door = _door(kind, folder)
        file = _write(folder, door)
        environ = {**os.environ, "TMPDIR": str(folder), "WAKEFUL_ROOT": str(Path.cwd())}
        command = [script("wakeful"), "run", str(file), "--port", str(port), *options]
        with Child(command, bench.log(f"closed-{kind}"), environ) as child:
            process = psutil.Process(child.process.pid)
            served = Served(
                f"{door.scheme}://{HOST}:{port}",
                door.headers,
                lambda: [process, *process.children(recursive=True)],
            )
            for name in CALLED:
                _wait_for_answer(served, name, door, child)
            yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_answer(served: Served, name: str, door: Door, child: Child) -> None:
    row = CALLED[name][0]
    with door.client(served.url) as client:
        for _ in poll(START_S, every_s=0.1):
            with contextlib.suppress(httpx.TransportError):
                if client.post(path_of(name), json=row).status_code == 200:
                    return
            if not child.is_running:
                raise child.failure("ended before its first answer")
    raise child.failure(f"no answer after {START_S:g} s")
