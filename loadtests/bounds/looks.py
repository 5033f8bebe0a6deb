"""``python -m loadtests.bounds.looks``: what clients cost that look at what there is, or at what
nearly is there, with many functions declared: the calls of others, and placement decisions.

    call        p99 of a call at a constant rate while others look, over that of the same calls
                alone, in alternating rounds: 1.2
    decisions   longest time in which the loop that decides on placement did nothing else: 1 s

Exits 1 if a kind of looks breaks one. Near misses alone are promised so; the other kinds show what
they cost.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from loadtests import declare
from loadtests.bounds import loops
from loadtests.bounds.command import ROOT, declared
from loadtests.command import heading, say
from loadtests.server import START_S, free_port, local, up

MOST_SLOWER: Final = 1.2
MOST_BLOCK_S: Final = 1.0
CALLS_PER_S: Final = 100
LOOKS_PER_S: Final = 20
ROUND_S: Final = 10.0

Paths = Callable[[random.Random, int], str]
"""A path to look at, of so many functions."""


def _near(draw: random.Random, count: int) -> str:
    """Nearly a function's, another one each time."""
    name = list(f"other-{draw.randrange(count):04}")
    slip = draw.choice(("swap", "leave out", "add", "change"))
    # other digits are another function's
    place = draw.randrange(1, 5 if slip in ("swap", "leave out") else len(name))
    if slip == "swap":
        name[place], name[place + 1] = name[place + 1], name[place]
    else:
        name[place : place + (slip != "add")] = "" if slip == "leave out" else draw.choice("xyz")
    below = draw.choice(("", "/infer", "/ready", "/versions/1"))
    return draw.choice((f"/v2/models/{''.join(name)}{below}", f"/functions/{''.join(name)}"))


def _one_of(*paths: str) -> Paths:
    return lambda draw, count: draw.choice(paths)


KINDS: Final[Mapping[str, Paths]] = {
    "near misses": _near,
    "paths of other servers": lambda draw, count: f"/predictions/other-{draw.randrange(count):04}x",
    "the index": _one_of("/", "/v2/repository/index", "/v2/health/ready"),
    "metrics": _one_of("/metrics"),
    "statistics": _one_of("/v2/models/stats"),
    "functions": lambda draw, count: f"/functions/other-{draw.randrange(count):04}",
    "the description": _one_of("/openapi.json"),
    "models": _one_of("/v1/models", "/v1/models/othr-0500"),
}


def look(port: int, kind: str, count: int, lasts_s: float, begins: Event) -> None:
    """Look so often for so long, on one connection; less often where looks take longer.

    Args:
        begins: set when that begins: a process that starts takes a second of a core.

    Raises:
        RuntimeError: no look was answered.
    """
    draw, make, answered = random.Random(), KINDS[kind], 0
    begins.set()
    until = time.perf_counter() + lasts_s
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for due in _schedule(LOOKS_PER_S, lasts_s):
            time.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() > until:
                break
            with suppress(OSError, HTTPException):
                connection.request("GET", make(draw, count))
                connection.getresponse().read()
                answered += 1
    if not answered:
        raise RuntimeError("no look was answered")


def _schedule(per_s: float, lasts_s: float) -> Iterator[float]:
    began = time.perf_counter()
    return (began + n / per_s for n in range(int(per_s * lasts_s)))


def call(port: int, lasts_s: float) -> list[float]:
    """Call at a constant rate, and return the times from when each was due, in seconds.

    Raises:
        RuntimeError: a call was not answered as ever.
    """
    times, headers = [], {"content-type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for due in _schedule(CALLS_PER_S, lasts_s):
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("POST", "/v2/models/take", b'{"n": 1}', headers)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - due)
            if answer.status != 200:
                raise RuntimeError(f"a call was answered with {answer.status}")
    return times


