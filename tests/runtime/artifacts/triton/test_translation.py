"""What a configuration of Triton's becomes here, what is left, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.artifacts.triton.model_config import ENUMS, MESSAGES, read_fields
from runtime.artifacts.triton.translation import (
    backend_of,
    choose_version,
    translate_ensemble,
    translate_model,
)
from runtime.declaration.editing.file_edit import with_application
from runtime.declaration.yaml_reader import parse
from runtime.onnx.model_info import ModelInfo, build_info

FREE = build_info(
    [("x", "FP32", ("n", 3)), ("t", "BYTES", ("n",))],
    [("y", "FP32", ("n", 3))],
)
FIXED = build_info([("x", "FP32", (1, 3))], [("y", "FP32", (1, 3))])
GPU = {"instance_group": [{"count": 2, "kind": "KIND_GPU", "gpus": [0]}]}


def translate(config: dict[str, Any], info: ModelInfo = FREE) -> Any:
    return translate_model(config, "repo/m/1/model.onnx", info, gpu_share=0.5)


@pytest.mark.parametrize(
    ("config", "info", "args"),
    [
        ({}, FREE, {}),
        ({"max_batch_size": 8}, FREE, {"batching": {"max_batch_size": 8}}),
        (
            {"max_batch_size": 256},
            FREE,
            {"batching": {"max_batch_size": 256}, "limits": {"max_ongoing_requests": 256}},
        ),
        ({"max_batch_size": 8}, FIXED, {}),
        ({"max_batch_size": 0}, FIXED, {}),
        (
            {"max_batch_size": 8, "dynamic_batching": {"max_queue_delay_microseconds": 100}},
            FREE,
            {"batching": {"max_batch_size": 8, "batch_wait_timeout_s": 0.0001}},
        ),
        (
            {
                "max_batch_size": 8,
                "dynamic_batching": {
                    "default_queue_policy": {
                        "max_queue_size": 9,
                        "default_timeout_microseconds": 2_000_000,
                    }
                },
            },
            FREE,
            {
                "batching": {"max_batch_size": 8},
                "limits": {"max_queued_requests": 9, "request_timeout_s": 2.0},
            },
        ),
        ({"instance_group": [{"count": 1, "kind": "KIND_CPU"}]}, FREE, {}),
        (
            {"instance_group": [{"count": 2, "kind": "KIND_CPU"}, {"count": 1}]},
            FREE,
            {"resources": {"num_cpus": 3}},
        ),
        (GPU, FREE, {"resources": {"num_cpus": 2, "num_gpus": 0.5}}),
        (
            GPU
            | {
                "optimization": {
                    "execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}
                },
                "parameters": [{"key": "gpu_mem_limit", "value": {"string_value": "2000000000"}}],
            },
            FREE,
            {
                "resources": {
                    "num_cpus": 2,
                    "num_gpus": 0.5,
                    "device": "tensorrt",
                    "gpu_memory_mb": 2000,
                }
            },
        ),
    ],
)
def test_what_is_taken(config: dict[str, Any], info: ModelInfo, args: dict[str, Any]) -> None:
    """Batches, queues, instances, devices."""
    found = translate(config, info)
    assert found.refusal == ""
    assert found.args == {"onnx": "repo/m/1/model.onnx", **args}


def test_a_model_without_batches_keeps_its_axis() -> None:
    """``max_batch_size: 0`` of a model whose first axis is free: callers send it whole."""
    found = translate({"max_batch_size": 0})
    assert found.args == {
        "graph": [{"stage": "model", "onnx": "repo/m/1/model.onnx", "rows": False}]
    }


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({"max_batch_size": 8}, "no dynamic_batching"),
        ({"dynamic_batching": {"preferred_batch_size": [4]}}, "preferred_batch_size"),
        ({"dynamic_batching": {"preserve_ordering": True}}, "preserve_ordering"),
        (GPU, "gpus"),
        ({"optimization": {"graph": {"level": 1}}}, "optimization.graph"),
        ({"optimization": {"cuda": {}}}, "optimization.cuda"),
        ({"parameters": [{"key": "intra_op_thread_count"}]}, "parameters.intra_op_thread_count"),
        ({"parameters": [{"key": "else"}]}, "parameters.else"),
        ({"output": [{"name": "y", "label_filename": "l.txt"}]}, "label_filename of y"),
        ({"response_cache": {"enable": True}}, "response_cache"),
        ({"model_warmup": [{}]}, "model_warmup"),
    ],
)
def test_what_is_left_is_said(config: dict[str, Any], left: str) -> None:
    """With the reason, or with what does it here."""
    assert any(line.startswith(left) for line in translate(config).left)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"sequence_batching": {}}, "state between calls"),
        ({"batch_input": [{}]}, "batch_input"),
        ({"input": [{"name": "x", "allow_ragged_batch": True}]}, "allow_ragged_batch"),
        ({"input": [{"name": "z"}]}, "'z' is not in the file, which has x, t"),
        ({"output": [{"name": "x"}]}, "'x' is not in the file, which has y"),
        ({"input": [{"name": "x", "data_type": "TYPE_INT64"}]}, "is FP32 in the file, not INT64"),
        ({"input": [{"name": "x", "reshape": {"shape": [1, 3]}}]}, "reshape"),
    ],
)
def test_what_would_answer_otherwise_is_refused(config: dict[str, Any], why: str) -> None:
    """Rather than served as something else."""
    found = translate(config)
    assert why in found.refusal
    assert found.args == {}


def test_a_configuration_that_fits_is_taken() -> None:
    """By names and datatypes; texts are Triton's strings."""
    config = {
        "input": [
            {"name": "x", "data_type": "TYPE_FP32"},
            {"name": "t", "data_type": "TYPE_STRING"},
        ],
        "output": [{"name": "y", "data_type": "TYPE_FP32"}],
    }
    assert translate(config).refusal == ""


