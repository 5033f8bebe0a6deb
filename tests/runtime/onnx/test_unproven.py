"""A model that made-up data are not for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from runtime.protocol import InferRequest
from runtime.settings import Settings
from tests import onnx_models
from tests.inference import infer
from tests.problems import expect_values


def reshaped(path: Path) -> Path:
    """y = x [2, 3] in the shape that the second input says: ones are no shape of six numbers."""
    inputs = {"x": (TensorProto.FLOAT, [2, 3]), "shape": (TensorProto.INT64, [1])}
    return onnx_models.save(
        path,
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        inputs,
        {"y": (TensorProto.FLOAT, [6])},
    )


def test_a_model_that_values_steer_is_served_without_a_first_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and it answers."""
    reshaped(tmp_path / "m.onnx")

    async def work() -> list[float]:
        function = await Function.load(
            FunctionSpec.from_args("f", "/f", {"onnx": "m.onnx"}),
            Settings(tmp_path, tmp_path / "models"),
        )
        try:
            inputs = {"x": np.ones((2, 3), np.float32), "shape": np.array([6])}
            response, _ = await infer(function, InferRequest("", inputs, (), False, {}))
            return response.outputs["y"].tolist()
        finally:
            await function.close(1.0)

    assert asyncio.run(work()) == [1.0] * 6
    (said,) = (line for line in caplog.messages if "first run" in line)
    expect_values(said, "m.onnx", "made-up")


def test_its_first_run_is_not_repeated(tmp_path: Path) -> None:
    """A self-test on made-up data would prove nothing, so it neither passes nor fails it."""
    session = Session(reshaped(tmp_path / "m.onnx"), CPU_PLAN)
    session.warm_up(1, free=1, has_rows=False, is_first=True)
    assert session.is_unproven
    session.warm_up(1, free=1, has_rows=False)
