"""The other servers: how each is installed, started and called, as its own documentation has it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import numpy as np

from deployments.ray_support.environment import MARK, inherited_variables
from deployments.ray_support.processes import end_processes
from loadtests.bench.throughput import MODEL
from loadtests.command import CORES, Bench, say
from loadtests.peers.minilm import MiniLM
from loadtests.server import (
    HOST,
    SHORT,
    Child,
    free_port,
    path_of,
    poll,
    run,
    script,
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


def _mosec(name: str, port: int, _folder: Path) -> Sequence[str]:
    options = ["--address", HOST, "--port", str(port)]
    return ["bin/python", "-m", "loadtests.peers.mo", name, str(CORES), *options]


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
    Peer("mosec 0.9.8", ("mosec==0.9.8",), _mosec, path=lambda name: "/inference"),
    Peer("Ray Serve 2.60", (), _ray_serve, lambda name: "/"),
    Peer("Ray Serve 2.60, HAProxy", (), _ray_serve, lambda name: "/", environ=_haproxy),
)


@dataclass(frozen=True, slots=True)
class Served:
    """Where a server answers.

    Attributes:
        url: of the function.
        home: the folder that the mark of its processes names.
    """

    url: str
    home: Path


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
def peer_server(bench: Bench, peer: Peer, name: str) -> Iterator[Served]:
    """Once a function answers; the server ends afterwards, with all it started."""
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
            yield Served(url, folder)
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
