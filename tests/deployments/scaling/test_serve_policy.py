"""The policy as Ray calls it: numbers by replica in, a number of replicas out, decisions in a
file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from ray.serve.config import AutoscalingPolicy

from deployments.ingress import residency_signal
from deployments.ray_support.environment import MARK
from deployments.scaling import capacity
from deployments.scaling.demand import ScalingLimits
from deployments.scaling.serve_policy import ServePolicy
from deployments.serving.application import deployment_options
from runtime.declaration.function_spec import FunctionSpec
from tests.problems import expect_values


@dataclass(frozen=True)
class Point:
    """As Ray carries a number."""

    timestamp: float
    value: float


@dataclass
class Context:
    """As much of Ray's context as the policy reads."""

    raw_metrics: dict = field(default_factory=dict)
    target_num_replicas: int = 1
    current_num_replicas: int = 1
    total_queued_requests: float = 0.0
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 6
    app_name: str = "f"
    deployment_name: str = "Function"


def recorded(*replicas: dict[str, float], at: float = 10.0) -> dict:
    """Numbers of replicas, a second of each, the counters grown from nothing."""
    names = ("calls_in_flight", "waiting_rows", "busy_s", "calls", "row_s", "sequences")
    return {
        name: {
            index: [Point(at - 1, 0.0), Point(at, replica.get(name, 0.0))]
            for index, replica in enumerate(replicas)
        }
        for name in names
    }


BUSY = {"calls_in_flight": 48, "waiting_rows": 47, "busy_s": 1.0, "calls": 10, "row_s": 0.1}


@pytest.fixture
def free(monkeypatch):
    """Sets what is free in the cluster, and lets the policy know."""

    def let(**resources: float) -> capacity.ClusterCapacity:
        # three machines, two of them full
        made = capacity.ClusterCapacity(lambda: [resources, {}, {}])
        made.refresh().join()
        monkeypatch.setattr(capacity, "CAPACITY", made)
        return made

    return let


def policy(**needs: float) -> ServePolicy:
    """As builders describe it to Ray."""
    return ServePolicy({"workers": 1, "downscale_delay_s": 20.0}, needs or {"CPU": 1.0})


def test_a_queue_wants_more_at_the_first_question(free):
    """As many as the bounds allow, and the free CPUs."""
    free(CPU=10.0)
    assert policy()(Context(recorded(BUSY)))[0] == 6
    assert policy()(Context(recorded(BUSY), capacity_adjusted_max_replicas=3))[0] == 3


def test_what_does_not_fit_is_not_requested(free):
    """Two of the five."""
    free(CPU=2.0)
    assert policy()(Context(recorded(BUSY)))[0] == 3


def test_replicas_start_one_for_each_core_at_a_time(free, monkeypatch):
    """A decision holds while Ray gets it in parts."""
    made = free(CPU=10.0)
    monkeypatch.setattr(made, "max_starting", lambda: 2)
    decide = policy()
    targets = [
        decide(
            Context(
                recorded(BUSY, at=10.0 + at),
                target_num_replicas=target,
                current_num_replicas=running,
            )
        )[0]
        for at, (target, running) in enumerate([(1, 1), (3, 1), (3, 2), (4, 3), (5, 5)])
    ]
    assert targets == [3, 3, 4, 5, 6]


def test_numbers_of_replicas_are_summed():
    """In flight, waiting, and sequences; work is growth a second, a worker's at most; a row's time
    is the mean of those that know it.
    """
    numbers = recorded(
        {**BUSY, "sequences": 2},
        {"calls_in_flight": 2, "busy_s": 0.5, "calls": 4, "row_s": 0.3, "sequences": 3},
        {"busy_s": 7.0},
    )
    sample = policy()._take_sample(numbers, 3.0, ScalingLimits(1, 6), now=5.0)
    assert (sample.in_flight, sample.waiting_rows, sample.sequences) == (53, 47, 5)
    assert sample.row_s == pytest.approx(0.2)
    assert sample.is_used


