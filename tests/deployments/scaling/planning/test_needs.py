"""A plan: machines, costs, what is said of it."""

from __future__ import annotations

import math

import pytest

from deployments.scaling.planning import needs
from deployments.scaling.planning.costs import MONTH_S, Prices
from deployments.scaling.planning.needs import fewest_enough, make_plan, promising
from deployments.scaling.planning.traffic import PlannedTraffic, steady_traffic
from deployments.scaling.planning.traffic_plan import MachineSize, Range
from deployments.scaling.simulation import Arrival, poisson_arrivals
from runtime.errors import NotFound, RequestError
from tests.deployments.scaling.planning.made_profiles import declare, profile_of
from tests.problems import expect_values

SMALL = MachineSize(cores=2, memory_bytes=8_000_000_000)
NOTHING = Prices()


def made(spec, traffic, size=SMALL, prices=NOTHING, profile=None, **more):
    """A plan of one function, and its part of it."""
    found = make_plan({spec.name: spec}, profile or profile_of(spec), traffic, size, prices, **more)
    return found, found.functions[0]


def steady(rate: float, since: float, until: float) -> PlannedTraffic:
    """Independent calls of one function, of which a part is looked at."""
    return PlannedTraffic("steady", poisson_arrivals({"f": rate}, until, 1), since, until)


def test_a_rare_function_stays_in_the_host_and_sleeps():
    """A call every two minutes: each wakes it, and it holds memory for half of the time."""
    arrivals = [Arrival(120.0 * number, "f") for number in range(10)]
    found, one = made(declare(), PlannedTraffic("ten", arrivals, 0.0, 1200.0))
    assert (one.calls, one.wakes, one.warm, one.replicas) == (10, 10, 0.0, 0)
    assert one.p95_s == pytest.approx(0.1 + 0.011 + 0.002)
    assert one.asleep_s == pytest.approx(600, abs=15)
    assert (found.machines, found.most_bytes, found.holds) == (1, 60_000_000, True)


def test_a_busy_function_gets_replicas():
    """More than one core of calls that share no batch, steady: nothing of the start is in it."""
    spec = declare(
        autoscaling={"max_replicas": 4},
        slo={"latency_p95_ms": 100},
        batching={"max_batch_size": 1},
    )
    size = MachineSize(cores=4, memory_bytes=8_000_000_000)
    found, one = made(spec, steady(150.0, since=45.0, until=70.0), size)
    assert one.replicas >= 2
    assert (one.wakes, one.warm, one.refused) == (0, 1.0, 0)
    assert one.rate == pytest.approx(150, rel=0.05)
    assert one.p50_s < one.p95_s < one.p99_s < 0.1
    assert found.holds
    assert one.memory_bytes == one.replicas * 160_000_000


def test_batches_spare_replicas():
    """The same calls, where they share runs."""
    spec = declare(autoscaling={"max_replicas": 4}, slo={"latency_p95_ms": 100})
    found, one = made(spec, steady(150.0, since=45.0, until=70.0))
    assert (one.replicas, found.holds) == (1, True)
    assert one.batch_rows > 1.05


def test_machines_are_added_until_all_that_is_wanted_fits():
    """Each has four logical CPUs a core, and the host has one of them."""
    spec = declare(
        resources={"num_cpus": 2},
        autoscaling={"min_replicas": 1, "max_replicas": 6},
        batching={"max_batch_size": 8},
        slo={"latency_p95_ms": 40},
    )
    arrivals = [Arrival(number / 1500, "f") for number in range(15_000)]
    traffic = PlannedTraffic("steady", arrivals, 4.0, 10.0)
    found, one = made(spec, traffic)
    assert (found.is_enough, found.machines, one.replicas, one.missing) == (True, 2, 6, 0)
    fewer, short = made(spec, traffic, machines=1)
    assert (fewer.machines, fewer.is_enough, fewer.holds) == (1, False, False)
    assert short.missing > 0
    assert short.p95_s > one.p95_s


def test_memory_asks_for_machines_too():
    """Where replicas together hold more than one has."""
    spec = declare(autoscaling={"min_replicas": 3, "max_replicas": 3})
    tiny = MachineSize(cores=2, memory_bytes=350_000_000)
    found, _ = made(spec, steady_traffic({"f": 5.0}, 30.0, seed=1), tiny)
    assert found.machines == 2


def test_a_promise_that_does_not_hold_is_said():
    """A p95 below what a call alone takes."""
    spec = declare(slo={"latency_p95_ms": 12})
    found, one = made(spec, steady_traffic({"f": 5.0}, 60.0, seed=1))
    assert (one.holds, found.holds) == (False, False)
    assert promising(spec, 50).slo.latency_p95_ms == 50
    assert made(promising(spec, 50), steady_traffic({"f": 5.0}, 60.0, seed=1))[0].holds


