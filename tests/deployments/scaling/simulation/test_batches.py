"""Batches in the simulator: what they take by rows and length, which calls share one, how workers
crowd each other.
"""

from __future__ import annotations

import math

import pytest

from deployments.scaling.simulation import (
    Arrival,
    BatchCurve,
    BatchTimes,
    FunctionCosts,
    SimulatedMachine,
    poisson_arrivals,
    replay,
)
from deployments.scaling.simulation.batch_times import slowdown
from runtime.declaration.function_spec import FunctionSpec

FIXED_S, ROW_S = 0.010, 0.001
"""Of a batch, and of a row in it."""


def line(length: float = 0.0, factor: float = 1.0) -> BatchCurve:
    """Two measured points of a batch that costs a fixed part and a part a row."""
    points = ((rows, factor * (FIXED_S + ROW_S * rows)) for rows in (1, 8))
    return BatchCurve(length, tuple(points))


def costs(*curves: BatchCurve, **more) -> FunctionCosts:
    """Of a function whose rows are of one length, or as the curves have it."""
    return FunctionCosts(BatchTimes(curves or (line(),)), wake_s=0.1, **more)


def run(arrivals, cost, machine=(), window=(), **args):
    """The summary of one function, in the host of one core."""
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx", **args})
    assumed = SimulatedMachine(**{"cores": 1, "costs": {"f": cost}, **dict(machine)})
    (summary,), _ = replay([spec], arrivals, assumed, **dict(window))
    return summary


def answers_ms(summary) -> list[float]:
    """Latencies in the order of the answers, in milliseconds."""
    return [round(1000 * latency_s, 3) for _, latency_s in summary.answers]


@pytest.mark.parametrize(
    ("rows", "length", "seconds"),
    [
        pytest.param(1, 10, 0.011, id="a measured point"),
        pytest.param(4, 10, 0.014, id="between two"),
        pytest.param(16, 10, 0.026, id="beyond the last one the line goes on"),
        pytest.param(1, 20, 0.022, id="another measured length"),
        pytest.param(8, 15, 0.027, id="a length between two"),
        pytest.param(1, 40, 0.044, id="a longer row than any that was measured"),
        pytest.param(1, 5, 0.0055, id="a shorter one"),
        pytest.param(1, 0, 0.0, id="never less than nothing"),
    ],
)
def test_a_batch_takes_what_was_measured_and_lines_between(rows, length, seconds):
    """By rows and by length."""
    times = BatchTimes((line(10), line(20, factor=2)))
    assert times.batch_s(rows, length) == pytest.approx(seconds)


def test_of_one_measured_size_more_rows_take_as_much_more():
    """Whatever their length."""
    assert BatchTimes((BatchCurve(0, ((1, 0.02),)),)).batch_s(5, 100) == pytest.approx(0.1)


def test_what_was_measured_twice_takes_the_longer_time():
    """Whichever comes first."""
    assert BatchCurve(0, ((1, 0.01), (1, 0.02))).batch_s(1) == 0.02
    assert BatchTimes((line(10), line(10, factor=2))).batch_s(1, 10) == pytest.approx(0.022)


def test_calls_that_wait_share_a_batch():
    """Eight wait for a load: two batches of four, one after the other."""
    summary = run([Arrival(0.0, "f")] * 8, costs(), batching={"max_batch_size": 4})
    assert answers_ms(summary) == [114.0] * 4 + [128.0] * 4
    assert summary.batch_rows == 4
    assert summary.work_s == pytest.approx(0.028)
    assert (summary.calls, summary.cold_calls, summary.cold_starts) == (8, 8, 1)


def test_what_a_call_takes_beside_its_worker_is_in_its_latency():
    """And keeps no worker."""
    summary = run([Arrival(0.0, "f")], costs(beside=(0.005,)))
    assert answers_ms(summary) == [116.0]
    assert summary.work_s == pytest.approx(0.011)


def test_rows_of_unlike_lengths_share_no_batch():
    """As the engine's policy has it: padding has to pay."""
    lengths = [10.0, 100.0, 10.0, 100.0]
    arrivals = [Arrival(0.0, "f", length=length) for length in lengths]
    summary = run(arrivals, costs(line(10), line(100, factor=10)))
    assert answers_ms(summary) == [112.0] * 2 + [232.0] * 2
    assert summary.batch_rows == 2


def test_a_row_without_a_length_has_the_profiles():
    """Of a traffic at a rate."""
    summary = run([Arrival(0.0, "f")], costs(line(10), line(20, factor=2), length=20.0))
    assert answers_ms(summary) == [122.0]


