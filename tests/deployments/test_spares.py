"""When processes are started ahead."""

from __future__ import annotations

from deployments.spares import CALM_S, KEEP_ALIVE_S, START_S, Spares


def test_what_a_replica_took_is_replaced_when_its_start_is_over():
    """Once, and not while the replica starts."""
    spares = Spares(1)
    assert (spares.wanted(0.0), spares.wanted(1.0)) == (1, 0)
    spares.taken(began=10.0, now=10.5)
    assert [spares.wanted(10.5 + wait) for wait in (0.0, CALM_S, CALM_S + 1)] == [0, 1, 0]


def test_replicas_that_found_none_ask_for_none():
    """Of a burst the first takes it; those that were there before took nothing."""
    spares = Spares(1)
    spares.taken(began=-5.0, now=0.0)
    spares.wanted(0.0)
    for began in (0.5, 10.0, 10.1, 10.2):
        spares.taken(began, now=11.0)
    assert spares.wanted(11.0 + CALM_S) == 1
    spares.taken(began=11.0 + CALM_S + START_S / 2, now=20.0)
    assert spares.wanted(30.0) == 0


def test_ray_ends_unused_ones_so_they_are_asked_for_again():
    """A little before."""
    spares = Spares(2)
    assert (spares.wanted(0.0), spares.wanted(KEEP_ALIVE_S - 61), spares.wanted(KEEP_ALIVE_S - 59)) == (2, 0, 2)
    assert Spares(0).wanted(0.0) == 0
