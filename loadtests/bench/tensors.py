"""A tensor of 4 MB in and out by the Open Inference Protocol's binary extension, over a floor of sockets and one copy.

Exchanges with all of them alternate, so that whatever else the machine does falls on all; the server computes ``Identity``, one copy.
"""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from loadtests.bench.behind import behind
from loadtests.bench.children import Child, module
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.latency import LENGTH, TIMEOUT_S, BadAnswer
from loadtests.bench.oracle import TRIVIAL
from loadtests.bench.serving import HOST, FirstCall, Server, free_port, local, up
from loadtests.bench.setting import Bench

FLOATS = 1 << 20
SIZE = 4 * FLOATS
PATH = "/v2/models/same"
ON_RAY = "on Ray, through HAProxy"
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
    for where, serving in (("by `wakeful run`", local), (ON_RAY, up)):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(serving(config, port, first, bench.folder / "tensors.log", environ=environ))
            floors = {"sockets and one copy": stack.enter_context(floor(bench.folder))}
            if where == ON_RAY:
                floors["the same behind an HAProxy like ours"] = stack.enter_context(
                    behind(stack.enter_context(floor(bench.folder)), bench.folder)
                )
            yield from over_floors(bench, server, floors, where)


def over_floors(bench: Bench, server: Server, floors: Mapping[str, int], where: str) -> list[Number]:
    """The medians of all, and ours over each floor's, a round each; the last floor is the one that is to be kept near to.

    Args:
        floors: the port of each, by what it is.
    """
    values = np.random.default_rng(0).standard_normal(FLOATS, np.float32).tobytes()
    count = max(20, bench.pace.probes // 10)
    rounds: list[list[float]] = []
    with contextlib.ExitStack() as stack:
        bare = [
            stack.enter_context(Caller(port, b"POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % SIZE, values))
            for port in floors.values()
        ]
        callers = [stack.enter_context(Caller(server.port, *request(values))), *bare]
        for _ in range(WARM_UP):
            for caller in callers:
                caller.seconds()
        void = "" if all(caller.tensor == values for caller in callers) else "another tensor came back"
        gc.disable()
        try:
            for _ in bench.rounds(f"4 MB in and out, {where}"):
                times = [[caller.seconds() for caller in callers] for _ in range(count)]
                rounds.append([percentile(one, 0.5) * 1e3 for one in zip(*times, strict=True)])
        finally:
            gc.enable()
    ours, *floored = zip(*rounds, strict=True)
    numbers = [Number(f"v2 binary, 4 MB FP32 in and out, {where}: p50", ours, "ms", note=f"{count} exchanges a round, in turns", void=void)]
    for name, least in zip(floors, floored, strict=True):
        ratios = tuple(mine / bare for mine, bare in zip(ours, least, strict=True))
        target = Target("at most", 1.5) if name == list(floors)[-1] else None
        numbers += [
            Number(f"{name}, 4 MB in and out (beside {where}): p50", least, "ms"),
            Number(f"v2 binary, 4 MB in and out, {where}, over {name}", ratios, target=target, void=void),
        ]
    return numbers


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
        ChildFailed: it does not start.
    """
    port = free_port()
    with Child(module("loadtests.bench.floor", str(port), str(SIZE)), folder / "floor.log") as child:
        child.listens(HOST, port)
        yield port