def test_a_batch_waits_for_mates_where_that_is_declared():
    """And leaves once it is full, or its oldest row has waited for long enough."""
    batching = {"max_batch_size": 2, "batch_wait_timeout_s": 0.05}
    first, *more = [Arrival(at, "f") for at in (0.0, 1.0, 1.02, 2.0)]
    alone = run([first, *more], costs(), batching=batching)
    assert answers_ms(alone) == [111.0, 32.0, 12.0, 61.0]


def test_idle_workers_share_what_waits():
    """Four calls and two cores: two batches of two at the same time."""
    summary = run([Arrival(0.0, "f")] * 4, costs(), {"cores": 2}, resources={"num_cpus": 2})
    assert answers_ms(summary) == [112.0] * 4


@pytest.mark.parametrize(
    ("shared_cores", "second_ms"),
    [
        pytest.param(None, 111.0, id="each worker has a core"),
        pytest.param(2, 111.0, id="as many cores as batches"),
        pytest.param(1, 122.0, id="two on one core"),
        pytest.param(0.5, 144.0, id="two on half of one"),
    ],
)
def test_batches_crowd_each_other_on_shared_cores(shared_cores, second_ms):
    """One that begins beside others takes as much longer."""
    machine = {"cores": 2, "shared_cores": shared_cores}
    summary = run([Arrival(0.0, "f")] * 2, costs(), machine, resources={"num_cpus": 2})
    assert max(answers_ms(summary)) == second_ms


def test_seconds_are_spread_as_they_were_measured():
    """Each batch takes one of the measured ratios, the same for the same seed."""
    arrivals = [Arrival(float(second), "f") for second in range(40)]
    curve = BatchCurve(0.0, line().points, ((1.0, 2.0), (9.0,)))
    seen = run(arrivals, costs(curve))
    assert set(answers_ms(seen)[1:]) == {11.0, 22.0}
    assert answers_ms(seen) == answers_ms(run(arrivals, costs(curve)))


def test_a_call_whose_seconds_the_trace_has_runs_alone():
    """Its own seconds count, and it shares no batch."""
    arrivals = [Arrival(0.0, "f", service_s=0.5), Arrival(0.0, "f"), Arrival(0.0, "f")]
    assert answers_ms(run(arrivals, costs())) == [600.0, 612.0, 612.0]


def test_quick_python_rows_share_a_hop():
    """Rows that a stage takes one by one leave a few at a time, as the engine has it."""
    cheap = FunctionCosts(
        BatchTimes((BatchCurve(0, ((1, 0.0002), (8, 0.0016))),)), shares_runs=False, wake_s=0.1
    )
    summary = run([Arrival(0.0, "f")] * 17, cheap)
    assert summary.batch_rows == pytest.approx(17 / 3)  # one, whose time is not known, then eights


def test_batches_raise_what_one_worker_does():
    """Three times the rate of single calls are answered, and none waits for long."""
    arrivals = poisson_arrivals({"f": 270.0}, 60.0)
    batched = run(arrivals, costs(), tier="own", autoscaling={"min_replicas": 1})
    assert batched.refused == 0
    assert batched.latency_p95_s < 0.05
    assert batched.batch_rows > 2


def test_what_happened_before_the_looked_at_time_does_not_count():
    """Neither calls nor seconds nor wakes; it ends where it is told to."""
    arrivals = [Arrival(float(second), "f") for second in range(120)]
    summary = run(arrivals, costs(), window={"since": 60.0, "until": 110.5})
    assert (summary.calls, summary.cold_starts) == (51, 0)
    assert summary.host_s == pytest.approx(50.5)
    assert summary.places == ((60.0, 1),)


def test_replicas_have_a_share_of_the_gpus_there_are():
    """Halves of one: two run, and what more is wanted is counted."""
    summary = run(
        poisson_arrivals({"f": 2000.0}, 20.0),
        costs(),
        {"gpus": 1, "cpus": 100.0},
        resources={"num_gpus": 0.5},
        autoscaling={"min_replicas": 1, "max_replicas": 8},
        batching={"max_batch_size": 4},
    )
    assert summary.replicas == 2
    assert summary.missing > 0


def test_the_places_that_serve_it_are_kept():
    """One in the host, then its own, then none."""
    summary = run(poisson_arrivals({"f": 200.0}, 60.0), costs(), batching={"max_batch_size": 2})
    places = [count for _, count in summary.places]
    assert places[:2] == [0, 1]
    assert places[-1] == 0
    held_s = sum(
        count * (after - at)
        for (at, count), (after, _) in zip(summary.places, summary.places[1:], strict=False)
    )
    assert held_s == pytest.approx(summary.host_s + summary.replica_s, rel=0.05)


