"""Who has what of the GPUs, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.cli.status import keeping
from deployments.cli.status import running as status_lines
from deployments.index import entry, shares
from deployments.reasons import reason
from deployments.seat import Seat
from deployments.shares import Share, fits, most_free, running, taken
from tests.deployments.test_reasons import SCHEDULED

QUARTERS = [Share("a", 0.25, "n/0"), Share("a", 0.25, "n/0"), Share("b", 0.5, "n/0")]
ONES = [Share(f"f{index}", 1) for index in range(10)]
HALVES = [Share("a", 0.75, "n/0"), Share("b", 0.75, "n/1")]


@pytest.mark.parametrize(
    ("held", "devices", "most"),
    [
        ([], 2, 1.0),
        (QUARTERS, 2, 1.0),  # nobody is on the second
        (QUARTERS, 1, 0.0),
        (HALVES, 2, 0.25),
        (HALVES, 3, 1.0),
        ([Share("a", 0.75), Share("b", 0.75)], 2, 0.5),  # where, is not known: all that is left counts as one part
    ],
)
def test_what_one_device_has_left(held, devices, most):
    """A share is of one device; the sum over several is no use to it."""
    assert most_free(held, devices) == pytest.approx(most)


@pytest.mark.parametrize(
    ("wanted", "held", "free", "does"),
    [
        (0.25, HALVES, 0.5, True),
        (0.5, HALVES, 0.5, False),
        (1, HALVES, 0.5, False),
        (1, QUARTERS, 1.0, True),
        (2, [], 2.0, True),
        (2, [], 1.0, False),
        (0, [], 0.0, True),
    ],
)
def test_a_share_fits_one_device_and_several_whole_ones_the_cluster(wanted, held, free, does):
    """By what replicas say of themselves."""
    assert fits(wanted, held, free) is does


@pytest.mark.parametrize(
    ("held", "free", "wanted", "said"),
    [
        ([], 0.0, 1, ""),
        (QUARTERS, 0.0, 0.25, "1 of 1 GPU is taken: a 2 x 0.25, b 0.5."),
        (QUARTERS, 1.0, 2, "1 of 2 GPUs are taken: a 2 x 0.25, b 0.5."),
        (HALVES, 0.5, 0.5, "1.5 of 2 GPUs are taken, and no device has more than 0.25 left: a 0.75, b 0.75."),
        (QUARTERS, None, 0.5, "1 GPU is taken: a 2 x 0.25, b 0.5."),
        (
            [Share(f"f{index}", 1) for index in range(10)],
            None,
            1,
            "10 GPUs are taken: f0 1, f1 1, f2 1, f3 1, f4 1, f5 1, f6 1, f7 1 and 2 more.",
        ),
    ],
)
def test_who_waits_is_told_who_has_it(held, free, wanted, said):
    """By function, with how much of it."""
    assert taken(held, free, wanted) == said


def test_ray_thinks_in_sums_and_we_know_better():
    """Half a GPU is free on two devices together: for Ray the replica merely takes its time."""
    message = SCHEDULED.format('{"CPU": 1.0, "GPU": 0.5}', '{"CPU": 6.0, "GPU": 0.5}')
    assert reason(message, None, HALVES) == (
        "waits for 1 CPU and 0.5 GPU a replica; free in the cluster: 6 CPU and 0.5 GPU. "
        "1.5 of 2 GPUs are taken, and no device has more than 0.25 left: a 0.75, b 0.75."
    )
    assert reason(message, None, QUARTERS[:1]) == "is starting its process."


def seat(name: str, num_gpus: float, *told: tuple[str, list[str]], tier: str = "own") -> Seat:
    """A function whose replicas say which devices they have."""
    found = Seat({"name": name, "fixed": True, "args": {"resources": {"num_gpus": num_gpus}}}, tier=tier)  # type: ignore[arg-type]
    for index, (node, gpus) in enumerate(told):
        found.said[str(index)] = (0.0, {"node": node, "gpus": gpus})
    return found


def test_replicas_say_their_devices_and_one_that_has_not_spoken_is_counted():
    """With several whole devices none is named; functions without a GPU have no share."""
    seats = [seat("a", 0.5, ("n", ["1"])), seat("b", 2, ("n", ["0", "2"])), seat("c", 0), seat("d", 0.25, tier="host")]
    apps = {"a": {"replicas": 2}, "b": {"replicas": 1}, "c": {"replicas": 1}}
    assert shares(seats, apps) == [Share("a", 0.5, "n/1"), Share("a", 0.5), Share("b", 2)]


def test_without_a_catalogue_shares_are_counted_by_replicas():
    """Nobody says on which device."""
    assert running({"a": 2, "b": 1}, {"a": {"num_gpus": 0.5}, "b": {"num_gpus": 0.0}, "c": {"num_gpus": 1.0}}) == [Share("a", 0.5)] * 2


def test_status_says_what_models_really_run_on():
    """The count of nodes that fell to the CPU; and who fell back altogether, once a reason."""
    on_cpu = {"device": "cpu", "nodes": 0, "cpu_nodes": 0, "fallback": ""}
    lost = {**on_cpu, "fallback": "there is no driver."}
    entries = [
        {"name": "plain", "device": on_cpu},
        {"name": "asleep", "device": None},
        {"name": "ocr", "device": {"device": "cuda", "nodes": 120, "cpu_nodes": 3, "fallback": ""}},
        *({"name": f"f{index}", "device": lost} for index in range(9)),
    ]
    assert status_lines(entries) == [
        "ocr runs on cuda; 3 of the 120 nodes of its models fell to the CPU.",
        "f0, f1, f2, f3, f4, f5, f6, f7 and 1 more run on the CPU though a GPU is declared: there is no driver.",
    ]


def test_status_says_what_a_replica_that_serves_says_of_itself():
    """Not what a host says that does not: it is not asked."""
    found = seat("f", 0, ("n", []))
    found.data |= {"url": "/f", "args": {"resources": {"num_cpus": 1, "num_gpus": 0}}}
    found.said["0"][1].update(state="ready", reason="its code changed")
    found.said["host"] = (0.0, {"state": "failed", "reason": "it did not load"})
    ready = {"state": "ready", "replicas": 1, "message": ""}
    assert entry(found, ready)["reason"] == "its code changed"
    found.said["0"][1].update(reason="")
    assert entry(found, ready)["reason"] == ""


def test_status_says_who_keeps_sequences():
    """It is why a function does not sleep."""
    entries: list[dict[str, Any]] = [{"name": "a", "sequences": 0}, {"name": "b", "sequences": 1}, {"name": "c", "sequences": 24}]
    assert keeping(entries) == [
        "b keeps 1 sequence, and stays where it is while any lives.",
        "c keeps 24 sequences, and stays where it is while any lives.",
    ]
