"""A thousand functions declared and asleep: what they cost to bring up, while nothing happens, in memory, and the one that wakes.

They are copies of `forecast` over twenty copies of its model, with a folder of models of their own, so that the first `up` probes them
all and the second finds everything known.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.bench import memory
from loadtests.bench.figures import Number, Target
from loadtests.bench.wake import declare
from loadtests.bench.wake.asleep import DELAY_S, QUIET_S, first_call, wrong
from loadtests.bench.wake.calls import Answer
from loadtests.bench.wake.outcome import taken_ms
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import Wakeful, up

FEW, SOME = 2, 8
COPIES = 20
"""Files that the functions share."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A server with so many functions, all asleep.

    Attributes:
        cores: processor time of all its processes by time.
        held: their memory.
    """

    functions: int
    cores: float
    held: memory.Memory


def thousand(bench: Bench) -> Iterator[Number]:
    """Servers with 1,000 functions, with two, and with eight."""
    many, root = bench.plan.functions, bench.folder / "thousand"
    files = {count: declared(bench, root, count) for count in (many, FEW, SOME)}
    settings = {"WAKEFUL_ROOT": str(root), "WAKEFUL_MODELS": str(root / "models"), "WAKEFUL_PROMOTE_WORK": declare.KEPT}
    log = bench.log("thousand")
    bench.say(f"{many} functions, each probed")
    with up(files[many], bench.port, log, settings) as server:
        first_s = server.up_s
    bench.say(f"{many} functions, known")
    with up(files[many], bench.port, log, settings) as server:
        up_s, crowd = server.up_s, idle(bench, server)
        among_many = woken(bench, server, many)
    bench.say(f"{FEW} functions")
    with up(files[FEW], bench.port, log, settings) as server:
        pair = idle(bench, server)
    bench.say(f"{SOME} functions")
    with up(files[SOME], bench.port, log, settings) as server:
        among_few = woken(bench, server, SOME)
    yield Number(f"`wakeful up`, {many:,} functions, probes cached", (up_s,), "s", Target("at most", 15), f"{COPIES} copies of files")
    yield Number(f"`wakeful up`, {many:,} functions, nothing known of them", (first_s,), "s")
    yield from resting(crowd, pair)
    yield from waking(many, among_many, among_few)


def declared(bench: Bench, root: Path, count: int) -> Path:
    """So many copies of `forecast`, and the files that they name."""
    functions = []
    root.mkdir(exist_ok=True)
    for index in range(min(count, COPIES)):
        shutil.copy(bench.forecast, root / f"model-{index}.onnx")
    for index in range(count):
        stages = bench.shipped["forecast"]["args"]["graph"]
        graph = [{**stage, "onnx": f"model-{index % COPIES}.onnx"} if "onnx" in stage else stage for stage in stages]
        functions.append(bench.like("forecast", name_of(index), graph=graph, autoscaling=declare.sleepy(DELAY_S)))
    return bench.file(f"thousand-{count}", functions)


def name_of(index: int) -> str:
    """The name of a function."""
    return f"forecast-{index}"


def idle(bench: Bench, server: Wakeful) -> Idle:
    """What its processes do and hold while nobody calls."""
    time.sleep(bench.plan.settle_s)
    before, start = processor_s(server.processes()), time.perf_counter()
    time.sleep(bench.plan.idle_s)
    processes = server.processes()
    after, passed = processor_s(processes), time.perf_counter() - start
    spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
    return Idle(len(server.urls) - len((declare.CATALOGUE, declare.HOST)), spent / passed, memory.measure(processes))


def processor_s(processes: Iterable[psutil.Process]) -> dict[int, float]:
    """Seconds of processor that each has used, by id."""
    found = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = times.user + times.system
    return found


def woken(bench: Bench, server: Wakeful, count: int) -> list[Answer]:
    """First calls of eight functions in turn, whatever number there is."""
    body = bench.example("forecast")
    names = [name_of(index * (count // SOME)) for index in range(SOME)]
    return [first_call(server, names[index % SOME], body, QUIET_S) for index in bench.rounds(f"one of {count}", bench.plan.wakes)]


def resting(crowd: Idle, pair: Idle) -> Iterator[Number]:
    """Processor and memory of the sleeping, each above those of a server with two."""
    more = crowd.functions - pair.functions
    for server in (crowd, pair):
        note = f"of all {len(server.held.names)} processes"
        yield Number(f"{server.functions:,} functions asleep: processor", (server.cores * 100,), "% of a core", note=note)
        yield Number(f"{server.functions:,} functions asleep: RSS", (server.held.rss_bytes / 1e6,), "MB", note=note)
    spent = (crowd.cores - pair.cores) * 100
    yield Number(f"{crowd.functions:,} functions asleep: processor above {pair.functions}", (spent,), "% of a core", Target("at most", 3))
    each_kb = (crowd.held.rss_bytes - pair.held.rss_bytes) / 1e3 / more
    yield Number("memory of a sleeping function", (each_kb,), "kB", Target("at most", 50), f"RSS of all processes, by {more} functions")


def waking(many: int, among_many: list[Answer], among_few: list[Answer]) -> Iterator[Number]:
    """How much longer one takes among many."""
    void = wrong([*among_many, *among_few])
    found, fewer = taken_ms(among_many), taken_ms(among_few)
    yield Number(f"first answer of one of {many:,}", found, "ms", void=void)
    yield Number(f"first answer of one of {SOME}", fewer, "ms", void=void)
    ratio = (statistics.median(found) / statistics.median(fewer),) if found and fewer else ()
    yield Number(f"first answer of one of {many:,}, over that of one of {SOME}", ratio, "", Target("at most", 1.2), "of the medians", void)
