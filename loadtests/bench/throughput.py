"""The sections of the throughput benchmark; each serves the shipped `embed`, or a function that
computes nothing, and compares it with the bare limit in alternating rounds.

Answers are checked outside of the timed part: a number whose run saw a wrong or refused answer is
void, whatever its size.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from pathlib import Path

import httpx
import psutil

from deployments.loadtest.calls.answers import WrongAnswer, check_alike
from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.bare import BareLoop, bare_loop
from loadtests.bench.costs.closed import closed, closed_on_ray
from loadtests.bench.costs.console import console
from loadtests.bench.costs.seen import captured, seen
from loadtests.bench.each import each
from loadtests.bench.handles import handles
from loadtests.bench.numbers import HEAD, Number
from loadtests.bench.texts import (
    Plan,
    Text,
    by_length,
    log_uniform_lengths,
    offline_plans,
    write_texts,
)
from loadtests.command import CORES, Bench, Table, absent, say
from loadtests.server import (
    HOST,
    Child,
    ChildFailed,
    Server,
    free_port,
    local,
    path_of,
    poll,
    script,
    wait_for_answer,
)
from loadtests.stages import large_file

MODEL = Path("models/minilm/model.int8.onnx")
ONE = {"min_replicas": 1, "max_replicas": 1}
SIZES = (1, 8, 16, 32)
"""Batches of the bare loop where all texts are of one length."""

FINALISTS = 4
"""Ways of batching that are measured in every round, after all were measured once."""

PROCESSES = 2
"""Of `wakeful run --workers`."""

READY_S = 60.0
"""Longest wait for all of them."""

TEXT = {"text": "the day on which the money of the month comes in"}

CALLS = 20
"""Calls of each function before memory is read: what is allocated on use is then allocated."""

Figure = Callable[[wrk.Load], float]
RATE, P50 = attrgetter("requests_per_s"), attrgetter("p50_ms")

Turn = Callable[[], tuple[float, str]]
"""Gives a figure of a round, and why it means nothing; empty when it is valid."""


def startup(bench: Bench) -> Iterator[Number]:
    """`wakeful up` of the shipped file, several times, and the memory of all its processes."""
    seconds, rss, pss, count = [], [], [], 0
    for index in bench.rounds("wakeful up"):
        began = time.perf_counter()
        with bench.start(declare.SHIPPED, bench.port, bench.log(f"up-{index}")) as server:
            server.post("embed", declare.example("embed"))
            seconds.append(time.perf_counter() - began)
            for name in ("embed", "forecast") * CALLS:
                server.post(name, declare.example(name))
            processes = server.processes()
            held, count = memory_mb(processes), len(processes)
            rss.append(held[0])
            pss.append(held[1])
    note = "from the start of the command"
    yield Number("`wakeful up` to first answer of `embed`", seconds, "s", note, at_most=10)
    note = f"both functions, {count} processes"
    yield Number("RSS of all processes", rss, "MB", note, at_most=1600)
    yield Number("PSS of all processes", pss, "MB", "what they share counted once")


def embed64(bench: Bench) -> Iterator[Number]:
    """64 connections, 14 tokens, against the bare loop at its best batch size."""
    lengths = [14] * bench.pick(256, 64)
    plans = {f"batches of {size}": by_length(lengths, size) for size in SIZES}
    bound = Number("bare ONNX Runtime, all cores, 14 tokens", (), "rows/s")
    ours = Number(f"`embed` {bench.where}, 64 connections", (), "req/s")
    yield from embed(bench, lengths, plans, 64, bound, ours, 0.80)


def mixed(bench: Bench) -> Iterator[Number]:
    """32 connections, 4 to 200 tokens, against the best offline policy."""
    lengths = log_uniform_lengths(bench.pick(256, 64), 4, 200)
    bound = Number("best offline policy, all cores, 4 to 200 tokens", (), "rows/s")
    ours = Number(f"`embed` {bench.where}, 4 to 200 tokens, 32 connections", (), "req/s")
    yield from embed(bench, lengths, dict(offline_plans(lengths)), 32, bound, ours, 0.75)


def embed(
    bench: Bench, lengths: Sequence[int], plans: Mapping[str, Plan], connections: int,
    bound: Number, ours: Number, at_least: float,
) -> Iterator[Number]:  # fmt: skip
    """The rate of texts of some lengths, in turns with the bare loop's by the best of its plans;
    and what a single caller waits.
    """
    texts = write_texts(MODEL.with_name("tokenizer.json"), lengths)
    rows = [{"text": text} for text, _ in texts]
    seconds = bench.pick(20, 3) / 10
    with serving(bench) as server, bare_loop(MODEL, CORES) as loop:
        say("trying the bare loop's batches")
        first = {name: loop.rows_per_s(texts, plan, seconds) for name, plan in plans.items()}
        best = sorted(first, key=first.__getitem__, reverse=True)[:FINALISTS]

        def limit() -> tuple[float, str]:
            return max(loop.rows_per_s(texts, plans[name], seconds) for name in best), ""

        void = wrong_answers(server, loop, texts)
        url, bound = server.url + path_of("embed"), replace(bound, note=best[0])
        ours = replace(ours, void=void)
        yield from against(
            bench, bound, limit, ours, turn_of(bench, url, rows, connections), at_least
        )
        yield one_caller(bench, ours.name.rpartition(",")[0], url, rows, void)


def trivial(bench: Bench) -> Iterator[Number]:
    """8 connections, against the same function on bare Starlette and uvicorn."""
    port = free_port()
    options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command = [script("uvicorn"), "loadtests.bench.bare_uvicorn:app", *options]
    bare = f"http://{HOST}:{port}/trivial"
    rows = [{"x": float(x)} for x in range(100)]
    with serving(bench) as server, Child(command, bench.log("uvicorn")) as uvicorn:
        wait_for_answer(bare, uvicorn)
        answer = server.post("trivial", {"x": 1.5})
        void = "" if answer == {"answer": 3.0} else f"wrong answer: {answer}"
        what = "bare uvicorn and Starlette, trivial function, 8 connections"
        bound, name = Number(what, (), "req/s", "one process"), f"trivial function {bench.where}"
        ours = Number(f"{name}, 8 connections", (), "req/s", void=void, at_least=4500)
        url = server.url + path_of("trivial")
        limit, rate = (turn_of(bench, one, rows, 8) for one in (bare, url))
        yield from against(bench, bound, limit, ours, rate, 0.22)
        yield one_caller(bench, name, url, rows, void)


def files(bench: Bench) -> Iterator[Number]:
    """An answer that is a file of 10 MB, out of memory and from disk, 8 connections, against the
    same bytes by bare Starlette and uvicorn; by `wakeful run`, since Ray's share is HAProxy's.
    """
    port = free_port()
    options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command = [script("uvicorn"), "loadtests.bench.bare_uvicorn:app", *options]
    bare, rows = f"http://{HOST}:{port}/file", [{"x": float(x)} for x in range(100)]
    stages: dict[str, dict[str, object]] = {
        "memory": {"python": "loadtests.stages:from_memory"},
        "disk": {"python": "loadtests.stages:FromDisk", "with": {"folder": str(bench.folder)}},
        "temporary": {
            "python": "loadtests.stages:Temporary",
            "with": {"folder": str(bench.folder)},
        },
    }
    functions = [
        declare.function(name, [{"stage": "file", **stage}]) for name, stage in stages.items()
    ]
    alone = replace(bench, start=local, where="by `wakeful run`")
    with alone.serve("files", *functions) as server, Child(command, bench.log("uvicorn")) as child:
        wait_for_answer(bare, child)
        for name in stages:
            url, bound = server.url + path_of(name), "bare uvicorn and Starlette, file of 10 MB"
            limit, rate = (turn_of(alone, one, rows, 8) for one in (bare, url))
            ours = Number(
                f"file of 10 MB, {name}, {alone.where}, 8 connections",
                (),
                "req/s",
                void=_other_bytes(url),
            )
            at_least = 0.8 if name != "temporary" else -math.inf  # it is written for each call
            yield from against(
                alone, Number(bound, (), "req/s", "out of memory"), limit, ours, rate, at_least
            )


def _other_bytes(url: str) -> str:
    """Why an answer is not the file; empty when it is."""
    answer = httpx.post(url, json={"x": 1.0}, timeout=60)
    return "" if answer.content == large_file() else f"wrong answer: {answer.status_code}"


def without_ray(bench: Bench) -> Iterator[Number]:
    """The same functions by `wakeful run`, in one process."""
    alone = replace(bench, start=local, where="by `wakeful run`")
    for number in chain(embed64(alone), trivial(alone)):
        yield replace(number, at_least=-math.inf)  # what is asked is asked of Ray


def task_routes(bench: Bench) -> Iterator[Number]:
    """What a caller of `/v1/embeddings` waits beyond one of the function's own route."""
    alone = replace(bench, start=local, where="by `wakeful run`")
    for place in (bench, alone):
        yield from _added_by_route(place)


