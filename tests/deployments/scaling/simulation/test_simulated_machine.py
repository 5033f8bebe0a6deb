"""What replicas take of machines."""

from __future__ import annotations

import pytest

from deployments.scaling.simulation.simulated_machine import MachineRoom
from runtime.declaration.sections import ResourcesSpec


def needs(cpus: float = 0.0, gpus: float = 0.0) -> ResourcesSpec:
    """Of a replica."""
    return ResourcesSpec(num_cpus=cpus, num_gpus=gpus)


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "wanted", "fits"),
    [
        pytest.param(1, 8, 0, needs(1), 7, id="the host has one CPU"),
        pytest.param(2, 8, 0, needs(8), 1, id="of the first machine alone"),
        pytest.param(3, 8, 0, needs(5), 3, id="each on one machine"),
        pytest.param(1, 8, 0, needs(0.1), 70, id="tenths"),
        pytest.param(1, 8, 1, needs(0, 0.25), 4, id="quarters of a GPU"),
        pytest.param(1, 8, 4, needs(0, 0.6), 4, id="more than half: one on each"),
        pytest.param(2, 8, 3, needs(0, 2), 2, id="two GPUs of one machine"),
        pytest.param(1, 2, 4, needs(1, 0.5), 1, id="the CPUs are the limit"),
        pytest.param(1, 8, 0, needs(0, 0.5), 0, id="no GPU"),
        pytest.param(1, 1, 0, needs(1), 0, id="the host has all"),
        pytest.param(1, 8, 0, needs(), None, id="nothing is wanted"),
    ],
)
def test_what_fits_is_counted_by_machine(machines, cpus, gpus, wanted, fits):
    """And that many can be placed, no more."""
    room = MachineRoom(machines, cpus, gpus)
    assert room.count_fitting(wanted) == fits
    if fits is not None:
        room.resize("f", wanted, fits + 3, 10)
        assert room.count_of("f") == fits
        assert room.count_fitting(wanted) == 0
        assert room.held_bytes() == 10 * fits
        room.resize("f", wanted, 0, 10)
        assert (room.count_fitting(wanted), room.held_bytes()) == (fits, 0)


def test_shares_of_two_functions_lie_together():
    """A quarter beside a half, so that another GPU stays whole."""
    room = MachineRoom(1, 8, 2)
    room.resize("half", needs(0, 0.5), 1, 0)
    room.resize("quarter", needs(0, 0.25), 1, 0)
    assert room.count_fitting(needs(0, 1)) == 1


def test_memory_is_that_of_the_fullest_machine():
    """The host's is on the first; replicas go where least is held."""
    room = MachineRoom(2, 8, 0)
    room.resize("f", needs(1), 3, 100)
    assert room.most_held_bytes(0) == 200
    assert room.most_held_bytes(70) == max(200, 70 + room.machines[0].held_bytes)
