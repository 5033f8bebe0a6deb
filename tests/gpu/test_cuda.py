"""On a real device, where there is one: the answers of the CPU, limits that hold, outputs that stay. Not run anywhere yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import nvml
from runtime.devices import Gpu
from runtime.errors import WakefulError
from runtime.function import Function
from runtime.onnx.options import CPU_PLAN, CUDA, plan
from runtime.onnx.session import Session
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from tests import onnx_models
from tests.runtime.onnx.test_resident import decoder, encoder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not nvml.devices(), reason="no GPU")]

PAIR = [{"stage": "encode", "onnx": "e.onnx"}, {"stage": "decode", "onnx": "d.onnx"}]


def answers(folder: Path, args: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Function, list[Any]]:
    """A function's answers to rows of one call, and the function, closed."""

    async def work() -> tuple[Function, list[Any]]:
        function = await Function.load(FunctionSpec.from_args("f", "/f", args), Settings(folder, folder / "models"))
        outcomes, _ = await function.call_rows(rows)
        await function.close(5)
        return function, [one.code if isinstance(one, WakefulError) else one for one in outcomes]

    return asyncio.run(work())


def test_a_device_gives_the_answers_of_the_cpu(tmp_path):
    """Within 1e-4, alone and in a batch of 32."""
    path = onnx_models.perceptron(tmp_path / "m.onnx")
    x = np.random.default_rng(2).standard_normal((32, 64)).astype(np.float32)
    cpu, cuda = Session(path, CPU_PLAN), Session(path, plan(1, None, device="cuda"))
    (wanted,), (together,) = cpu.run({"x": x}), cuda.run({"x": x})
    alone = np.concatenate([cuda.run({"x": row[None]})[0] for row in x])
    assert cuda.provider == CUDA
    assert sum(cuda.nodes().values()) >= 3
    assert together == pytest.approx(wanted, abs=1e-4)
    assert alone == pytest.approx(together, abs=1e-4)


def test_a_function_runs_on_the_device_and_says_so(tmp_path):
    """With the nodes that fell to the CPU."""
    onnx_models.double(tmp_path / "m.onnx")
    function, (answer,) = answers(tmp_path, {"onnx": "m.onnx", "resources": {"num_gpus": 0.5, "device": "cuda"}}, [{"x": [1.0, 2.0, 3.0]}])
    assert answer["y"].tolist() == [2, 4, 6]
    assert (function.running.device, function.running.fallback, function.running.cpu_nodes) == ("cuda", "", 0)


def test_outputs_stay_on_the_device_between_two_models(tmp_path):
    """The same answers as by way of memory, and a bad row fails alone."""
    encoder(tmp_path / "e.onnx")
    decoder(tmp_path / "d.onnx")
    rows = [{"x": [0.5 * index, 1.0, -1.0], "i": index % 4} for index in range(9)] + [{"x": [1.0, 1.0, 1.0], "i": 9}]
    _, on_cpu = answers(tmp_path, {"graph": PAIR}, rows)
    function, on_device = answers(tmp_path, {"graph": PAIR, "resources": {"num_gpus": 0.5, "device": "cuda"}}, rows)
    assert function.running.device == "cuda"
    assert on_device[:9] == [{"y": pytest.approx(one["y"], abs=1e-4)} for one in on_cpu[:9]]
    assert on_cpu[9] == "function_error"


def test_a_session_keeps_to_its_share(tmp_path):
    """Beyond it is out of memory, as everywhere, and smaller runs still answer."""
    path = onnx_models.hungry(tmp_path / "m.onnx", 64)
    session = Session(path, plan(0.1, None, device="cuda", gpu=Gpu(), arena_mb=700))
    assert session.run({"x": np.ones(2, np.float32)})[0].tolist() == [1, 1]
    with pytest.raises(MemoryError):
        session.run({"x": np.ones(64, np.float32)})
    assert session.run({"x": np.ones(2, np.float32)})[0].tolist() == [1, 1]
