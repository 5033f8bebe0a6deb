"""Wakeful and its peers in turns, on this machine, in one run."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from deployments.ray_support.processes import cluster_processes
from loadtests.bench import wrk
from loadtests.bench.bare import bare_loop
from loadtests.bench.numbers import amount
from loadtests.bench.texts import (
    Plan,
    by_length,
    log_uniform_lengths,
    offline_plans,
    write_texts,
)
from loadtests.bench.throughput import FINALISTS, MODEL, SIZES, memory_mb, problem, serving
from loadtests.command import CORES, Bench, Start, Table, between_markers, cell, put, say
from loadtests.peers.servers import PEERS, Body, Served, peer_server
from loadtests.server import ChildFailed, local, path_of, up


@contextlib.contextmanager
def wakeful(bench: Bench, name: str, start: Start) -> Iterator[Served]:
    """Ours, by ``wakeful run`` or ``wakeful up``."""
    with serving(replace(bench, start=start)) as server:
        yield Served(server.url + path_of(name), server.home)


Serving = AbstractContextManager[Served]


@dataclass(frozen=True, slots=True)
class PeerRound:
    """One round of one contestant.

    Attributes:
        p50_ms, p99_ms: NaN of the bare loop, which has no callers.
        memory_mb: of all its processes, what they share counted once, while it is called.
        void: why it means nothing; empty when it is valid.
    """

    rate: float
    p50_ms: float = math.nan
    p99_ms: float = math.nan
    memory_mb: float = math.nan
    void: str = ""


Measure = Callable[[], PeerRound]


@dataclass(frozen=True, slots=True)
class Standing:
    """One contestant under one load: a line of the table. Each number is the median of its rounds.

    Attributes:
        load: in words.
        unit: of the rates.
    """

    load: str
    contestant: str
    rounds: Sequence[PeerRound]
    void: str = ""
    unit: str = "req/s"

    @property
    def verdict(self) -> str:
        """``void`` where it proves nothing."""
        return "void" if self.void or not self.rounds else ""

    def median(self, figure: str) -> float:
        """Of the rounds, of one of their figures."""
        values: list[float] = [getattr(one, figure) for one in self.rounds]
        return statistics.median(values or [math.nan])

    def __str__(self) -> str:
        if self.verdict:
            return f"| {self.load} | {self.contestant} | **void**: {cell(self.void)} | | | |"
        rates = [one.rate for one in self.rounds]
        rate = amount(self.median("rate"), self.unit)
        spread = f" ({amount(min(rates))} to {amount(max(rates))})" if len(rates) > 1 else ""
        figures = (("p50_ms", "ms"), ("p99_ms", "ms"), ("memory_mb", "MB"))
        rest = " | ".join(known(self.median(figure), unit) for figure, unit in figures)
        return f"| {self.load} | {self.contestant} | {rate}{spread} | {rest} |"


def known(value: float, unit: str) -> str:
    """With its unit; empty where it was not measured."""
    return "" if math.isnan(value) else amount(value, unit)


def measures(
    bench: Bench, name: str, values: Sequence[Any], connections: int
) -> dict[str, Measure]:
    """By contestant: it is started, called with the values in turn, and ended."""

    def measure(serve: Callable[[], Serving], body: Body) -> PeerRound:
        rows = [body(name, value) for value in values]
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        with serve() as place:
            wrk.run(place.url, rows, connections, bench.pick(2, 1))
            seen = wrk.run(place.url, rows, connections, bench.pick(6, 2))
            held = memory_mb(processes_of(place, before))[1]
        return PeerRound(seen.requests_per_s, seen.p50_ms, seen.p99_ms, held, seen.void)

    ours = {"Wakeful, `run`": local, "Wakeful, `up` (Ray)": up}
    served: dict[str, tuple[Callable[[], Serving], Body]] = {
        contestant: (partial(wakeful, bench, name, start), PEERS[0].body)
        for contestant, start in ours.items()
    }
    served |= {peer.name: (partial(peer_server, bench, peer, name), peer.body) for peer in PEERS}
    return {contestant: partial(measure, *how) for contestant, how in served.items()}


def processes_of(place: Served, before: Collection[int]) -> list[psutil.Process]:
    """All that a server consists of: what this process started since, and what bears its mark."""
    started = psutil.Process().children(recursive=True)
    marked = cluster_processes(place.home)
    return list({one.pid: one for one in (*started, *marked) if one.pid not in before}.values())


def compare(
    bench: Bench, what: str, contestants: Mapping[str, Measure], units: Mapping[str, str]
) -> Iterator[Standing]:
    """Each in turn, alone on the machine; three times around.

    Args:
        units: of a contestant whose rate is not of requests.
    """
    seen: dict[str, list[PeerRound]] = {contestant: [] for contestant in contestants}
    voids = dict.fromkeys(contestants, "")
    for _ in bench.rounds(what):
        for contestant, measure in contestants.items():
            say(f"{what}: {contestant}")
            try:
                found = measure()
                seen[contestant].append(found)
                why = found.void
            except ChildFailed as failed:  # the others are measured all the same
                why = str(failed)
            voids[contestant] = voids[contestant] or why
    for contestant, rounds in seen.items():
        unit = units.get(contestant, "req/s")
        yield Standing(what, contestant, rounds, voids[contestant], unit)


BARE = "bare ONNX Runtime, all cores"

EMBED, MIXED, TRIVIAL = (
    "MiniLM, 14 tokens, 64 connections",
    "MiniLM, 4 to 200 tokens, 32 connections",
    "computes nothing, 8 connections",
)


def embed64(bench: Bench) -> Iterator[Standing]:
    """64 connections, texts of 14 tokens."""
    lengths = [14] * bench.pick(256, 64)
    plans = {str(size): by_length(lengths, size) for size in SIZES}
    yield from embed(bench, EMBED, lengths, plans, 64)


def mixed(bench: Bench) -> Iterator[Standing]:
    """32 connections, texts of 4 to 200 tokens."""
    lengths = log_uniform_lengths(bench.pick(256, 64), 4, 200)
    yield from embed(bench, MIXED, lengths, dict(offline_plans(lengths)), 32)


def embed(
    bench: Bench, what: str, lengths: Sequence[int], plans: Mapping[str, Plan], connections: int
) -> Iterator[Standing]:
    """Texts of these lengths; the bare loop takes its turn too, by the best of its plans, and
    answers rows.
    """
    texts = write_texts(MODEL.with_name("tokenizer.json"), lengths)
    seconds = bench.pick(20, 3) / 10
    with bare_loop(MODEL, CORES) as loop:
        first = {name: loop.rows_per_s(texts, plan, seconds) for name, plan in plans.items()}
        best = sorted(first, key=first.__getitem__, reverse=True)[:FINALISTS]

        def bare() -> PeerRound:
            return PeerRound(max(loop.rows_per_s(texts, plans[name], seconds) for name in best))

        served = measures(bench, "embed", [text for text, _ in texts], connections)
        yield from compare(bench, what, {BARE: bare, **served}, {BARE: "rows/s"})


def trivial(bench: Bench) -> Iterator[Standing]:
    """8 connections, a function that computes nothing."""
    served = measures(bench, "trivial", [float(x) for x in range(100)], 8)
    yield from compare(bench, TRIVIAL, served, {})


SUMMARY = "peers-summary"
"""The name in the markers of the short table."""

SUMMARY_PAGES = (Path("README.md"), Path("docs/comparison.md"))


def summary(lines: Sequence[Any]) -> str:
    """A table with a line for each server: its rates, p99 with the model, and its memory then."""
    by_server: dict[str, dict[str, Standing]] = {}
    for line in lines:
        by_server.setdefault(line.contestant, {})[line.load] = line
    rates = [f"{load}, req/s" for load in (EMBED, MIXED, TRIVIAL)]
    rows = [["two cores, one run", rates[0], "p99", *rates[1:], "memory"], ["---"] * 6]
    for server, loads in by_server.items():
        nothing = Standing("", server, ())
        seen = [loads.get(load, nothing) for load in (EMBED, MIXED, TRIVIAL)]
        bold = "**" if server.startswith("Wakeful") else ""
        first, *more = (
            f"{bold}{amount(one.median('rate'))}{bold}" if not one.verdict else "" for one in seen
        )
        seen[0] = nothing if seen[0].verdict else seen[0]
        p99 = known(seen[0].median("p99_ms"), "ms")
        rows.append([server, first, p99, *more, known(seen[0].median("memory_mb"), "MB")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def write_summary(lines: Sequence[Any]) -> None:
    """Puts the short table into its pages."""
    for page in SUMMARY_PAGES:
        put(page, between_markers(page, SUMMARY, summary(lines)))
        say(f"written: {page}")


TABLE = Table(
    "python -m loadtests.peers",
    "| load | server | a second | p50 | p99 | memory |\n|---|---|---|---|---|---|",
    {"embed64": embed64, "mixed": mixed, "trivial": trivial},
    problem,
    """Measure Wakeful beside other servers with the same model on this machine, in one run.

    Makes an environment for each under build/peers, which takes minutes the first time. Each server
    has as many workers as the machine has cores, batches of at most 32 where it batches, and is
    alone on the machine while it is measured. Prints a table, and writes it into docs/benchmarks.md
    when all of it was measured, and what is short of it into README.md and docs/comparison.md.
    Memory is of all processes of a server, what they share counted once.
    """,
    "peers",
    write_summary,
)
