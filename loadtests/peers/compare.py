"""Wakeful and its peers in turns, on this machine, in one run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import numpy as np

from deployments.ray_support.environment import inherited_variables
from deployments.ray_support.processes import end_processes
from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.bare import bare_loop
from loadtests.bench.numbers import HEAD, Number
from loadtests.bench.texts import by_length, log_uniform_lengths, offline_plans, write_texts
from loadtests.bench.throughput import MODEL, ONE, SIZES, problem
from loadtests.command import CORES, Bench, Start, Table, say
from loadtests.peers.minilm import MiniLM
from loadtests.server import HOST, Child, ChildFailed, free_port, local, path_of, poll, run, up

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
        packages: what its environment holds, beside the model's.
        command: by the function's name, the port and a folder of its own.
        path: of a function.
        body: what is posted for a value.
    """

    name: str
    packages: tuple[str, ...]
    command: Callable[[str, int, Path], Sequence[str]]
    path: Callable[[str], str] = lambda name: "/predict"
    body: Body = lambda name, value: {("text" if name == "embed" else "x"): value}

    @property
    def folder(self) -> Path:
        """Its environment."""
        return (ENVIRONMENTS / self.name.split()[0].lower()).absolute()


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
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [value]}
    if name == "embed":
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [value]}
    return {"inputs": [tensor]}


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
)


@contextlib.contextmanager
def peer_server(bench: Bench, peer: Peer, name: str) -> Iterator[str]:
    """Its URL of a function, once that answers; the server ends afterwards."""
    python = peer.folder / "bin/python"
    if not python.exists():
        say(f"{peer.name}: making {peer.folder}")
        log = bench.log("install")
        uv = str(Path(sys.executable).with_name("uv"))
        run([uv, "venv", "-q", "-p", sys.executable, str(peer.folder)], log, INSTALL_S)
        run(
            [uv, "pip", "install", "-q", "-p", str(python), *peer.packages, *COMMON],
            log,
            INSTALL_S,
        )
    port, folder = free_port(), Path(mkdtemp(dir=bench.folder))
    program, *arguments = peer.command(name, port, folder)
    environ = inherited_variables(_environment())
    url = f"http://{HOST}:{port}{peer.path(name)}"
    with Child(
        [str(peer.folder / program), *arguments], bench.log(f"{peer.folder.name}-{name}"), environ
    ) as child:
        wait_for_right_answer(name, url, peer.body(name, SAMPLES[name]), child)
        yield url