@pytest.mark.parametrize(
    ("slo", "broken"),
    [
        pytest.param({"latency_p50_ms": 12}, ("p50",), id="half of them"),
        pytest.param({"latency_p50_ms": 14, "latency_p99_ms": 100}, ("p99",), id="one in ten"),
        pytest.param({"latency_p99_ms": 200, "warm": 0.95}, ("warm",), id="the first was asleep"),
        pytest.param({"latency_p99_ms": 200, "success": 1.0, "warm": 0.9}, (), id="all hold"),
    ],
)
def test_each_promise_is_looked_at(slo, broken):
    """Of ten calls, 13 ms each, the first of which waits for a load."""
    arrivals = [Arrival(float(number), "f") for number in range(10)]
    found, one = made(declare(slo=slo), PlannedTraffic("ten", arrivals, 0.0, 11.0))
    assert (one.broken, found.holds) == (broken, not broken)


def test_another_p95_leaves_out_what_contradicts_it():
    """A higher percentile is never shorter."""
    spec = declare(slo={"latency_p50_ms": 30, "latency_p95_ms": 50, "latency_p99_ms": 90})
    for p95_ms, kept in ((20, (None, 90)), (60, (30, 90)), (100, (30, None))):
        slo = promising(spec, p95_ms).slo
        assert (slo.latency_p50_ms, slo.latency_p99_ms, slo.latency_p95_ms) == (*kept, p95_ms)


def test_calls_beyond_what_is_taken_at_once_are_refused():
    """By the limits of the declaration, on one replica."""
    spec = declare(
        batching={"max_batch_size": 1},
        limits={"max_ongoing_requests": 4, "max_queued_requests": 4},
    )
    found, one = made(spec, steady(500.0, since=0.0, until=5.0))
    assert one.refused > 1000
    assert not found.holds


def test_a_function_that_answers_no_call_keeps_no_promise():
    """Its replica starts for an hour: every call expires meanwhile, and no latency is the best."""
    spec = declare(tier="own", slo={"latency_p95_ms": 50})
    found, one = made(spec, steady_traffic({"f": 0.3}, 60.0, seed=1), start_s=3600.0)
    assert (one.rate, one.p50_s, one.outcome, found.outcome) == (0.0, math.inf, "FAIL", "FAIL")
    assert one.expired == one.calls > 10
    assert one.shares["success"] == 0.0
    assert one.broken == ("p95",)


@pytest.mark.parametrize(
    ("slo", "broken", "outcome"),
    [
        ({}, (), "FAIL"),
        ({"latency_p50_ms": 500}, (), "FAIL"),
        ({"latency_p50_ms": 500, "success": 0.8}, (), "PASS"),
        ({"latency_p99_ms": 500, "success": 0.8}, ("p99",), "FAIL"),
        ({"success": 0.95}, ("success",), "FAIL"),
    ],
)
def test_a_call_that_expires_is_no_right_answer(slo, broken, outcome):
    """And is slower than any: one that waits for another, of eleven."""
    spec = declare(slo=slo, limits={"request_timeout_s": 0.5}, batching={"max_batch_size": 1})
    arrivals = [Arrival(float(number), "f", 0.3) for number in range(10)]
    arrivals.insert(5, Arrival(4.05, "f", 0.3))
    _, one = made(spec, PlannedTraffic("eleven", arrivals, 0.0, 11.0))
    assert (one.calls, one.expired, one.refused) == (11, 1, 0)
    assert (one.broken, one.outcome) == (broken, outcome)
    assert one.p99_s == math.inf


def test_a_function_of_which_all_calls_are_refused_keeps_no_promise():
    """Though no call of it was slow."""
    spec = declare(slo={"latency_p95_ms": 50}, tier="own", autoscaling={"max_replicas": 1})
    size = MachineSize(cores=2, memory_bytes=8_000_000_000, cpus_per_core=0.5)
    _, one = made(spec, steady(5.0, since=0.0, until=5.0), size, machines=1)
    assert (one.calls, one.refused > 0, one.outcome) == (0, True, "FAIL")
    assert (one.p95_s, one.broken) == (math.inf, ("p95",))