def _added_by_route(bench: Bench) -> Iterator[Number]:
    """In turns, of the same texts; the numbers in base64, as OpenAI's client asks for them."""
    lengths = [14] * bench.pick(256, 64)
    texts = [text for text, _ in write_texts(MODEL.with_name("tokenizer.json"), lengths)]
    rows = [{"text": text} for text in texts]
    form = {"model": "embed", "encoding_format": "base64"}
    with serving(bench) as server:
        own = turn_of(bench, server.url + path_of("embed"), rows, 1, P50)
        bodies = [{**form, "input": text} for text in texts]
        by_task = turn_of(bench, f"{server.url}/v1/embeddings", bodies, 1, P50)
        void = _other_numbers(server, texts[0])
        name = f"`/v1/embeddings` {bench.where}, 1 connection"
        (owns, tasks), void = in_turns(bench, name, void, own, by_task)
    yield Number(f"{name}: p50", tasks, "ms", void=void)
    added = [task - alone for task, alone in zip(tasks, owns, strict=True)]
    note = "above the function's own route"
    yield Number(f"{name}: p50 added", added, "ms", note, void=void, at_most=0.8)


def _other_numbers(server: Server, text: str) -> str:
    """Why the two routes do not give the same numbers; empty when they do."""
    expected = server.post("embed", {"text": text})["embedding"]
    body = {"model": "embed", "input": text, "encoding_format": "float"}
    answer = httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=60).json()
    return unlike(answer.get("data", [{}])[0].get("embedding"), expected)


