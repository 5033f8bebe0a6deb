"""A declaration as Ray's options."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from deployments.placement import builders
from deployments.serving.application import deployment_options
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import StoreError


def spec(**args) -> FunctionSpec:
    """A function of one bare model."""
    return FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx", **args})


def test_a_model_by_name_that_is_not_there_is_refused():
    """By `serve deploy` too, which reads the file as it is."""
    with pytest.raises(StoreError, match="models/nowhere is not there"):
        builders.function({"model": "models/nowhere", "task": "embedding"})


def test_a_model_at_an_address_is_that_of_the_lock(tmp_path, monkeypatch):
    """By `serve deploy` too: each replica loads the pinned file, or none."""
    monkeypatch.setenv("WAKEFUL_ROOT", str(tmp_path))
    lock = f'[files."s3://bucket/m.onnx"]\nsha256 = "{"0" * 64}"\nbytes = 1\n'
    (tmp_path / "models.lock").write_text(lock)
    made: list[FunctionSpec] = []
    monkeypatch.setattr(builders, "build_application", lambda spec, is_named: made.append(spec))
    builders.function({"onnx": "s3://bucket/m.onnx"})
    assert made[0].graph[0].sha256 == "0" * 64


def test_a_fraction_of_a_gpu_reaches_rays_actor_options():
    """num_gpus, num_cpus and memory are what Ray places a replica by."""
    chosen = deployment_options(spec(resources={"num_gpus": 0.25, "num_cpus": 2, "memory_mb": 300}))
    assert chosen["ray_actor_options"] == {
        "num_cpus": 2,
        "num_gpus": 0.25,
        "memory": 300 * 1024 * 1024,
    }


def test_ray_admits_all_that_the_replica_may_hold():
    """The replica refuses by itself, so Ray never holds a request back where the replica does not
    see it.
    """
    chosen = deployment_options(
        spec(limits={"max_ongoing_requests": 40, "max_queued_requests": 60})
    )
    assert chosen["max_ongoing_requests"] > 100


def test_the_declared_scaling_is_passed_on():
    """Ray has the bounds; delays and targets are the policy's, and Ray adds no delay of its own."""
    declared = {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 7,
        "downscale_delay_s": 20,
    }
    scaling = deployment_options(spec(autoscaling=declared, slo={"latency_p95_ms": 50}))[
        "autoscaling_config"
    ]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["initial_replicas"]) == (
        1,
        3,
        1,
    )
    assert (
        scaling["upscale_delay_s"],
        scaling["downscale_delay_s"],
        scaling["downscale_to_zero_delay_s"],
    ) == (0, 0, 0)
    bounds = scaling["policy"]["policy_kwargs"]["limits"]
    assert (
        bounds["target_ongoing_requests"],
        bounds["downscale_delay_s"],
        bounds["slo_p95_ms"],
    ) == (7, 20, 50)


def test_an_application_is_built_from_args():
    """What `serve deploy` does with the file; a wrong key is refused."""
    assert builders.function({"onnx": "m.onnx"})
    with pytest.raises(ValidationError, match="max_batchsize"):
        builders.function({"onnx": "m.onnx", "batching": {"max_batchsize": 3}})