def test_after_a_replica_has_ended_work_is_not_all_seen():
    """What it still answers is not counted; a window and two seconds later it is settled."""
    decide = policy()
    ends = [
        (0.0, (BUSY, BUSY), True),
        (1.0, (BUSY,), False),
        (4.0, (BUSY,), False),
        (6.5, (BUSY,), True),
    ]
    for now, replicas, settled in ends:
        assert (
            decide._take_sample(
                recorded(*replicas, at=10.0 + now),
                0.0,
                ScalingLimits(1, 6, downscale_delay_s=20.0),
                now,
            ).is_settled
            is settled
        )


def test_nothing_recorded_is_nothing_wanted(free):
    """A replica that has not reported yet, and none at all."""
    free(CPU=1.0)
    assert policy()(Context())[0] == 1
    assert (
        policy()(
            Context(target_num_replicas=0, current_num_replicas=0, capacity_adjusted_min_replicas=0)
        )[0]
        == 0
    )


def test_a_decision_is_kept_in_words(free, tmp_path, monkeypatch):
    """A line of JSON in the state folder of the cluster; missing replicas are logged once."""
    free(CPU=2.0)
    monkeypatch.setenv(MARK, str(tmp_path))
    decide = policy()
    for at in range(3):
        target = 1 if at == 0 else 3
        decide(
            Context(
                recorded(*[BUSY] * target, at=10.0 + at),
                target_num_replicas=target,
                current_num_replicas=target,
            )
        )
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [
        (line["function"], line["before"], line["replicas"], line["missing"]) for line in lines
    ] == [("f", 1, 3, 3)]
    expect_values(
        lines[0]["why"], "1 → 3", "48 in flight", "panic window", "6 wanted", "2 more fit"
    )


def test_without_a_cluster_of_ours_nothing_is_kept(free, tmp_path, monkeypatch):
    """There is no state folder then."""
    free(CPU=2.0)
    monkeypatch.delenv(MARK, raising=False)
    monkeypatch.chdir(tmp_path)
    policy()(Context(recorded(BUSY)))
    assert list(tmp_path.iterdir()) == []


def test_ray_can_carry_the_policy_and_its_settings():
    """By value, as Ray pickles it; policies made of two such copies still share what fits."""
    scaling = deployment_options(
        FunctionSpec.from_args(
            "f", "/v2/models/f", {"onnx": "m.onnx", "resources": {"num_cpus": 2}}
        )
    )["autoscaling_config"]
    carried = AutoscalingPolicy(**scaling["policy"])
    copies = [
        AutoscalingPolicy.from_serialized_policy_def(
            scaling["policy"], carried.get_serialized_policy_def()
        ).get_policy()
        for _ in "ab"
    ]
    made = [copy(**scaling["policy"]["policy_kwargs"]) for copy in copies]
    assert [one.__call__.__globals__["capacity"].CAPACITY for one in made] == [
        capacity.CAPACITY,
        capacity.CAPACITY,
    ]
    assert scaling["policy"]["policy_kwargs"]["needs"] == {"CPU": 2.0}
    assert scaling["policy"]["policy_kwargs"]["limits"]["workers"] == 2


def test_a_function_that_is_kept_has_a_replica(free, tmp_path, monkeypatch):
    """By a pin or by its hours, with no call at all; without them none starts."""
    free(CPU=10.0)
    asleep = Context(
        target_num_replicas=0, current_num_replicas=0, capacity_adjusted_min_replicas=0
    )
    assert policy()(asleep)[0] == 0
    always = ServePolicy({"workers": 1}, {"CPU": 1.0}, awake="00:00-24:00 UTC")
    assert always(asleep)[0] == 1
    monkeypatch.setenv(MARK, str(tmp_path))
    residency_signal.set_pinned({"f"})
    assert policy()(asleep)[0] == 1


def test_a_function_that_is_told_to_sleep_has_none_once_it_is_idle(free, tmp_path, monkeypatch):
    """However short that has been; what is in flight is answered first."""
    free(CPU=10.0)
    monkeypatch.setenv(MARK, str(tmp_path))
    one, idle = policy(), {"calls": 10}
    least = {"capacity_adjusted_min_replicas": 0}
    assert one(Context(recorded(idle), **least))[0] == 1
    residency_signal.set_sleeping({"f"})
    assert one(Context(recorded({**idle, "calls_in_flight": 1}), **least))[0] == 1
    assert one(Context(recorded(idle), **least))[0] == 0