def workers(bench: Bench) -> Iterator[Number]:
    """In turns with one process, of the same file."""
    with _in_processes(bench, 1) as one, _in_processes(bench, PROCESSES) as several:
        _wait_for_all(several)
        computes = "Python that computes 5 ms by `wakeful run{}`, 8 connections"
        yield from _compare(bench, one, several, "compute", {"ms": 5}, 8, computes, 1.8)
        embed = "`embed` by `wakeful run{}`, 64 connections"
        yield from _compare(bench, one, several, "embed", TEXT, 64, embed, -math.inf)
        yield from _added(bench, one, several)


def _compare(
    bench: Bench, one: Server, several: Server, name: str, row: Mapping[str, object],
    connections: int, what: str, at_least: float,
) -> Iterator[Number]:  # fmt: skip
    turns = [
        turn_of(bench, server.url + path_of(name), [row], connections) for server in (one, several)
    ]
    option = f" --workers {PROCESSES}"
    (alone, shared), void = in_turns(bench, what.format(option), "", *turns)
    shares = [more / base for more, base in zip(shared, alone, strict=True)]
    yield Number(what.format(""), alone, "req/s", void=void)
    yield Number(what.format(option), shared, "req/s", void=void)
    yield Number(f"{what.format(option)}, over one", shares, "", "", void, at_least)


def _added(bench: Bench, one: Server, several: Server) -> Iterator[Number]:
    """What a single caller waits more: the way through HAProxy."""
    turns: list[Turn] = [
        turn_of(bench, server.url + path_of("trivial"), [{"x": 1.5}], 1, P50)
        for server in (one, several)
    ]
    what = f"trivial function by `wakeful run --workers {PROCESSES}`, 1 connection"
    (alone, shared), void = in_turns(bench, what, "", *turns)
    added = [more - base for more, base in zip(shared, alone, strict=True)]
    yield Number(f"{what}: p50", shared, "ms", void=void)
    yield Number(f"{what}: p50 minus that of one process", added, "ms", void=void)


def _in_processes(bench: Bench, processes: int) -> AbstractContextManager[Server]:
    graph = [{"stage": "compute", "python": "loadtests.stages:compute"}]
    computes = declare.function("compute", graph, autoscaling=ONE)
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE)
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    file = declare.write(bench.folder / f"workers-{processes}.yaml", (computes, trivial, embed))
    options = ("--workers", str(processes))
    return local(file, free_port(), bench.log(f"workers-{processes}"), options=options)


