"""What models run on, as declared and as it is here."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from runtime.declaration.function_spec import FunctionSpec, ResourcesSpec
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.execution.loader import DeviceReport
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import CONTEXT_MB, GpuDevice
from runtime.onnx.providers import (
    CPU,
    CPU_PLAN,
    CUDA,
    OPENVINO,
    SessionPlan,
    choose_providers,
    missing_requirement,
    required_libraries,
    weights_mb,
)
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import expect_values

WITHOUT = pytest.mark.skipif(bool(gpu_memory.list_devices()), reason="this machine has a GPU")
"""Here CUDA is in the library and nowhere else."""


@WITHOUT
def test_missing_libraries_of_cuda_are_named_with_the_fix():
    """The driver first: the rest comes with pip."""
    expect_values(missing_requirement(CUDA), "NVIDIA driver", "libcuda.so.1", "Install")
    assert required_libraries(CUDA)[0] == "libcuda.so.1"
    assert any(name.startswith("libcublas.so.") for name in required_libraries(CUDA))


def test_a_provider_that_was_not_built_in_is_named_with_what_was():
    """And the package that has it."""
    message = missing_requirement(OPENVINO)
    expect_values(message, OPENVINO, CPU, "onnxruntime-openvino")


@WITHOUT
@pytest.mark.parametrize(
    ("resources", "values"),
    [
        ({"num_gpus": 1, "device": "cuda"}, ["device: cuda", "NVIDIA driver"]),
        ({"num_gpus": 1, "device": "tensorrt"}, ["device: tensorrt", "NVIDIA driver"]),
        (
            {"num_gpus": 1, "providers": (CUDA, CPU)},
            ["providers: ['CUDAExecutionProvider', 'CPUExecutionProvider']", "NVIDIA driver"],
        ),
        ({"device": "openvino"}, ["device: openvino", OPENVINO]),
    ],
)
def test_a_declared_device_that_is_missing_is_refused(tmp_path, resources, values):
    """The function does not load, and says what is missing; it does not run on the CPU instead."""
    onnx_models.double(tmp_path / "m.onnx")
    spec = FunctionSpec.from_args("m", "/m", {"onnx": "m.onnx", "resources": resources})
    with pytest.raises(LoadError) as refused:
        asyncio.run(Function.load(spec, Settings(tmp_path, tmp_path / "models")))
    expect_values(refused.value, *values)


@WITHOUT
def test_auto_falls_back_to_the_cpu_and_logs_it(tmp_path, caplog):
    """In the log, and in the function's device report."""
    onnx_models.double(tmp_path / "m.onnx")
    spec = FunctionSpec.from_args("m", "/m", {"onnx": "m.onnx", "resources": {"num_gpus": 0.25}})
    running, row = asyncio.run(answered(spec, Settings(tmp_path, tmp_path / "models")))
    assert row["y"].tolist() == [2, 4, 6]
    assert running.device == "cpu"
    expect_values(running.fallback, "NVIDIA driver")
    (said,) = (line for line in caplog.messages if "NVIDIA" in line)
    expect_values(said, "num_gpus: 0.25", "CPU", running.fallback)


def test_a_function_on_cpus_reports_just_that(tmp_path):
    """No nodes to count, and nothing fell back."""
    onnx_models.double(tmp_path / "m.onnx")
    spec = FunctionSpec.from_args("m", "/m", {"onnx": "m.onnx"})
    running, _ = asyncio.run(answered(spec, Settings(tmp_path, tmp_path / "models")))
    assert running == DeviceReport("cpu")


async def answered(spec: FunctionSpec, settings: Settings) -> tuple[DeviceReport, Any]:
    """What a function runs on, and its answer to a row."""
    function = await Function.load(spec, settings)
    (row,), _ = await function.call_rows([{"x": [1.0, 2.0, 3.0]}])
    await function.close(1)
    return function.running, row


@WITHOUT
def test_a_session_reports_what_onnx_runtime_made_of_its_plan(tmp_path, caplog, capfd):
    """Without a check before: the provider that runs, the nodes that it has, and why it is not the
    one that was preferred.
    """
    path = onnx_models.perceptron(tmp_path / "m.onnx")
    session = Session(path, SessionPlan((CUDA, CPU), ((), ()), required=False))
    assert session.provider == CPU
    assert session.count_nodes() == {CPU: 3}
    expect_values(session.fallback, "NVIDIA driver")
    (said,) = (line for line in caplog.messages if "NVIDIA" in line)
    expect_values(said, CUDA, CPU, session.fallback)
    with pytest.raises(LoadError, match=rf"m\.onnx .*{CUDA}.*{CPU}.*NVIDIA driver"):
        Session(path, SessionPlan((CUDA, CPU), ((), ())))


