"""Arrivals through the real policies: what comes of a few plain courses."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from deployments.scaling.simulation import Arrival, SimulatedMachine, poisson_arrivals, replay
from runtime.declaration.function_spec import FunctionSpec


def function(name: str = "f", **args) -> FunctionSpec:
    """A function of one bare model."""
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"onnx": "m.onnx", **args})


def of(functions, arrivals, **machine):
    """The summaries by name, and the totals."""
    summaries, totals = replay(functions, arrivals, SimulatedMachine(**machine))
    return {summary.function: summary for summary in summaries}, totals


def steps(summary) -> list[tuple[int, int]]:
    """Replicas before and after, of the decisions that changed them."""
    heads = [why.split(":")[0].split(" → ") for _, why in summary.decisions]
    return [(int(head[0]), int(head[1])) for head in heads if len(head) == 2 and head[0].isdigit()]


def test_a_call_wakes_it_and_afterwards_it_sleeps():
    """Two calls far apart are two cold starts; each waits for a load."""
    seen, totals = of([function()], [Arrival(0.0, "f"), Arrival(1000.0, "f")], wake_s=0.1)
    assert (seen["f"].calls, seen["f"].cold_starts) == (2, 2)
    assert (seen["f"].wait_p50_s, seen["f"].wait_max_s) == pytest.approx((0.1, 0.1))
    assert seen["f"].host_s == pytest.approx(2 * 60.1, abs=1)
    assert 1060 <= totals.seconds < 1062
    assert totals.replica_s == 0


def test_calls_while_it_wakes_share_one_load():
    """A hundred at once."""
    seen, _ = of([function()], [Arrival(5.0, "f")] * 100, service_s=0.001)
    assert (seen["f"].calls, seen["f"].cold_starts) == (100, 1)


def test_busy_it_is_promoted_and_idle_it_sleeps_again():
    """One core of work for two minutes."""
    seen, totals = of([function()], poisson_arrivals({"f": 45.0}, 120.0), service_s=0.02)
    moves = [why.split(":")[0] for _, why in seen["f"].decisions]
    assert moves[0] == "host → own"
    assert moves[-1] == "own → asleep"
    assert seen["f"].own_s > 100
    assert totals.replica_s == seen["f"].replica_s > 100


@pytest.mark.parametrize(
    ("machine", "replicas"),
    [({"cores": 2}, [1, 3, 5, 7, 8]), ({"cores": 1, "machines": 3}, [1, 4, 7, 8])],
)
def test_a_step_starts_so_many_replicas_at_once_as_there_are_cores(machine, replicas):
    """And the next when these run, 2 s later each; they count for what they cost from then on."""
    spec = function(
        tier="own",
        autoscaling={"min_replicas": 1, "max_replicas": 8},
        limits={"max_queued_requests": 2000},
    )
    arrivals = [Arrival(1.0, "f")] * 1000
    seen, _ = of([spec], arrivals, service_s=0.2, cpus=100, **machine)
    assert [(0, 1), *steps(seen["f"])][1] == (1, 8)
    rising = seen["f"].places[: len(replicas)]
    assert [count for _, count in rising] == replicas
    assert [later - one for (one, _), (later, _) in pairwise(rising[1:])] == pytest.approx(
        [2.0] * (len(replicas) - 2), abs=0.3
    )


def test_little_used_for_long_it_goes_back_to_the_host():
    """Busy for a minute, then a call a second; no client waits for the demotion."""
    arrivals = [
        *poisson_arrivals({"f": 45.0}, 60.0),
        *(Arrival(60.0 + second, "f") for second in range(180)),
    ]
    seen, _ = of([function()], arrivals, service_s=0.02)
    assert [why.split(":")[0] for _, why in seen["f"].decisions] == [
        "host → own",
        "own → host",
        "host → asleep",
    ]
    assert seen["f"].wait_max_s < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("cores", [0.5, 0.9, 1.5, 2.2, 3.1])
@pytest.mark.parametrize("service_s", [0.02, 0.1, 0.5])
def test_independent_calls_at_a_steady_rate_settle(service_s, cores):
    """Whatever it begins with, the number of replicas turns round once at most, and stays."""
    spec = function(
        tier="own",
        autoscaling={"min_replicas": 1, "max_replicas": 8},
        limits={"max_queued_requests": 2000},
    )
    seen, _ = of(
        [spec],
        poisson_arrivals({"f": cores / service_s}, 400.0, seed=1),
        service_s=service_s,
        cpus=100,
    )
    turns = [after - before for before, after in steps(seen["f"])[:-1]]
    assert sum(one * other < 0 for one, other in pairwise(turns)) <= 1
    assert seen["f"].wait_p95_s < 1.5


def test_functions_share_the_memory():
    """Ten called in turn with memory for three: the longest idle yields, and none is refused."""
    names = [f"f{number}" for number in range(10)]
    arrivals = [Arrival(float(second), names[second % 10]) for second in range(60)]
    seen, totals = of(
        [function(name) for name in names],
        arrivals,
        memory_bytes=180_000_000,
        function_bytes=60_000_000,
    )
    assert sum(summary.refused for summary in seen.values()) == 0
    assert sum(summary.cold_starts for summary in seen.values()) == 60
    assert totals.most_bytes <= 180_000_000


def test_what_never_fits_is_refused_with_the_arithmetic():
    """As the host refuses it."""
    seen, _ = of(
        [function()], [Arrival(0.0, "f")], memory_bytes=50_000_000, function_bytes=60_000_000
    )
    assert seen["f"].refused == 1
    assert "takes 60 MB" in seen["f"].decisions[0][1]


def test_without_resources_for_a_replica_the_host_goes_on():
    """One CPU is the host's, and the other does not carry two."""
    spec = function(resources={"num_cpus": 2})
    seen, _ = of([spec], poisson_arrivals({"f": 90.0}, 30.0), service_s=0.02, cpus=2)
    assert seen["f"].own_s == 0
    assert seen["f"].calls > 2500


