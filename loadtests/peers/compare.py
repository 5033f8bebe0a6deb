"""Wakeful and its peers in turns, on this machine, in one run."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import numpy as np

from deployments.ray_support.environment import MARK, inherited_variables
from deployments.ray_support.processes import end_processes
from loadtests.bench import wrk
from loadtests.bench.bare import bare_loop
from loadtests.bench.numbers import HEAD, Number
from loadtests.bench.texts import by_length, write_texts
from loadtests.bench.throughput import MODEL, SIZES, problem, serving
from loadtests.command import CORES, Bench, Start, Table, say
from loadtests.peers.minilm import MiniLM
from loadtests.server import (
    HOST,
    SHORT,
    Child,
    ChildFailed,
    free_port,
    local,
    path_of,
    poll,
    run,
    script,
    up,
)

ROOT = Path(__file__).parents[2]

ENVIRONMENTS = Path("build/peers")
"""Each peer's environment, made when it is not there."""

COMMON = ("onnxruntime==1.31.1", "tokenizers", "numpy")

INSTALL_S = 600.0
START_S = 120.0

SAMPLES: dict[str, Any] = {"embed": "a text", "trivial": 1.5}

Body = Callable[[str, Any], Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server.

    Attributes:
        packages: what its environment holds, beside the model's; none: it runs in this one.
        command: by the function's name, the port and a folder of its own.
        path: of a function.
        body: what is posted for a value.
        environ: its own variables.
    """

    name: str
    packages: tuple[str, ...]
    command: Callable[[str, int, Path], Sequence[str]]
    path: Callable[[str], str] = lambda name: "/predict"
    body: Body = lambda name, value: {("text" if name == "embed" else "x"): value}
    environ: Callable[[], Mapping[str, str]] = dict

    @property
    def folder(self) -> Path:
        """Its environment."""
        made = (ENVIRONMENTS / self.name.split()[0].lower()).absolute()
        return made if self.packages else Path(sys.prefix)


def _bento(name: str, port: int, _folder: Path) -> Sequence[str]:
    service = f"loadtests.peers.bento:{name.capitalize()}"
    return ["bin/bentoml", "serve", service, "--host", HOST, "--port", str(port)]


def _lit(name: str, port: int, _folder: Path) -> Sequence[str]:
    return ["bin/python", "-m", "loadtests.peers.lit", name, str(port), str(CORES)]


def _mlserver(name: str, port: int, folder: Path) -> Sequence[str]:
    batching = {"max_batch_size": 32, "max_batch_time": 0.005} if name == "embed" else {}
    model = {
        "name": name,
        "implementation": f"loadtests.peers.ml.{name.capitalize()}",
        **batching,
    }
    server = {
        "host": HOST,
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": CORES if name == "embed" else 0,
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(server))
    return ["bin/mlserver", "start", str(folder)]


def _infer(name: str, value: Any) -> Any:
    """The Open Inference Protocol's JSON."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [value]}
    text = {"name": "text", "datatype": "BYTES"} if name == "embed" else {}
    return {"inputs": [{**tensor, **text}]}


def _ray_serve(name: str, port: int, folder: Path) -> Sequence[str]:
    application = {"name": name, "import_path": f"loadtests.peers.serve:{name}"}
    config = {"http_options": {"host": HOST, "port": port}, "applications": [application]}
    (folder / "config.yaml").write_text(json.dumps(config))
    return ["bin/serve", "run", str(folder / "config.yaml")]


def _haproxy() -> Mapping[str, str]:
    """Ray Serve's guides to HAProxy and to throughput; and ports that nothing else has."""
    ports = {f"RAY_SERVE_HAPROXY_{of}_PORT": str(free_port()) for of in ("METRICS", "STATS")}
    return {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", **ports}


PEERS = (
    Peer("LitServe 0.2.19", ("litserve==0.2.19",), _lit),
    Peer(
        "BentoML 1.4.40",
        ("bentoml==1.4.40",),
        _bento,
        body=lambda name, value: {"text": [value]} if name == "embed" else {"x": value},
    ),
    Peer(
        "MLServer 1.7.1",
        ("mlserver==1.7.1", "uvloop==0.21.0"),  # its workers do not start with a later uvloop
        _mlserver,
        lambda name: path_of(f"{name}/infer"),
        _infer,
    ),
    Peer("Ray Serve 2.60", (), _ray_serve, lambda name: "/"),
    Peer("Ray Serve 2.60, HAProxy", (), _ray_serve, lambda name: "/", environ=_haproxy),
)

ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "MINILM": str(MODEL.parent.absolute()),
    "WORKERS": str(CORES),
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Of every peer."""


@contextlib.contextmanager
def peer_server(bench: Bench, peer: Peer, name: str) -> Iterator[str]:
    """Its URL of a function, once that answers; the server ends afterwards, with all it started."""
    if peer.packages:
        say(f"{peer.name}: {peer.folder}, made where it is not there yet")
        uv, python = script("uv"), str(peer.folder / "bin/python")
        venv = [uv, "venv", "-q", "--allow-existing", "-p", sys.executable, str(peer.folder)]
        install = [uv, "pip", "install", "-q", "-p", python, *peer.packages, *COMMON]
        for command in (venv, install):
            run(command, bench.log("install"), INSTALL_S)
    port, folder = free_port(), Path(mkdtemp(prefix="wk-", dir=SHORT))
    program, *arguments = peer.command(name, port, folder)
    environ = {**ENVIRONMENT, MARK: str(folder), "TMPDIR": str(folder), **peer.environ()}
    command = [str(peer.folder / program), *arguments]
    log = bench.log(f"{peer.name.split()[0].lower()}-{name}")
    url = f"http://{HOST}:{port}{peer.path(name)}"
    try:
        with Child(command, log, inherited_variables(environ)) as child:
            wait_for_right_answer(name, url, peer.body(name, SAMPLES[name]), child)
            yield url
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_right_answer(name: str, url: str, body: Any, child: Child) -> None:
    """Until a call is answered with 200.

    Raises:
        ChildFailed: the server ended, it takes longer than ``START_S``, or the answer is wrong.
    """
    for _ in poll(START_S, every_s=0.2):
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(url, json=body, timeout=10)
            if answer.status_code == 200:
                wanted = [3.0] if name == "trivial" else MiniLM().embed([SAMPLES["embed"]])[0]
                found = list(numbers(answer.json()))[-len(wanted) :]
                if len(found) != len(wanted) or not np.allclose(found, wanted, atol=1e-4):
                    raise child.failure(f"a wrong answer: {answer.text[:200]}")
                return
        if not child.is_running:
            raise child.failure("ended before its first answer")
    raise child.failure(f"no answer after {START_S:g} s")


def numbers(answer: Any) -> Iterator[float]:
    """Every number in an answer, whatever form a server gives it."""
    if isinstance(answer, dict):
        answer = answer.get("outputs") or list(answer.values())
    if isinstance(answer, list):
        for one in answer:
            yield from numbers(one)
    elif isinstance(answer, int | float):
        yield float(answer)


@contextlib.contextmanager
def wakeful(bench: Bench, name: str, start: Start) -> Iterator[str]:
    """Ours, by ``wakeful run`` or ``wakeful up``."""
    with serving(replace(bench, start=start)) as server:
        yield server.url + path_of(name)


Served = AbstractContextManager[str]
Measure = Callable[[], tuple[float, str]]
"""A rate, and why it is void."""


def measures(
    bench: Bench, name: str, values: Sequence[Any], connections: int
) -> dict[str, Measure]:
    """By contestant: it is started, called with the values in turn, and ended."""

    def measure(serve: Callable[[], Served], body: Body) -> tuple[float, str]:
        rows = [body(name, value) for value in values]
        with serve() as url:
            wrk.run(url, rows, connections, bench.pick(2, 1))
            seen = wrk.run(url, rows, connections, bench.pick(6, 2))
        return seen.requests_per_s, seen.void

    ours = {"Wakeful, `run`": local, "Wakeful, `up` (Ray)": up}
    served: dict[str, tuple[Callable[[], Served], Body]] = {
        contestant: (partial(wakeful, bench, name, start), PEERS[0].body)
        for contestant, start in ours.items()
    }
    served |= {peer.name: (partial(peer_server, bench, peer, name), peer.body) for peer in PEERS}
    return {contestant: partial(measure, *how) for contestant, how in served.items()}


def compare(bench: Bench, what: str, contestants: Mapping[str, Measure]) -> Iterator[Number]:
    """Each in turn, alone on the machine; three times around."""
    rates: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    voids = dict.fromkeys(contestants, "")
    for _ in bench.rounds(what):
        for contestant, measure in contestants.items():
            say(f"{what}: {contestant}")
            try:
                rate, why = measure()
                rates[contestant].append(rate)
            except ChildFailed as failed:  # the others are measured all the same
                why = str(failed)
            voids[contestant] = voids[contestant] or why
    for contestant, found in rates.items():
        yield Number(f"{contestant}: {what}", found, "req/s", void=voids[contestant])


def embed64(bench: Bench) -> Iterator[Number]:
    """64 connections, texts of 14 tokens; the bare loop takes its turn too, and answers rows."""
    lengths = [14] * bench.pick(256, 64)
    texts = write_texts(MODEL.with_name("tokenizer.json"), lengths)
    seconds = bench.pick(20, 3) / 10
    with bare_loop(MODEL, CORES) as loop:

        def bare() -> tuple[float, str]:
            plans = (by_length(lengths, size) for size in SIZES)
            return max(loop.rows_per_s(texts, plan, seconds) for plan in plans), ""

        served = measures(bench, "embed", [text for text, _ in texts], 64)
        contestants = {"bare ONNX Runtime, all cores": bare, **served}
        for number in compare(bench, "MiniLM, 14 tokens, 64 connections", contestants):
            yield replace(number, unit="rows/s") if number.name.startswith("bare") else number


def trivial(bench: Bench) -> Iterator[Number]:
    """8 connections, a function that computes nothing."""
    served = measures(bench, "trivial", [float(x) for x in range(100)], 8)
    yield from compare(bench, "trivial function, 8 connections", served)


TABLE = Table(
    "python -m loadtests.peers",
    HEAD,
    {"embed64": embed64, "trivial": trivial},
    problem,
    """Measure Wakeful beside other servers with the same model on this machine, in one run.

    Makes an environment for each under build/peers, which takes minutes the first time. Each server
    has as many workers as the machine has cores, batches of at most 32 where it batches, and is
    alone on the machine while it is measured. Prints a table, and writes it into docs/benchmarks.md
    when all of it was measured.
    """,
    "peers",
)