def test_a_call_stays_with_the_replica_that_it_was_given_to():
    """Three at once on two replicas: the third waits behind one of the first two, each of which has
    its own worker.
    """
    arrivals = [Arrival(1.0, "f")] * 3
    scaling = {"min_replicas": 2, "max_replicas": 2}
    alone = {"max_batch_size": 1}
    summary = run(arrivals, costs(), tier="own", autoscaling=scaling, batching=alone)
    assert answers_ms(summary) == [11.0, 11.0, 22.0]


def test_calls_that_wait_for_a_second_replica_are_not_shared_with_it():
    """What came before stays where it is: three hundred calls of one replica, answered one by one,
    while the new one has nothing to do.
    """
    summary = run(
        [Arrival(1.0, "f")] * 300,
        costs(),
        {"start_s": 0.05},
        tier="own",
        autoscaling={"min_replicas": 1, "max_replicas": 2},
        batching={"max_batch_size": 1},
        limits={"max_queued_requests": 500},
    )
    assert summary.replicas == 2
    assert max(answers_ms(summary)) == pytest.approx(3300)


def test_the_host_answers_what_it_has_when_a_function_leaves_it():
    """A crowd that promotes it: none of it moves."""
    arrivals = poisson_arrivals({"f": 85.0}, 20.0)
    summary = run(arrivals, costs(), batching={"max_batch_size": 1})
    assert summary.own_s > 0
    assert len(summary.answers) == summary.calls == len(arrivals)


@pytest.mark.parametrize(("beside_cpu_s", "takes_ms"), [(0.0, 11.0), (0.005, 11.0), (0.02, 14.63)])
def test_calls_on_their_way_take_from_the_cores(beside_cpu_s, takes_ms):
    """Fifty a second of 20 ms keep one core busy; of two there is less than one for a batch that
    shares with another.
    """
    arrivals = [Arrival(0.02 * number, "f") for number in range(500)]
    scaling = {"min_replicas": 1, "max_replicas": 1}
    machine = {"shared_cores": 1.5}
    cost = costs(beside_cpu_s=beside_cpu_s)
    summary = run(arrivals, cost, machine, tier="own", autoscaling=scaling)
    assert sorted(answers_ms(summary))[250] == pytest.approx(takes_ms, rel=0.1)


def test_batches_are_served_as_much_slower_as_was_measured():
    """Whatever their size."""
    assert answers_ms(run([Arrival(0.0, "f")], costs(served=2.0))) == [122.0]


@pytest.mark.parametrize(
    ("idle_s", "seconds"),
    [
        pytest.param(0.0, 0.022, id="at once"),
        pytest.param(0.01, 0.022, id="as soon as was measured"),
        pytest.param(0.06, 0.024, id="between two"),
        pytest.param(0.11, 0.026, id="the longest that was measured"),
        pytest.param(math.inf, 0.026, id="longer, or never before"),
    ],
)
def test_a_batch_takes_longer_after_a_wait(idle_s, seconds):
    """By what was measured; its rows change nothing of that."""
    cost = costs(served=2.0, idle_extra=((0.01, 0.0), (0.11, 0.004)))
    assert cost.served_s(1, 0.0, idle_s) == pytest.approx(seconds)
    assert cost.served_s(8, 0.0, idle_s) == pytest.approx(seconds + 0.014)


def test_a_place_that_had_nothing_to_do_takes_longer():
    """The first batch, and each after a wait; one that waited for its worker does not."""
    arrivals = [Arrival(at, "f") for at in (0.0, 1.0, 1.005, 1.1)]
    cost = costs(idle_extra=((0.0, 0.0), (0.1, 0.004)))
    seen = answers_ms(run(arrivals, cost, batching={"max_batch_size": 1}))
    assert seen[:3] == [115.0, 15.0, 21.0]
    assert 11.0 < seen[3] < 15.0


def test_a_call_that_is_refused_found_nothing():
    """It counts neither as warm nor as cold."""
    summary = run([Arrival(0.0, "f")] * 3, costs(), {"memory_bytes": 1}, limits={})
    assert (summary.calls, summary.refused, summary.cold_calls) == (0, 3, 0)


@pytest.mark.parametrize(
    ("busy", "cores", "times"),
    [
        (1, 4, 1.0),
        (0.2, 4, 1.0),
        (2.5, 4, 1.25),
        (4, 4, 1.5),
        (8, 4, 3.0),
        (1, 1, 1.0),
        (2, 1, 2.0),
    ],
)
def test_a_batch_beside_others_takes_longer(busy, cores, times):
    """In a line up to all cores, which was measured as half as long again; then cores are shared."""
    assert slowdown(1.5, busy, cores) == pytest.approx(times)