@contextlib.contextmanager
def ray_serve(bench: Bench, name: str) -> Iterator[str]:
    """Ray Serve as it comes, in this environment, by ``serve run``."""
    port, folder = free_port(), Path(mkdtemp(prefix="wk-", dir="/tmp"))
    config = {
        "http_options": {"host": HOST, "port": port},
        "applications": [
            {"name": name, "route_prefix": "/", "import_path": f"loadtests.peers.serve:{name}"}
        ],
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    environ = inherited_variables({**_environment(), "TMPDIR": str(folder)})
    command = [str(Path(sys.executable).with_name("serve")), "run", str(file)]
    url = f"http://{HOST}:{port}/"
    try:
        with Child(command, bench.log(f"ray-{name}"), environ) as child:
            wait_for_right_answer(name, url, PEERS[0].body(name, SAMPLES[name]), child)
            yield url
            child.process.send_signal(signal.SIGINT)
            child.wait(START_S)
    finally:
        end_processes(folder)


def _environment() -> Mapping[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "MINILM": str(MODEL.parent.absolute()),
        "WORKERS": str(CORES),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": os.environ["PATH"],
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


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
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    function = (
        declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
        if name == "embed"
        else declare.function("trivial", graph, autoscaling=ONE)
    )
    file = declare.write(bench.folder / f"{name}.yaml", [function])
    with start(file, bench.port, bench.log(f"wakeful-{name}")) as server:
        yield server.url + path_of(name)


Served = Callable[[str], AbstractContextManager[str]]


def contestants(bench: Bench) -> dict[str, tuple[Served, Body]]:
    """By name: how a function is served, and the body of a call."""
    plain: Body = PEERS[0].body
    found: dict[str, tuple[Served, Body]] = {
        "Wakeful, `run`": (lambda name: wakeful(bench, name, local), plain),
        "Wakeful, `up` (Ray)": (lambda name: wakeful(bench, name, up), plain),
        "Ray Serve 2.60, defaults": (lambda name: ray_serve(bench, name), plain),
    }
    for peer in PEERS:
        found[peer.name] = partial(peer_server, bench, peer), peer.body
    return found


def compare(
    bench: Bench, name: str, values: Sequence[Any], connections: int, what: str
) -> Iterator[Number]:
    """Each server in turn, alone on the machine; three times around."""
    rates: dict[str, list[float]] = {}
    voids: dict[str, str] = {}
    for _ in bench.rounds(what):
        for contestant, (served, body) in contestants(bench).items():
            say(f"{what}: {contestant}")
            found, why = rates.setdefault(contestant, []), ""
            try:
                with served(name) as url:
                    rows = [body(name, value) for value in values]
                    wrk.run(url, rows, connections, bench.pick(2, 1))
                    seen = wrk.run(url, rows, connections, bench.pick(6, 2))
                    found.append(seen.requests_per_s)
                    why = seen.void
            except ChildFailed as failed:  # the others are measured all the same
                why = str(failed)
            voids[contestant] = voids.get(contestant) or why
    for contestant, found in rates.items():
        yield Number(f"{contestant}: {what}", found, "req/s", void=voids[contestant])


def embed64(bench: Bench) -> Iterator[Number]:
    """64 connections, texts of 14 tokens, and the bare loop."""
    lengths = [14] * bench.pick(256, 64)
    texts = write_texts(MODEL.with_name("tokenizer.json"), lengths)
    seconds = bench.pick(20, 3) / 10
    with bare_loop(MODEL, CORES) as loop:
        most = [
            max(loop.rows_per_s(texts, by_length(lengths, size), seconds) for size in SIZES)
            for _ in bench.rounds("bare loop")
        ]
    yield Number("bare ONNX Runtime, all cores, 14 tokens", most, "rows/s")
    yield from compare(bench, "embed", [text for text, _ in texts], 64, "MiniLM, 64 connections")


def mixed(bench: Bench) -> Iterator[Number]:
    """32 connections, 4 to 200 tokens, and the best offline policy."""
    lengths = log_uniform_lengths(bench.pick(256, 64), 4, 200)
    texts = write_texts(MODEL.with_name("tokenizer.json"), lengths)
    seconds = bench.pick(20, 3) / 10
    with bare_loop(MODEL, CORES) as loop:
        most = [
            max(loop.rows_per_s(texts, plan, seconds) for _, plan in offline_plans(lengths))
            for _ in bench.rounds("bare loop")
        ]
    yield Number("best offline policy, all cores, 4 to 200 tokens", most, "rows/s")
    yield from compare(
        bench, "embed", [text for text, _ in texts], 32, "4 to 200 tokens, 32 connections"
    )


def trivial(bench: Bench) -> Iterator[Number]:
    """8 connections, a function that computes nothing."""
    values = [float(x) for x in range(100)]
    yield from compare(bench, "trivial", values, 8, "trivial function, 8 connections")


TABLE = Table(
    "python -m loadtests.peers",
    HEAD,
    {"embed64": embed64, "mixed": mixed, "trivial": trivial},
    problem,
    """Measure Wakeful beside other servers with the same model on this machine, in one run.

    Makes an environment for each under build/peers, which takes minutes the first time. Each server
    has as many workers as the machine has cores, batches of at most 32 where it batches, and is
    alone on the machine while it is measured. Prints a table, and writes it into docs/benchmarks.md
    when all of it was measured.
    """,
    "peers",
)
