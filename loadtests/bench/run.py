"""The order in which everything is measured, each section on its own server; one that fails leaves the others standing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtests.bench import bare_uvicorn, experiments
from loadtests.bench.children import Child, ChildFailed, module, poll
from loadtests.bench.figures import Number
from loadtests.bench.handle import hop
from loadtests.bench.latency import BadAnswer
from loadtests.bench.oracle import EMBED, TRIVIAL
from loadtests.bench.serving import FirstCall, Server, free_port, local, up
from loadtests.bench.setting import Bench
from loadtests.bench.startup import startup
from loadtests.bench.tensors import tensors

ON_RAY = ("embed64", "mixed", "latency", "trivial", "handle")
SECTIONS = ("up", *ON_RAY, "run", "tensors")
DECLARED = Path(__file__).with_name("serve_config.yaml")
FAILURES = (ChildFailed, BadAnswer, httpx.HTTPError, OSError)


@dataclass(frozen=True, slots=True)
class Job:
    """What one run measures, and on which files.

    Attributes:
        sections: names out of ``SECTIONS``.
        shipped: the file whose start is timed.
        port: HTTP port on loopback, free before the run.
    """

    sections: frozenset[str]
    shipped: Path
    port: int


def measure(job: Job, bench: Bench) -> Iterator[Number]:
    """Every number asked for, as it is found; a section that fails is one void number and the rest goes on."""
    if "up" in job.sections:
        yield from attempt(bench.say, "wakeful up", lambda: startup(bench, job.shipped, job.port))
    first = FirstCall(EMBED, {"text": bench.short[0].text})
    if job.sections & set(ON_RAY):
        yield from attempt(bench.say, "on Ray", lambda: on_ray(job, bench, first))
    if "run" in job.sections:
        yield from attempt(bench.say, "wakeful run", lambda: without_ray(job, bench, first))
    if "tensors" in job.sections:
        yield from attempt(bench.say, "tensors", lambda: tensors(bench, job.port))


def on_ray(job: Job, bench: Bench, first: FirstCall) -> Iterator[Number]:
    """The sections that need a cluster, on one cluster."""
    with up(DECLARED, job.port, first, bench.folder / "up.log") as server:
        found: dict[str, Callable[[], Iterable[Number]]] = {
            "embed64": lambda: experiments.embed_under_load(bench, server),
            "mixed": lambda: experiments.mixed_lengths(bench, server),
            "latency": lambda: experiments.one_connection(bench, server),
            "trivial": lambda: trivial(bench, server),
            "handle": lambda: through_handle(bench, server),
        }
        for name, experiment in found.items():
            if name in job.sections:
                yield from attempt(bench.say, name, experiment)


def without_ray(job: Job, bench: Bench, first: FirstCall) -> Iterator[Number]:
    """The same functions in one process."""
    where = "by `wakeful run`"
    with local(DECLARED, job.port, first, bench.folder / "run.log") as server:
        yield from experiments.embed_under_load(bench, server, where, is_target=False)
        yield from experiments.one_connection(bench, server, where, is_target=False)
        yield from experiments.price_of_the_way(bench, server, [(where, TRIVIAL)])


def trivial(bench: Bench, server: Server) -> list[Number]:
    """Starts bare uvicorn for as long as it is needed."""
    port = free_port()
    with Child(module("loadtests.bench.bare_uvicorn", str(port)), bench.folder / "uvicorn.log") as child:
        url = f"http://127.0.0.1:{port}{bare_uvicorn.PATH}"
        for _ in poll(20.0):
            with contextlib.suppress(httpx.TransportError):
                if httpx.post(url, json={"x": 1.5}).json() == {"answer": 3.0}:
                    return experiments.trivial_under_load(bench, server, url)
        raise child.failure("no answer")


def through_handle(bench: Bench, server: Server) -> Iterator[Number]:
    """The trivial function directly and by one more hop."""
    with hop(server, "trivial", "/bench/handle", bench.folder / "handle.log") as path:
        yield from experiments.price_of_the_way(bench, server, [("on Ray, directly", TRIVIAL), ("on Ray, by one handle more", path)])


def attempt(say: Callable[[str], None], name: str, experiment: Callable[[], Iterable[Number]]) -> Iterator[Number]:
    """The experiment's numbers; if it fails, those it found before and one that says why."""
    try:
        yield from experiment()
    except FAILURES as error:
        say(f"{name}: {error}")
        yield Number(name, (), void=str(error) or type(error).__name__)