def _wait_for_all(server: Server) -> None:
    """Until every process has loaded what it serves.

    Raises:
        ChildFailed: they have not in time.
    """
    for _ in poll(READY_S):
        functions = httpx.get(server.url).json()["functions"]
        if all(one["replicas"] == PROCESSES for one in functions):
            return
    raise ChildFailed(f"the {PROCESSES} processes have not loaded within {READY_S:g} s.")


def serving(bench: Bench) -> AbstractContextManager[Server]:
    """A server of the measured functions, which do not scale meanwhile."""
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = declare.function("trivial", graph, autoscaling=ONE)
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    return bench.serve("bench", embed, trivial)


def turn_of(
    bench: Bench, url: str, rows: Sequence[object], connections: int, figure: Figure = RATE
) -> Turn:
    """A run of wrk that posts rows, and what of it counts."""

    def turn() -> tuple[float, str]:
        seen = wrk.run(url, rows, connections, bench.pick(10, 2))
        return figure(seen), seen.void

    return turn


def one_caller(bench: Bench, what: str, url: str, rows: Sequence[object], void: str) -> Number:
    """What one caller waits for an answer, of all the rows in turn."""
    what = f"{what}, 1 connection"
    (p50,), void = in_turns(bench, what, void, turn_of(bench, url, rows, 1, P50))
    return Number(f"{what}: p50", p50, "ms", void=void)


def against(
    bench: Bench, bound: Number, limit: Turn, ours: Number, rate: Turn, at_least: float
) -> Iterator[Number]:
    """A limit and our rate in turns; both, and the ratio of each round.

    Args:
        bound, ours: without their rounds; ``ours`` with why it is void before it is measured.
        at_least: of the ratio.
    """
    (limits, rates), void = in_turns(bench, ours.name, ours.void, limit, rate)
    shares = [one / most for one, most in zip(rates, limits, strict=True)]
    yield replace(bound, rounds=limits, void=void)
    yield replace(ours, rounds=rates, void=void)
    yield Number(f"{ours.name}, share of that", shares, void=void, at_least=at_least)


def in_turns(bench: Bench, what: str, void: str, *turns: Turn) -> tuple[list[list[float]], str]:
    """The figures of each, a round each, and why they mean nothing. Every other round goes the
    other way round: the second finds the machine as the first leaves it.

    Args:
        void: why they mean nothing, known before.
    """
    found: list[list[float]] = [[] for _ in turns]
    voids = [void]
    for turn in turns:
        turn()  # not counted: buffers grow to the largest batch now
    for index in bench.rounds(what):
        pairs = list(zip(turns, found, strict=True))
        for turn, figures in reversed(pairs) if index % 2 else pairs:
            figure, why = turn()
            figures.append(figure)
            voids.append(why)
    return found, "; ".join(dict.fromkeys(filter(None, voids)))


def memory_mb(processes: Sequence[psutil.Process]) -> tuple[float, float]:
    """Resident memory of processes together, and proportional memory, where what they share counts
    once.
    """
    rss = pss = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            info = process.memory_full_info()
            rss, pss = rss + info.rss, pss + info.pss
    return rss / 1e6, pss / 1e6


def wrong_answers(server: Server, loop: BareLoop, texts: Sequence[Text]) -> str:
    """Why the server's answers are not those of the bare model; empty when they are."""
    found = (server.post("embed", {"text": text})["embedding"] for text, _ in texts[:8])
    return next(filter(None, map(unlike, found, loop.embed(texts[:8]))), "")


def unlike(found: object, expected: object) -> str:
    """Why an embedding is wrong; empty when it is right."""
    try:
        check_alike(found, expected)
    except WrongAnswer as wrong:
        return f"wrong answer: {wrong}"
    return ""


def problem(_sections: frozenset[str]) -> str:
    """Why nothing can be measured here; empty when it can."""
    return wrk.missing() or absent([MODEL, Path("models/forecast/model.onnx")])


TABLE = Table(
    "python -m loadtests.bench",
    HEAD,
    {
        "up": startup,
        "embed64": embed64,
        "mixed": mixed,
        "trivial": trivial,
        "tasks": task_routes,
        "files": files,
        "run": without_ray,
        "seen": seen,
        "captured": captured,
        "closed": closed,
        "closed-up": closed_on_ray,
        "console": console,
        "each": each,
        "handles": handles,
        "workers": workers,
    },
    problem,
    """Measure Wakeful against the bare limit of this machine, both sides in the same run.

    Prints a table, and writes it into docs/benchmarks.md when all of it was measured, validly and
    at full length. Exits 0 when every number is valid.
    """,
    "bench",
)
