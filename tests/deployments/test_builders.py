"""A declaration as Ray's options."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from deployments import builders
from deployments.autoscale import METRIC, policy
from runtime.spec import FunctionSpec


def spec(**args) -> FunctionSpec:
    """A function of one bare model."""
    return FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx", **args})


def test_a_fraction_of_a_gpu_reaches_rays_actor_options():
    """num_gpus, num_cpus and memory are what Ray places a replica by."""
    options = builders.options(spec(resources={"num_gpus": 0.25, "num_cpus": 2, "memory_mb": 300}))
    assert options["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.25, "memory": 300 * 1024 * 1024}


def test_ray_admits_all_that_the_replica_may_hold():
    """The replica refuses by itself, so Ray never holds a request back where the replica does not see it."""
    options = builders.options(spec(limits={"max_ongoing_requests": 40, "max_queued_requests": 60}))
    assert options["max_ongoing_requests"] > 100


def test_the_declared_scaling_is_passed_on():
    """Bounds and delays are Ray's; the count of calls is ours."""
    scaling = builders.options(spec(autoscaling={"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 7}))["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["initial_replicas"]) == (1, 3, 1)
    assert scaling["target_ongoing_requests"] == 7
    assert scaling["policy"] == {"policy_function": "deployments.autoscale:policy"}


def test_an_application_is_built_from_args():
    """What `serve deploy` does with the file; a wrong key is refused."""
    assert builders.function({"onnx": "m.onnx"})
    with pytest.raises(ValidationError, match="max_batchsize"):
        builders.function({"onnx": "m.onnx", "batching": {"max_batchsize": 3}})


class Context:
    """As much of Ray's context as the policy reads."""

    def __init__(self, by_replica: dict[str, float], queued: float = 0.0) -> None:
        self.aggregated_metrics = {METRIC: by_replica}
        self.total_queued_requests = queued
        self.target_num_replicas = 2
        self.config = self

    def get_target_ongoing_requests(self) -> float:
        """Calls that a replica should have."""
        return 10.0


@pytest.mark.parametrize(
    ("by_replica", "queued", "wanted"), [({"a": 40.0, "b": 20.0}, 0.0, 6.0), ({"a": 0.0}, 0.0, 0.0), ({"a": 5.0}, 5.0, 1.0), ({}, 0.0, 2)]
)
def test_the_policy_divides_calls_by_the_target(by_replica, queued, wanted):
    """Calls in flight and queued over the target; without a report nothing changes."""
    assert policy(Context(by_replica, queued)) == (wanted, {})
