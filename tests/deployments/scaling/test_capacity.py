"""What fits, which functions lack replicas and which give some up."""

from __future__ import annotations

import os

import pytest

from deployments.scaling.capacity import CapacityRequest, ClusterCapacity
from deployments.scaling.replica_policy import count_fitting, max_free_on_a_node

CPU = {"CPU": 1.0}


@pytest.mark.parametrize(
    ("free", "needs", "count"),
    [
        ({"CPU": 3.5}, CPU, 3),
        ({"CPU": 0.3}, {"CPU": 0.1}, 3),
        ({"CPU": 8.0}, {"CPU": 1.0, "GPU": 0.5}, 0),
        ({}, CPU, 0),
        ({"CPU": -2.0}, CPU, 0),
    ],
)
def test_the_scarcest_resource_decides(free, needs, count):
    """A resource of which all is taken is not listed at all."""
    assert count_fitting(free, needs) == count


def capacity_of(*answers: dict[str, float] | list[dict[str, float]]) -> ClusterCapacity:
    """A capacity with one answer fetched, and the others to come: what one machine has free, or
    several.
    """
    coming = iter(answers)
    capacity = ClusterCapacity(
        lambda: answer if isinstance(answer := next(coming), list) else [answer]
    )
    capacity.refresh().join()
    return capacity


def test_what_fits_is_known_until_it_is_old():
    """Then it is not known, which is not the same as nothing."""
    capacity = capacity_of({"CPU": 3.0})
    assert capacity.count_fitting(CPU, capacity._fetched_at + 1) == 3
    assert capacity.count_fitting({}, capacity._fetched_at + 1) is None
    assert capacity.count_fitting(CPU, capacity._fetched_at + 100) is None


def test_what_is_being_started_is_not_free():
    """Until the next query of Ray."""
    capacity = capacity_of({"CPU": 3.0}, {"CPU": 2.0})
    capacity.reserve(CPU, 2)
    assert capacity.count_fitting(CPU, capacity._fetched_at) == 1


def test_a_failing_answer_is_none(caplog):
    """Scaling goes on without knowing what fits."""
    capacity = ClusterCapacity(lambda: (_ for _ in ()).throw(ConnectionError("no GCS")))
    capacity.refresh().join()
    assert capacity.count_fitting(CPU, 0.0) is None
    assert "no GCS" in caplog.text


def test_two_halves_on_two_machines_are_no_whole():
    """A replica is on one machine; what is being started is taken where there is most."""
    capacity = capacity_of([{"CPU": 1.5}, {"CPU": 3.5}])
    assert capacity.count_fitting(CPU, capacity._fetched_at) == 4
    assert capacity.count_fitting({"CPU": 4.0}, capacity._fetched_at) == 0
    capacity.reserve(CPU, 3)
    assert capacity.count_fitting(CPU, capacity._fetched_at) == 1
    assert max_free_on_a_node([{"CPU": 1.5, "GPU": 0.5}, {"CPU": 3.5}]) == {"CPU": 3.5, "GPU": 0.5}


def test_replicas_start_one_for_each_core_of_each_machine():
    """As far as they are alike."""
    cores = len(os.sched_getaffinity(0))
    assert capacity_of({"CPU": 1.0}).max_starting() == cores
    assert capacity_of([{"CPU": 1.0}, {"CPU": 0.0}]).max_starting() == 2 * cores


def test_the_longest_surplus_is_reclaimed_first():
    """Of the functions that hold what is scarce and reported lately; what ends already is not reclaimed
    for twice.
    """
    capacity = capacity_of({"CPU": 0.0})
    capacity.set_request("hungry", CapacityRequest(100.0, 2, 0, 100.0, CPU))
    capacity.set_request("late", CapacityRequest(100.0, 0, 3, 90.0, CPU))
    capacity.set_request("early", CapacityRequest(100.0, 0, 1, 10.0, CPU))
    capacity.set_request("other", CapacityRequest(100.0, 0, 5, 5.0, {"GPU": 1.0}))
    capacity.set_request("gone", CapacityRequest(50.0, 0, 5, 1.0, CPU))
    reclaimed = {name: capacity.count_reclaimed(name, 101.0) for name in capacity._requests}
    assert reclaimed == {"hungry": 0, "late": 1, "early": 1, "other": 0, "gone": 0}
    capacity.add_leaving(1, 101.0)
    assert {name: capacity.count_reclaimed(name, 101.0) for name in ("late", "early")} == {
        "late": 0,
        "early": 1,
    }


def test_no_replica_is_reclaimed_while_no_function_lacks_any():
    """Spare replicas wait for their delay."""
    capacity = capacity_of({"CPU": 0.0})
    capacity.set_request("idle", CapacityRequest(100.0, 0, 3, 90.0, CPU))
    assert capacity.count_reclaimed("idle", 101.0) == 0
