"""What it costs that a stage calls a function (``Call["answer"]``), in one process by ``wakeful
run``: beside a ``function:`` stage, and beside the same stage within the function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.numbers import Number
from loadtests.command import Bench
from loadtests.server import Server, local, path_of

ONE = {"min_replicas": 1, "max_replicas": 1}
ROUNDS = 9
ITSELF, EDGE, AWAITED, PLAIN = "itself", "edge", "awaited", "plain"

STAGES = "loadtests.stages"
FUNCTIONS: dict[str, list[dict[str, Any]]] = {
    ITSELF: [
        {"stage": "answer", "python": f"{STAGES}:answer"},
        {"stage": "given", "python": f"{STAGES}:given"},
    ],
    EDGE: [
        {"stage": "answer", "function": "answer"},
        {"stage": "given", "python": f"{STAGES}:given"},
    ],
    AWAITED: [{"stage": "given", "python": f"{STAGES}:asked"}],
    PLAIN: [{"stage": "given", "python": f"{STAGES}:asked_and_waited"}],
}
"""By name: a graph that gives ``answer`` of its ``x`` on."""

ROWS = [{"x": float(x)} for x in range(100)]


def handles(bench: Bench) -> Iterator[Number]:
    """In turns, at one connection and at 64."""
    graph = [{"stage": "answer", "python": f"{STAGES}:answer"}]
    functions = [declare.function("answer", graph, autoscaling=ONE)]
    functions += [
        declare.function(name, graph, autoscaling=ONE) for name, graph in FUNCTIONS.items()
    ]
    file = declare.write(bench.folder / "handles.yaml", functions)
    with local(file, bench.port, bench.log("handles"), {}) as server:
        void = _wrong(server)
        p50, why = _in_turns(bench, server, 1, "p50_ms")
        for name, found in p50.items():
            yield Number(f"{name}, 1 connection: p50", found, "ms", void=void or why)
        for name in (AWAITED, PLAIN):
            added = [one - alone for one, alone in zip(p50[name], p50[ITSELF], strict=True)]
            yield Number(
                f"{name}, 1 connection: p50 above the stage itself",
                added,
                "ms",
                void=void or why,
                at_most=0.3,
            )
        for connections in (1, 64):
            rates, why = _in_turns(bench, server, connections, "requests_per_s")
            for name, found in rates.items():
                what = f"{name}, {connections} connection{'s' if connections > 1 else ''}"
                yield Number(what, found, "req/s", void=void or why)
                if name in (AWAITED, PLAIN):
                    shares = [one / edge for one, edge in zip(found, rates[EDGE], strict=True)]
                    least = 1.0 if name == AWAITED else -math.inf
                    note = f"share of `{EDGE}`"
                    yield Number(what, shares, "", note, void=void or why, at_least=least)


def _wrong(server: Server) -> str:
    """Why the functions do not answer alike; empty when they do."""
    answers = {name: server.post(name, {"x": 1.5}) for name in FUNCTIONS}
    wrong = [name for name, answer in answers.items() if answer != {"given": 3.0}]
    return f"wrong answers of {wrong}: {answers}" if wrong else ""


def _in_turns(
    bench: Bench, server: Server, connections: int, figure: str
) -> tuple[dict[str, Sequence[float]], str]:
    """A figure of each function, a round each, and why they mean nothing."""
    read, seconds = attrgetter(figure), bench.pick(3, 1)
    found: dict[str, list[float]] = {name: [] for name in FUNCTIONS}
    voids: list[str] = []
    ask = partial(wrk.run, rows=ROWS, connections=connections, seconds=seconds)
    for name in FUNCTIONS:
        ask(server.url + path_of(name))  # not counted
    for index in bench.rounds(f"{figure}, {connections} connections", ROUNDS):
        names = list(FUNCTIONS)
        for name in reversed(names) if index % 2 else names:
            load = ask(server.url + path_of(name))
            found[name].append(read(load))
            voids.append(load.void)
    return dict(found), next(filter(None, voids), "")
