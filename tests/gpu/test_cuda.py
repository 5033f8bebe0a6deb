"""On a real device, where there is one: the answers of the CPU, limits that hold. Not run anywhere
yet.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import WakefulError
from runtime.execution.function import Function
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import GpuDevice
from runtime.onnx.providers import CPU_PLAN, CUDA, plan_session
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests import onnx_models

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not gpu_memory.list_devices(), reason="no GPU")]

PAIR = [{"stage": "encode", "onnx": "e.onnx"}, {"stage": "decode", "onnx": "d.onnx"}]


def encoder(path: Path) -> Path:
    """hidden [rows, 4] and norm [rows] of x [rows, 3]."""
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["hidden"]),
        helper.make_node("ReduceL2", ["hidden"], ["norm"], axes=[1], keepdims=0),
    ]
    weights = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    outputs = {"hidden": (onnx_models.FLOAT, ["rows", 4]), "norm": (onnx_models.FLOAT, ["rows"])}
    return onnx_models.save(
        path, nodes, {"x": (onnx_models.FLOAT, ["rows", 3])}, outputs, {"weights": weights}
    )


def decoder(path: Path) -> Path:
    """y [rows] of hidden [rows, 4] and of i [rows], an index into a table of 4: one beyond fails
    the run it is in.
    """
    nodes = [
        helper.make_node("ReduceSum", ["hidden", "one"], ["total"], keepdims=0),
        helper.make_node("Gather", ["table", "i"], ["found"]),
        helper.make_node("Add", ["total", "found"], ["y"]),
    ]
    inputs = {"hidden": (onnx_models.FLOAT, ["rows", 4]), "i": (onnx_models.INT64, ["rows"])}
    constants = {"one": np.array([1], np.int64), "table": np.arange(4, dtype=np.float32) * 10}
    return onnx_models.save(path, nodes, inputs, {"y": (onnx_models.FLOAT, ["rows"])}, constants)


def answers(
    folder: Path, args: dict[str, Any], rows: list[dict[str, Any]]
) -> tuple[Function, list[Any]]:
    """A function's answers to rows of one call, and the function, closed."""

    async def work() -> tuple[Function, list[Any]]:
        function = await Function.load(
            FunctionSpec.from_args("f", "/f", args), Settings(folder, folder / "models")
        )
        outcomes, _ = await function.call_rows(rows)
        await function.close(5)
        return function, [one.code if isinstance(one, WakefulError) else one for one in outcomes]

    return asyncio.run(work())


def test_a_device_gives_the_answers_of_the_cpu(tmp_path):
    """Within 1e-4, alone and in a batch of 32."""
    path = onnx_models.perceptron(tmp_path / "m.onnx")
    x = np.random.default_rng(2).standard_normal((32, 64)).astype(np.float32)
    cpu, cuda = Session(path, CPU_PLAN), Session(path, plan_session(1, None, device="cuda"))
    (wanted,), (together,) = cpu.run({"x": x}), cuda.run({"x": x})
    alone = np.concatenate([cuda.run({"x": row[None]})[0] for row in x])
    assert cuda.provider == CUDA
    assert sum(cuda.count_nodes().values()) >= 3
    assert together == pytest.approx(wanted, abs=1e-4)
    assert alone == pytest.approx(together, abs=1e-4)


def test_a_function_runs_on_the_device_and_says_so(tmp_path):
    """With the nodes that fell to the CPU."""
    onnx_models.double(tmp_path / "m.onnx")
    function, (answer,) = answers(
        tmp_path,
        {"onnx": "m.onnx", "resources": {"num_gpus": 0.5, "device": "cuda"}},
        [{"x": [1.0, 2.0, 3.0]}],
    )
    assert answer["y"].tolist() == [2, 4, 6]
    assert (function.running.device, function.running.fallback, function.running.cpu_nodes) == (
        "cuda",
        "",
        0,
    )


def test_two_models_on_a_device_give_the_answers_of_the_cpu(tmp_path):
    """And a bad row fails alone."""
    encoder(tmp_path / "e.onnx")
    decoder(tmp_path / "d.onnx")
    rows = [{"x": [0.5 * index, 1.0, -1.0], "i": index % 4} for index in range(9)] + [
        {"x": [1.0, 1.0, 1.0], "i": 9}
    ]
    _, on_cpu = answers(tmp_path, {"graph": PAIR}, rows)
    function, on_device = answers(
        tmp_path, {"graph": PAIR, "resources": {"num_gpus": 0.5, "device": "cuda"}}, rows
    )
    assert function.running.device == "cuda"
    assert on_device[:9] == [{"y": pytest.approx(one["y"], abs=1e-4)} for one in on_cpu[:9]]
    assert on_cpu[9] == "function_error"


def test_a_session_keeps_to_its_share(tmp_path):
    """Beyond it is out of memory, as everywhere, and smaller runs still answer."""
    path = onnx_models.hungry(tmp_path / "m.onnx", 64)
    session = Session(path, plan_session(0.1, None, device="cuda", gpu=GpuDevice(), arena_mb=700))
    assert session.run({"x": np.ones(2, np.float32)})[0].tolist() == [1, 1]
    with pytest.raises(MemoryError):
        session.run({"x": np.ones(64, np.float32)})
    assert session.run({"x": np.ones(2, np.float32)})[0].tolist() == [1, 1]