def test_costs_are_of_what_is_held_and_of_the_machines():
    """By hand: one replica of two CPUs for the whole time, and one machine."""
    spec = declare(resources={"num_cpus": 2}, autoscaling={"min_replicas": 1, "max_replicas": 1})
    prices = Prices(cpu=0.04, memory=0.005)
    found, one = made(spec, steady_traffic({"f": 10.0}, 360.0, seed=1), prices=prices)
    hour = 2 * 0.04 + 0.16 * 0.005
    assert one.replica_s == pytest.approx(360, abs=1)
    assert one.used.month == pytest.approx(730 * hour, rel=0.01)
    assert one.used.per_1000 == pytest.approx(1000 * hour * 0.1 / one.calls, rel=0.01)
    assert (found.used.month, found.used.per_1000) == pytest.approx(
        (one.used.month, one.used.per_1000)
    )
    machine_hour = 2 * 0.04 + 8 * 0.005
    assert found.whole.month == pytest.approx(730 * machine_hour)
    assert pytest.approx(730 * 3600) == MONTH_S
    assert (one.used.gpu_month, found.whole.gpu_month) == (0, 0)


def test_in_the_host_a_function_pays_for_its_work_and_its_memory():
    """Cores are shared there."""
    traffic = PlannedTraffic("ten", [Arrival(5.0 * number, "f") for number in range(10)], 0.0, 50.0)
    _, one = made(declare(), traffic, prices=Prices(cpu=3600.0))
    assert one.used.per_1000 == pytest.approx(1000 * 0.011)
    _, one = made(declare(), traffic, prices=Prices(memory=3600.0))
    assert one.used.per_1000 == pytest.approx(0.06 * one.host_s / 10 * 1000)


def test_a_share_of_a_gpu_is_planned_as_one():
    """Quarters: four replicas on one, its price by the share, and what is not known is said."""
    spec = declare(resources={"num_gpus": 0.25}, autoscaling={"min_replicas": 4, "max_replicas": 4})
    profile = profile_of(spec, gpu_memory_mb=900, notes=["alone on its GPU."])
    size = MachineSize(cores=2, memory_bytes=8_000_000_000, gpus=1)
    traffic = steady_traffic({"f": 5.0}, 36.0, seed=1)
    found, one = made(spec, traffic, size, Prices(gpu=1.0), profile)
    assert (found.machines, one.replicas) == (1, 4)
    assert one.used.month == one.used.gpu_month == pytest.approx(730, rel=0.01)
    assert one.gpu_s == pytest.approx(36, rel=0.01)
    assert (found.whole.month, found.whole.gpu_month) == pytest.approx((730, 730))
    assert "f: alone on its GPU." in found.notes


@pytest.mark.parametrize(
    ("resources", "gpus", "prices", "where"),
    [
        ({"num_gpus": 0.5}, 0, Prices(), "--machine"),
        ({"num_gpus": 0.5}, 1, Prices(cpu=0.04), "--price"),
        ({"num_cpus": 9}, 0, Prices(), "--machine"),
        ({"num_gpus": 2}, 1, Prices(), "--machine"),
    ],
)
def test_what_no_machine_has_or_has_no_price_is_refused(resources, gpus, prices, where):
    """No number is made up."""
    spec = declare(resources=resources)
    size = MachineSize(cores=2, memory_bytes=8_000_000_000, gpus=gpus)
    with pytest.raises(RequestError) as refused:
        made(spec, steady_traffic({"f": 5.0}, 30.0, seed=1), size, prices)
    assert refused.value.where == where
    expect_values(refused.value, "'f'")


def test_a_function_without_a_profile_is_refused():
    """Whatever else is known."""
    spec = declare("g")
    with pytest.raises(NotFound):
        made(spec, steady_traffic({"g": 5.0}, 30.0, seed=1), profile=profile_of(declare()))


def test_the_machines_that_are_tried_are_bounded(monkeypatch):
    """Memory of eight replicas, each of which takes a machine."""
    monkeypatch.setattr(needs, "MOST_MACHINES", 3)
    tiny = MachineSize(cores=2, memory_bytes=200_000_000)
    spec = declare(autoscaling={"min_replicas": 8, "max_replicas": 8})
    found, _ = made(spec, steady_traffic({"f": 5.0}, 20.0, seed=1), tiny)
    assert (found.machines, found.is_enough) == (3, False)


def test_shares_that_fit_no_gpu_together_take_one_each():
    """0.6 and 0.6 are more than one, so that two replicas need two."""
    spec = declare(resources={"num_gpus": 0.6}, autoscaling={"min_replicas": 2, "max_replicas": 2})
    size = MachineSize(cores=2, memory_bytes=8_000_000_000, gpus=1)
    found, _ = made(spec, steady_traffic({"f": 5.0}, 20.0, seed=1), size)
    assert (found.machines, found.is_enough) == (2, True)


def test_a_replica_lies_on_one_machine():
    """Five CPUs of eight leave three, which are no place for another."""
    spec = declare(resources={"num_cpus": 5}, autoscaling={"min_replicas": 3, "max_replicas": 3})
    found, one = made(spec, steady_traffic({"f": 5.0}, 20.0, seed=1))
    assert (found.machines, one.replicas, found.is_enough) == (3, 3, True)