@dataclass
class Cost:
    """Of one kind of looks.

    Attributes:
        alone_s, beside_s: times of calls.
        blocks: longest time of an event loop meanwhile, in seconds, by process.
    """

    way: str
    kind: str
    alone_s: list[float] = field(default_factory=list)
    beside_s: list[float] = field(default_factory=list)
    blocks: dict[str, float] = field(default_factory=dict)

    @property
    def slower(self) -> float:
        """The 99th percentile over that alone."""
        return _p99(self.beside_s) / _p99(self.alone_s)

    @property
    def is_broken(self) -> bool:
        """Whether it breaks a bound."""
        return self.slower > MOST_SLOWER or max(self.blocks.values()) > MOST_BLOCK_S

    def __str__(self) -> str:
        blocks = ", ".join(f"{name} {block * 1e3:.0f}" for name, block in self.blocks.items())
        middle = (statistics.median(times) * 1e3 for times in (self.alone_s, self.beside_s))
        return (
            f"| {self.way} | {self.kind} | {', '.join(f'{ms:.2f}' for ms in middle)}"
            f" | {_p99(self.alone_s) * 1e3:.2f}, {_p99(self.beside_s) * 1e3:.2f}"
            f" | {self.slower:.2f} | {blocks} |"
        )


HEAD: Final = (
    "| by | looks | call alone, meanwhile, p50, ms | p99, ms | x | longest block, ms |"
    "\n|---|---|---|---|---|---|"
)


def _p99(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


@contextmanager
def serving(way: str, count: int, folder: Path) -> Iterator[int]:
    """``wakeful run`` or ``wakeful up`` with so many functions that sleep, and one that is called:
    the port.
    """
    others = [declared(f"other-{n:04}", "take") for n in range(count)]
    base = [] if way == "run" else [declare.CATALOGUE, declare.HOST]
    file, start = folder / "serve_config.yaml", local if way == "run" else up
    file.write_text(json.dumps({"applications": [*base, declared("take", "take"), *others]}))
    settings = {"WAKEFUL_ROOT": str(ROOT), "WAKEFUL_PROMOTE_WORK": declare.KEPT}
    with start(
        file, free_port(), folder / "log", settings | loops.inserted(folder, ROOT)
    ) as server:
        yield server.port


def measured(way: str, kind: str, count: int, port: int, folder: Path, seconds: float) -> Cost:
    """Call alone and beside looks, round by round, until there were looks for so long.

    Raises:
        RuntimeError: there were none, a call was not answered as ever, or no loop was watched.
    """
    cost, spawning = Cost(way, kind), multiprocessing.get_context("spawn")
    for _ in range(max(1, round(seconds / ROUND_S))):
        cost.alone_s += call(port, ROUND_S)
        loops.looked(folder, [])
        begins = spawning.Event()
        looking = spawning.Process(target=look, args=(port, kind, count, ROUND_S, begins))
        looking.start()
        try:
            if not begins.wait(START_S):
                raise RuntimeError(f"no client looked within {START_S:g} s")
            cost.beside_s += call(port, ROUND_S)
            looking.join(START_S)
            if looking.exitcode != 0:
                raise RuntimeError(f"the client that looks ended with {looking.exitcode}")
        finally:
            looking.kill()
        for seen in loops.looked(folder, []).values():
            name = seen.title.partition(":")[2] or seen.title
            cost.blocks[name] = max(seen.block_s, cost.blocks.get(name, 0.0))
    if not cost.blocks:
        raise RuntimeError("no process was watched: what inserts `loops.watch` was not imported")
    return cost


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--functions", "count", default=1000, show_default=True, help="Declared ones.")
@click.option("--seconds", default=60.0, show_default=True, help="How long clients look.")
@click.option("--by", type=click.Choice(("run", "ray", "both")), default="both")
@click.option("--only", default="near", show_default=True, help="Part of the names of the kinds.")
def main(count: int, seconds: float, by: str, only: str) -> None:
    """Look often, and measure what it costs the calls of others and placement decisions."""
    costs = []
    for way in ("run", "ray") if by == "both" else (by,):
        with (
            TemporaryDirectory(prefix="lk-") as name,
            serving(way, count, folder := Path(name)) as port,
        ):
            call(port, 2.0)
            for kind in (kind for kind in KINDS if only in kind):
                costs.append(measured(way, kind, count, port, folder, seconds))
                say(str(costs[-1]))
    head = heading("python -m loadtests.bounds.looks")
    click.echo("\n".join([head, "", HEAD, *map(str, costs)]))
    sys.exit(any(cost.is_broken for cost in costs))


if __name__ == "__main__":
    main()