@pytest.mark.parametrize(
    ("config", "backend"),
    [
        ({}, ""),
        ({"backend": "onnxruntime"}, "onnxruntime"),
        ({"platform": "onnxruntime_onnx"}, "onnxruntime"),
        ({"backend": "python"}, "python"),
        ({"platform": "tensorrt_plan"}, "tensorrt_plan"),
        ({"platform": "ensemble"}, "ensemble"),
        ({"ensemble_scheduling": {}}, "ensemble"),
    ],
)
def test_a_backend_has_two_names(config: dict[str, Any], backend: str) -> None:
    """The older one is the platform."""
    assert backend_of(config) == backend


@pytest.mark.parametrize(
    ("policy", "there", "version"),
    [
        ({}, [1, 2, 10], 10),
        ({}, [], None),
        ({"latest": {"num_versions": 2}}, [1, 2], 2),
        ({"all": {}}, [1, 2], 2),
        ({"specific": {"versions": [1, 3]}}, [1, 2], 1),
        ({"specific": {"versions": [3]}}, [1, 2], None),
    ],
)
def test_one_version_is_served(
    policy: dict[str, Any], there: list[int], version: int | None
) -> None:
    """The highest that the policy has."""
    assert choose_version({"version_policy": policy} if policy else {}, there) == version


def step(model: str, takes: dict[str, str], gives: dict[str, str]) -> dict[str, Any]:
    maps = {"input_map": takes, "output_map": gives}
    pairs = {
        key: [{"key": one, "value": value} for one, value in pairs.items()]
        for key, pairs in maps.items()
    }
    return {"model_name": model, **pairs}


def ensemble(*steps: dict[str, Any], outputs: tuple[str, ...] = ("out",)) -> dict[str, Any]:
    return {
        "input": [{"name": "in"}],
        "output": [{"name": name} for name in outputs],
        "ensemble_scheduling": {"step": list(steps)},
    }


MODELS = {name: {"stage": "model", "onnx": f"{name}.onnx"} for name in ("a", "b-2")}


def test_an_ensemble_is_a_graph() -> None:
    """In the order of its tensors, whatever the order of its steps."""
    config = ensemble(step("b-2", {"x": "mid"}, {"y": "out"}), step("a", {"x": "in"}, {"y": "mid"}))
    found = translate_ensemble(config, MODELS, {})
    assert found.args == {
        "graph": [
            {"stage": "a_1", "onnx": "a.onnx", "inputs": {"x": "in"}, "outputs": {"y": "mid"}},
            {"stage": "b_2_2", "onnx": "b-2.onnx", "inputs": {"x": "mid"}, "outputs": {"y": "out"}},
        ]
    }


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (ensemble(), "without a step"),
        (ensemble(step("p", {"x": "in"}, {"y": "out"})), "p cannot be served: python"),
        (ensemble(step("q", {"x": "in"}, {"y": "out"})), "it is not in the repository"),
        (ensemble(step("a", {"x": "mid"}, {"y": "out"})), "nothing gives its tensors mid"),
        (
            ensemble(step("a", {"x": "out"}, {"y": "mid"}), step("a", {"x": "mid"}, {"y": "out"})),
            "nothing gives its tensors mid, out",
        ),
        (
            ensemble(
                step("a", {"x": "in"}, {"y": "out"}),
                step("a", {"x": "out"}, {"y": "more"}),
                outputs=("out", "more"),
            ),
            "its outputs out are not of its last step",
        ),
    ],
)
def test_an_ensemble_that_is_no_graph_is_refused(config: dict[str, Any], why: str) -> None:
    """A circle, a step of another backend, an answer from the middle."""
    found = translate_ensemble(config, MODELS, {"p": "python"})
    assert why in found.refusal
    assert found.args == {}


WORDS = st.sampled_from(["", "a", "x", "y", "t", "b-2", "in", "out", "1", "ü"])
SMALL = st.sampled_from([0, 1, 7, 2**31 - 1])
VALUES = {
    "string": WORDS,
    "bool": st.booleans(),
    "int32": SMALL | st.just(-1),
    "uint32": SMALL,
    "int64": SMALL | st.sampled_from([-1, 2**63 - 1]),
    "uint64": SMALL | st.just(2**64 - 1),
}


def message(name: str, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """What the parser may return of a message: any of its fields, any value of their kinds."""
    fields = {}
    for _, field, kind in read_fields(MESSAGES[name]):
        bare = kind.removesuffix("*")
        if bare in MESSAGES:
            value = message(bare, depth + 1)
        elif bare in ENUMS:
            value = st.sampled_from(ENUMS[bare])
        else:
            value = VALUES[bare]
        fields[field] = st.lists(value, max_size=2) if kind.endswith("*") else value
    return st.fixed_dictionaries({}, optional=fields)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(config=message("ModelConfig"))
def test_any_configuration_is_taken_or_refused(config: dict[str, Any]) -> None:
    """Never neither, nor both; and what is taken can be written into a file."""
    for found in (translate(config), translate_ensemble(config, MODELS, {})):
        assert bool(found.args) != bool(found.refusal)
        if found.args:
            entry = {"name": "f", "args": found.args}
            assert parse(with_application("", entry), "").data == {"applications": [entry]}
    choose_version(config, [1, 2])