def test_a_replica_that_no_machine_holds_is_refused():
    """However many there are."""
    tiny = MachineSize(cores=2, memory_bytes=150_000_000)
    with pytest.raises(RequestError) as refused:
        made(declare(), steady_traffic({"f": 5.0}, 20.0, seed=1), tiny)
    assert refused.value.where == "--machine"
    expect_values(refused.value, "'f'", "memory=16")


@pytest.mark.parametrize("enough", [1, 2, 3, 5, 6, 31, 63, 64, None])
def test_the_fewest_machines_are_found_in_few_tries(enough):
    """By doubling and halving; the most that are tried where they are not enough."""
    tried = []

    def run_on(count):
        tried.append(count)
        is_enough = enough is not None and count >= enough
        return needs._Try(count, [], None, is_enough)

    found = fewest_enough(run_on)
    assert (found.machines, found.is_enough) == (enough or 64, enough is not None)
    assert len(tried) == len(set(tried)) <= 13


def test_a_number_is_a_range_of_several_runs():
    """With other calls, and batches as much faster and slower as the profile's rounds were."""
    spec = declare(slo={"latency_p95_ms": 1000})
    even, unlike = (
        made(spec, steady_traffic({"f": 20.0}, 60.0, seed=1), profile=profile_of(spec, drift=drift))
        for drift in (0.0, 0.3)
    )
    for found, one in (even, unlike):
        assert found.runs == 5
        assert one.ranges["p95"].low <= one.p95_s <= one.ranges["p95"].high
        assert set(one.ranges) == {"p50", "p95", "p99", "held_s"}
    widths = [one.ranges["p50"].high - one.ranges["p50"].low for _, one in (even, unlike)]
    assert widths[1] > widths[0] + 0.004
    assert any("30.0 %" in note for note in unlike[0].notes)


def test_recorded_calls_come_as_they_were_in_every_run():
    """Batches alone differ."""
    arrivals = poisson_arrivals({"f": 20.0}, 30.0)
    _, one = made(declare(), PlannedTraffic("calls", arrivals, 0.0, 31.0))
    assert one.ranges["p50"] == Range(one.p50_s, one.p50_s)


def test_what_takes_long_to_run_through_is_run_once(monkeypatch):
    """And that is said."""
    monkeypatch.setattr(needs, "MOST_CALLS", 2000)
    found, one = made(declare(), steady_traffic({"f": 20.0}, 30.0, seed=1))
    assert (found.runs, one.ranges, one.unsure) == (1, {}, ())
    assert any("run once" in note for note in found.notes)


def test_a_promise_within_its_range_may_hold_or_not():
    """UNSURE; a broken one beside it decides."""
    spec = declare(slo={"latency_p95_ms": 20})
    traffic = steady_traffic({"f": 20.0}, 60.0, seed=1)
    _, one = made(spec, traffic, profile=profile_of(spec, drift=0.3))
    middle_ms = 500 * (one.ranges["p95"].low + one.ranges["p95"].high)
    for slo, outcome, unsure in (
        ({"latency_p95_ms": middle_ms}, "UNSURE", ("p95",)),
        ({"latency_p95_ms": 1000 * one.ranges["p95"].high + 1}, "PASS", ()),
        ({"latency_p50_ms": 1, "latency_p95_ms": middle_ms}, "FAIL", ("p95",)),
    ):
        promised = declare(slo=slo)
        profile = profile_of(promised, drift=0.3)
        found, one = made(promised, traffic, profile=profile)
        assert (one.outcome, found.outcome, one.unsure) == (outcome, outcome, unsure)


def test_a_function_that_is_not_called_and_keeps_replicas_is_named():
    """It is not planned, since the traffic says nothing of it."""
    spec, other = declare(), declare("other", autoscaling={"min_replicas": 2, "max_replicas": 2})
    traffic = steady_traffic({"f": 5.0}, 20.0, seed=1)
    found = make_plan({"f": spec, "other": other}, profile_of(spec), traffic, SMALL, NOTHING)
    assert [one.function for one in found.functions] == ["f"]
    assert any("other 2" in note for note in found.notes)


def test_a_function_that_no_call_reaches_sleeps():
    """A rate of one a year beside a busy one: it is in the plan, and costs nothing."""
    specs = {"f": declare(), "rare": declare("rare")}
    traffic = steady_traffic({"f": 20.0, "rare": 3e-8}, 30.0, seed=1)
    found = make_plan(specs, profile_of(*specs.values()), traffic, SMALL, Prices(cpu=1.0))
    rare = found.functions[1]
    assert (rare.function, rare.calls, rare.asleep_s) == ("rare", 0, pytest.approx(30))
    assert (rare.used.month, rare.used.per_1000) == (0, None)
