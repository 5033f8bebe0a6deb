"""When processes are started ahead."""

from __future__ import annotations

from deployments.placement.controller import KEEP_ALIVE_S, REPLACE_AFTER_S, START_S, PrestartPool


def test_what_a_replica_took_is_replaced_when_its_start_is_over():
    """Once, and not while the replica starts."""
    spares = PrestartPool(1)
    assert (spares.take_missing(0.0), spares.take_missing(1.0)) == (1, 0)
    spares.on_worker_used(began=10.0, now=10.5)
    assert [
        spares.take_missing(10.5 + wait) for wait in (0.0, REPLACE_AFTER_S, REPLACE_AFTER_S + 1)
    ] == [
        0,
        1,
        0,
    ]


def test_replicas_that_found_none_ask_for_none():
    """Of a burst the first takes it; those that were there before took nothing."""
    spares = PrestartPool(1)
    spares.on_worker_used(began=-5.0, now=0.0)
    spares.take_missing(0.0)
    for began in (0.5, 10.0, 10.1, 10.2):
        spares.on_worker_used(began, now=11.0)
    assert spares.take_missing(11.0 + REPLACE_AFTER_S) == 1
    spares.on_worker_used(began=11.0 + REPLACE_AFTER_S + START_S / 2, now=20.0)
    assert spares.take_missing(30.0) == 0


def test_ray_ends_unused_ones_so_they_are_requested_again():
    """A little before."""
    spares = PrestartPool(2)
    assert (
        spares.take_missing(0.0),
        spares.take_missing(KEEP_ALIVE_S - 61),
        spares.take_missing(KEEP_ALIVE_S - 59),
    ) == (2, 0, 2)
    assert PrestartPool(0).take_missing(0.0) == 0