@pytest.mark.parametrize(
    ("timeout_s", "answered", "expired", "work_s"),
    [
        pytest.param(1.05, 0, 5, 1.0, id="where they wait they keep no worker"),
        pytest.param(3.5, 3, 2, 4.0, id="one is computed meanwhile"),
        pytest.param(30.0, 5, 0, 5.0, id="all have time"),
    ],
)
def test_calls_expire_at_their_deadline(timeout_s, answered, expired, work_s):
    """Five at once, a second each on one worker, after a load of a tenth."""
    spec = function(limits={"request_timeout_s": timeout_s})
    seen, _ = of([spec], [Arrival(0.0, "f")] * 5, service_s=1.0, wake_s=0.1, cores=1)
    summary = seen["f"]
    assert (summary.calls, len(summary.answers), summary.expired) == (5, answered, expired)
    assert summary.work_s == pytest.approx(work_s)
    assert (summary.latency_p99_s == math.inf) is bool(expired)


@pytest.mark.parametrize(
    ("timeout_s", "answered", "expired"), [(30.0, 2, 0), (3.0, 1, 1), (0.5, 0, 2)]
)
def test_what_has_come_by_the_end_is_answered_or_expires(timeout_s, answered, expired):
    """Whenever that is; what time costs counts until the end alone."""
    spec = function(limits={"request_timeout_s": timeout_s})
    arrivals = [Arrival(0.0, "f"), Arrival(0.9, "f"), Arrival(5.0, "f")]
    machine = SimulatedMachine(service_s=2.0, wake_s=0.1, cores=1)
    (summary,), totals = replay([spec], arrivals, machine, until=1.0)
    assert (summary.calls, len(summary.answers), summary.expired) == (2, answered, expired)
    assert totals.seconds == 1.0
    assert summary.host_s + summary.own_s + summary.asleep_s == pytest.approx(1.0)


def test_what_is_decided_after_the_end_counts_for_nothing():
    """Calls that came at once, just before it: neither the replicas that the rest of them asks for,
    nor that no more fit, nor what these hold.
    """
    own = function(
        "own",
        autoscaling={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 1},
        resources={"num_cpus": 1},
        limits={"request_timeout_s": 60.0, "max_queued_requests": 1000},
    )
    hosted = function(
        "hosted",
        resources={"num_cpus": 8},
        limits={"request_timeout_s": 60.0, "max_queued_requests": 1000},
    )
    arrivals = [Arrival(0.95, name) for name in ("own", "hosted") for _ in range(90)]
    machine = SimulatedMachine(service_s=0.5, cores=2, cpus=4)
    seen, totals = replay([own, hosted], arrivals, machine, until=0.97)
    assert [(one.missing, one.decisions) for one in seen] == [(0, ()), (0, ())]
    assert all(len(one.answers) == 90 for one in seen)
    assert totals.most_bytes == 60_000_000 + 260_000_000


def test_a_call_that_came_before_what_is_looked_at_expires_for_nothing():
    """It is none of the calls that are counted."""
    spec = function(limits={"request_timeout_s": 2.0})
    arrivals = [Arrival(0.0, "f"), Arrival(0.1, "f"), Arrival(5.0, "f")]
    machine = SimulatedMachine(service_s=1.5, wake_s=0.1, cores=1)
    (summary,), _ = replay([spec], arrivals, machine, since=1.0, until=10.0)
    assert (summary.calls, summary.expired) == (1, 0)


def test_a_rare_function_does_not_wait_behind_a_busy_one():
    """The function that used the host least goes first."""
    busy, rare = function("busy", resources={"num_cpus": 2}), function("rare")
    arrivals = sorted(
        [*poisson_arrivals({"busy": 105.0}, 20.0), *poisson_arrivals({"rare": 1.0}, 20.0, seed=1)],
        key=lambda one: one.at,
    )
    seen, _ = of([busy, rare], arrivals, service_s=0.02, cpus=1)
    assert seen["rare"].wait_p95_s < 0.11
    assert seen["busy"].wait_p95_s > 0.5
