"""A tensor of 4 MB in and out by the Open Inference Protocol's binary extension, over a floor of sockets and one copy.

Exchanges with both alternate, so that whatever else the machine does falls on both; the server computes ``Identity``, one copy.
"""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from loadtests.bench.children import Child, ChildFailed, module, poll
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.latency import LENGTH, TIMEOUT_S, BadAnswer
from loadtests.bench.oracle import TRIVIAL
from loadtests.bench.serving import HOST, FirstCall, Server, free_port, local, up
from loadtests.bench.setting import Bench

FLOATS = 1 << 20
SIZE = 4 * FLOATS
PATH = "/v2/models/same"
WARM_UP = 40
"""Exchanges that are not counted: allocators learn the sizes that are wanted."""

FILE = f"""\
applications:
  - {{name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}}
  - name: same
    route_prefix: {PATH}
    import_path: deployments:function
    args: {{onnx: same.onnx, batching: {{max_batch_size: 1}}, autoscaling: {{min_replicas: 1}}}}
  - name: trivial
    route_prefix: {TRIVIAL}
    import_path: deployments:function
    args: {{graph: [{{stage: answer, python: "loadtests.bench.trivial:answer"}}], autoscaling: {{min_replicas: 1}}}}
"""


class Caller:
    """A kept-alive connection that posts one body and reads the answer into memory that it has."""

    # Mutable state: the socket, and what was read last.

    def __init__(self, port: int, head: bytes, body: bytes) -> None:
        self._head, self._body = head, body
        self._memory = memoryview(bytearray(SIZE + (1 << 16)))
        self._socket = socket.create_connection((HOST, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def seconds(self) -> float:
        """Of one exchange.

        Raises:
            BadAnswer: another status than 200, no length, or the connection ended.
        """
        began = time.perf_counter()
        self._socket.sendall(self._head)
        self._socket.sendall(self._body)
        at, split = 0, -1
        while split < 0:
            at += self._receive(at)
            split = bytes(self._memory[: min(at, 4096)]).find(b"\r\n\r\n")
        head = bytes(self._memory[: split + 2])
        length = LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise BadAnswer(f"not an answer of status 200 with a length: {bytes(self._memory[:300])!r}")
        self._end = split + 4 + int(length[1])
        while at < self._end:
            at += self._receive(at)
        return time.perf_counter() - began

    @property
    def tensor(self) -> memoryview:
        """The end of the last answer, as long as a tensor."""
        return self._memory[self._end - SIZE : self._end]

    def _receive(self, at: int) -> int:
        count = self._socket.recv_into(self._memory[at:])
        if not count:
            raise BadAnswer("the server closed the connection.")
        return count


def tensors(bench: Bench, port: int) -> Iterator[Number]:
    """By ``wakeful run``, which is asked for something, and through HAProxy, which is told."""
    root = bench.folder / "tensors"
    root.mkdir(exist_ok=True)
    write_model(root / "same.onnx")
    config, first, environ = root / "serve_config.yaml", FirstCall(TRIVIAL, {"x": 1.5}), {"WAKEFUL_ROOT": str(root)}
    config.write_text(FILE)
    for where, serving, target in (
        ("by `wakeful run`", local, Target("at most", 1.5)),
        ("on Ray, through HAProxy", up, None),
    ):
        with serving(config, port, first, bench.folder / "tensors.log", environ=environ) as server, floor(bench.folder) as bare:
            yield from over_floor(bench, server, bare, where, target)


def over_floor(bench: Bench, server: Server, floor_port: int, where: str, target: Target | None) -> list[Number]:
    """The median of both, and their ratio, a round each."""
    values = np.random.default_rng(0).standard_normal(FLOATS, np.float32).tobytes()
    count = max(20, bench.pace.probes // 10)
    ours: list[float] = []
    bare: list[float] = []
    with Caller(floor_port, b"POST / HTTP/1.1\r\n\r\n", values) as one, Caller(server.port, *request(values)) as other:
        for _ in range(WARM_UP):
            one.seconds(), other.seconds()
        void = "" if other.tensor == values and one.tensor == values else "another tensor came back"
        gc.disable()
        try:
            for _ in bench.rounds(f"4 MB in and out, {where}"):
                times = [(one.seconds(), other.seconds()) for _ in range(count)]
                bare.append(percentile([pair[0] for pair in times], 0.5) * 1e3)
                ours.append(percentile([pair[1] for pair in times], 0.5) * 1e3)
        finally:
            gc.enable()
    ratios = tuple(mine / least for mine, least in zip(ours, bare, strict=True))
    return [
        Number(
            f"sockets and one copy, 4 MB in and out (beside {where}): p50", tuple(bare), "ms", note=f"{count} exchanges a round, in turns"
        ),
        Number(f"v2 binary, 4 MB FP32 in and out, {where}: p50", tuple(ours), "ms", void=void),
        Number(f"v2 binary, 4 MB in and out, {where}, over sockets and one copy", ratios, target=target, void=void),
    ]


def request(values: bytes) -> tuple[bytes, bytes]:
    """Head and body of an inference on one row."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, FLOATS], "parameters": {"binary_data_size": len(values)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lengths = (b"inference-header-content-length: %d" % len(text), b"content-length: %d" % (len(text) + len(values)))
    return b"\r\n".join([f"POST {PATH}/infer HTTP/1.1".encode(), b"host: bench", *lengths, b"", b""]), text + values


def write_model(path: Path) -> None:
    """``y = x``, FP32 [rows, FLOATS]."""
    from onnx import TensorProto, helper, save

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", FLOATS]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


@contextlib.contextmanager
def floor(folder: Path) -> Iterator[int]:
    """The floor's server; gives its port.

    Raises:
        ChildFailed: it does not answer.
    """
    port = free_port()
    with Child(module("loadtests.bench.floor", str(port), str(SIZE)), folder / "floor.log") as child:
        for _ in poll(20.0):
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1.0):
                break
            if not child.is_running:
                raise child.failure("ended")
        else:
            raise ChildFailed("the floor does not answer.")
        yield port