def lacks_nothing(provider: str) -> str:
    """A machine where every provider runs, as far as is known before a session is opened."""
    return ""


def test_models_of_a_function_divide_its_share(tmp_path):
    """A quarter of 16000 MB, less a context: each model its weights and half of the rest. A file
    that is there twice is one session.
    """
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "a.onnx"]
    files[0].write_bytes(bytes(3 << 20))
    files[1].write_bytes(b"graph")
    (tmp_path / "b.onnx.data").write_bytes(bytes(7 << 20))
    choice = choose_providers(
        ResourcesSpec(num_gpus=0.25),
        GpuDevice(1, 16_000 << 20),
        files,
        tmp_path / "models",
        find_missing=lacks_nothing,
    )
    assert [weights_mb(file) for file in files[:2]] == [4, 8]
    arena = (4000 - CONTEXT_MB - 12) // 2
    limits = [dict(choice.plan_for(file).for_ort()[0][1]) for file in files]
    assert [int(limit["gpu_mem_limit"]) >> 20 for limit in limits] == [
        4 + arena,
        8 + arena,
        4 + arena,
    ]
    assert {limit["device_id"] for limit in limits} == {"1"}


@pytest.mark.parametrize(
    ("resources", "values"),
    [
        ({"num_gpus": 0.03}, ["num_gpus: 0.03", "16000 MB", "480 MB", "600"]),
        ({"num_gpus": 0.25, "gpu_memory_mb": 5000}, ["0.25", "16000 MB", "4000 MB", "5000 MB"]),
        ({"num_gpus": 0.5, "gpu_memory_mb": 603}, ["weights", "4", "3"]),
    ],
)
def test_a_share_that_does_not_hold_the_models_is_refused(tmp_path, resources, values):
    """When the function loads, with the numbers; not by the first call that finds no memory."""
    (tmp_path / "a.onnx").write_bytes(bytes(3 << 20))
    with pytest.raises(LoadError) as refused:
        choose_providers(
            ResourcesSpec(**resources),
            GpuDevice(0, 16_000 << 20),
            [tmp_path / "a.onnx"],
            tmp_path / "models",
            find_missing=lacks_nothing,
        )
    expect_values(refused.value, *values)


def compiled_in(file: Path, device: str = "tensorrt") -> str | None:
    """The folder of what is compiled of a model."""
    choice = choose_providers(
        ResourcesSpec(num_gpus=1, device=device),
        GpuDevice(),
        [file],
        file.parents[1] / "models",
        find_missing=lacks_nothing,
    )
    options = dict(choice.plan_for(file).for_ort()[0][1])
    kept = options.get("trt_engine_cache_path", options.get("cache_dir"))
    assert options.get("trt_engine_cache_enable", "1") == ("0" if kept is None else "1")
    return kept


@pytest.mark.parametrize("device", ["tensorrt", "openvino"])
def test_what_is_compiled_of_a_model_is_kept_for_it_alone(tmp_path, device):
    """Two models of one name and one graph, and each state of one: TensorRT tells engines apart by
    name and graph, so in one folder the second model would answer with the weights of the first.
    """
    one, other = tmp_path / "a" / "model.onnx", tmp_path / "b" / "model.onnx"
    for file in (one, other):
        file.parent.mkdir()
        onnx_models.perceptron(file)
    before = compiled_in(one, device)
    assert before == compiled_in(one, device)
    assert before != compiled_in(other, device)
    os.utime(one, (1, 1))
    assert before != compiled_in(one, device)


def test_weights_in_another_file_are_of_the_model(tmp_path):
    """Whatever their name: other weights are another model."""
    file = tmp_path / "a" / "model.onnx"
    file.parent.mkdir()
    onnx.save(
        onnx.load(str(onnx_models.perceptron(file))),
        str(file),
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    before = compiled_in(file)
    os.utime(file.with_name("weights"), (1, 1))
    assert before != compiled_in(file)


def test_a_folder_that_cannot_be_written_keeps_nothing_compiled(tmp_path):
    """The models run all the same."""
    (tmp_path / "models").write_text("a file where the folder should be")
    file = tmp_path / "a" / "model.onnx"
    file.parent.mkdir()
    assert compiled_in(onnx_models.perceptron(file)) is None


def test_the_cpu_is_chosen_without_looking_at_the_machine(tmp_path: Path):
    """Not even at the files."""
    assert (
        choose_providers(ResourcesSpec(), GpuDevice(), [Path("/nowhere")], Path("/nowhere")).plan
        == CPU_PLAN
    )
