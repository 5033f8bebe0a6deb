"""Session options are made from what is declared and what the process was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.onnx.gpu_memory import GpuDevice
from runtime.onnx.providers import CPU, CPU_PLAN, CUDA, SessionPlan, plan_session, session_options

GPU = GpuDevice(1, 16_000 << 20)


def test_a_function_on_cpus_names_no_other_provider():
    """Whatever this onnxruntime was built for."""
    assert plan_session(0, None) == SessionPlan((CPU,), ((),))
    assert plan_session(0, None, gpu=GPU, arena_mb=100) == plan_session(0, None)


def test_a_share_of_a_gpu_is_cuda_within_its_limit():
    """On the device that Ray assigned; with no share given away to workspaces, and no answers that
    move with the batch.
    """
    found = plan_session(0.25, None, gpu=GPU, arena_mb=3400)
    assert found.for_ort() == [
        (
            CUDA,
            {
                "device_id": "1",
                "gpu_mem_limit": str(3400 << 20),
                "arena_extend_strategy": "kSameAsRequested",
                "cudnn_conv_algo_search": "HEURISTIC",
                "cudnn_conv_use_max_workspace": "0",
                "use_tf32": "0",
            },
        ),
        (CPU, {}),
    ]
    assert not found.required
    assert found.arena == "gpu:1"


def test_a_whole_gpu_has_all_workspaces_and_without_a_known_size_no_limit():
    """Nothing is guessed."""
    (_, options), _ = plan_session(1, None).for_ort()
    assert options["cudnn_conv_use_max_workspace"] == "1"
    assert "gpu_mem_limit" not in options


@pytest.mark.parametrize(
    ("device", "num_gpus", "providers"),
    [
        ("cpu", 0, ["CPUExecutionProvider"]),
        ("cuda", 1, ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        (
            "tensorrt",
            1,
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
        ),
        ("openvino", 0, ["OpenVINOExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_a_named_device_is_required(device, num_gpus, providers):
    """The CPU takes what its provider cannot, and never all."""
    found = plan_session(num_gpus, None, device=device)
    assert list(found.providers) == providers
    assert found.required


def test_compiled_models_are_kept():
    """TensorRT's engines take minutes to build."""
    (_, options), *_ = plan_session(
        0.5, None, device="tensorrt", arena_mb=100, cache=Path("/c")
    ).for_ort()
    assert options == {
        "device_id": "0",
        "trt_max_workspace_size": str(100 << 20),
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_engine_cache_path": "/c",
        "trt_timing_cache_path": "/c",
    }
    assert plan_session(0, None, device="openvino", cache=Path("/c")).for_ort()[0][1] == {
        "device_type": "CPU",
        "num_of_threads": "1",
        "precision": "FP32",
        "cache_dir": "/c",
    }
    assert plan_session(0.5, None, device="openvino").for_ort()[0][1]["device_type"] == "GPU.0"


def test_providers_may_be_written_out():
    """Then the first is required; one that we know nothing of gets no options."""
    found = plan_session(0.5, ["MIGraphXExecutionProvider", CUDA], gpu=GPU)
    assert found.providers == ("MIGraphXExecutionProvider", CUDA)
    assert found.provider_options[0] == ()
    assert found.provider_options[1]
    assert found.required


def test_memory_of_a_run_is_planned_ahead_on_devices_only():
    """The CPU's arena grows by doubling for a plan's one block."""
    assert not session_options(CPU_PLAN).enable_mem_pattern
    assert session_options(plan_session(1, None)).enable_mem_pattern
