"""The shares of the GPUs, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.cli.status import device_lines, sequence_lines
from deployments.control.declarations import FunctionDeclaration
from deployments.observability.status_messages import (
    GpuShare,
    allocation_message,
    has_room,
    most_free_share,
    running_shares,
    waiting_reason,
)
from deployments.placement.function_state import FunctionState
from deployments.placement.views.status_view import function_entry, gpu_allocations
from deployments.ray_support.serve_status import AppState
from deployments.scaling.tier_policy import Tier
from runtime.library.function_report import FunctionReport
from tests.deployments.observability.test_status_messages import SCHEDULED
from tests.problems import expect_values

QUARTERS = [GpuShare("a", 0.25, "n/0"), GpuShare("a", 0.25, "n/0"), GpuShare("b", 0.5, "n/0")]
ONES = [GpuShare(f"f{index}", 1) for index in range(10)]
HALVES = [GpuShare("a", 0.75, "n/0"), GpuShare("b", 0.75, "n/1")]


@pytest.mark.parametrize(
    ("held", "devices", "most"),
    [
        ([], 2, 1.0),
        (QUARTERS, 2, 1.0),  # no replica is on the second
        (QUARTERS, 1, 0.0),
        (HALVES, 2, 0.25),
        (HALVES, 3, 1.0),
        # where, is not known: all that is left counts as one part
        ([GpuShare("a", 0.75), GpuShare("b", 0.75)], 2, 0.5),
    ],
)
def test_what_one_device_has_left(held, devices, most):
    """A share is of one device; the sum over several is no use to it."""
    assert most_free_share(held, devices) == pytest.approx(most)


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
    assert has_room(wanted, held, free) is does


@pytest.mark.parametrize(
    ("held", "free", "wanted", "values"),
    [
        ([], 0.0, 1, []),
        (QUARTERS, 0.0, 0.25, ["1 of 1 GPU", "a 2 x 0.25, b 0.5"]),
        (QUARTERS, 1.0, 2, ["1 of 2 GPUs", "a 2 x 0.25, b 0.5"]),
        (
            HALVES,
            0.5,
            0.5,
            ["1.5 of 2 GPUs", "0.25 left", "a 0.75, b 0.75"],
        ),
        (QUARTERS, None, 0.5, ["1 GPU", "a 2 x 0.25, b 0.5"]),
        (
            [GpuShare(f"f{index}", 1) for index in range(10)],
            None,
            1,
            ["10 GPUs", "f0 1, f1 1, f2 1, f3 1, f4 1, f5 1, f6 1, f7 1", "2 more"],
        ),
    ],
)
def test_a_waiting_replica_names_the_functions_that_have_the_gpus(held, free, wanted, values):
    """By function, with how much of it."""
    message = allocation_message(held, free, wanted)
    assert bool(message) is bool(values)
    expect_values(message, *values)


def test_ray_thinks_in_sums_and_we_know_better():
    """Half a GPU is free on two devices together: for Ray the replica merely takes its time."""
    message = SCHEDULED.format('{"CPU": 1.0, "GPU": 0.5}', '{"CPU": 6.0, "GPU": 0.5}')
    reason = waiting_reason(message, None, HALVES)
    expect_values(reason, "waits", "1 CPU and 0.5 GPU", "6 CPU and 0.5 GPU")
    assert reason.endswith(allocation_message(HALVES, 0.5, 0.5))
    expect_values(waiting_reason(message, None, QUARTERS[:1]), "starting", "process")


def function_state(
    name: str, num_gpus: float, *devices: tuple[str, tuple[str, ...]], tier: Tier = "own"
) -> FunctionState:
    """A function whose replicas report which devices they have."""
    args = {"onnx": "m.onnx", "resources": {"num_gpus": num_gpus}}
    state = FunctionState(FunctionDeclaration(name, f"/{name}", args, True, "v"), tier=tier)
    for index, (node, gpus) in enumerate(devices):
        report = FunctionReport(node=node, gpus=gpus)
        state.usage.receive(str(index), report, now=0.0)
    return state


def test_replicas_say_their_devices_and_one_that_has_not_spoken_is_counted():
    """With several whole devices none is named; functions without a GPU have no share."""
    states = [
        function_state("a", 0.5, ("n", ("1",))),
        function_state("b", 2.0, ("n", ("0", "2"))),
        function_state("c", 0.0),
        function_state("d", 0.25, tier="host"),
    ]
    apps = {
        name: AppState(name, "ready", count) for name, count in zip("abc", (2, 1, 1), strict=True)
    }
    assert gpu_allocations(states, apps) == [
        GpuShare("a", 0.5, "n/1"),
        GpuShare("a", 0.5),
        GpuShare("b", 2),
    ]


def test_without_a_catalogue_shares_are_counted_by_replicas():
    """Their devices are not known."""
    assert (
        running_shares(
            {"a": 2, "b": 1},
            {"a": {"num_gpus": 0.5}, "b": {"num_gpus": 0.0}, "c": {"num_gpus": 1.0}},
        )
        == [GpuShare("a", 0.5)] * 2
    )


def test_status_says_what_models_really_run_on():
    """The count of nodes that fell to the CPU; and the functions that fell back whole, once a
    reason.
    """
    on_cpu = {"device": "cpu", "nodes": 0, "cpu_nodes": 0, "fallback": ""}
    lost = {**on_cpu, "fallback": "there is no driver."}
    entries = [
        {"name": "plain", "device": on_cpu},
        {"name": "asleep", "device": None},
        {"name": "ocr", "device": {"device": "cuda", "nodes": 120, "cpu_nodes": 3, "fallback": ""}},
        *({"name": f"f{index}", "device": lost} for index in range(11)),
    ]
    partly, fallen = device_lines(entries)
    expect_values(partly, "ocr", "cuda", "3 of the 120 nodes", "CPU")
    named = ", ".join(f"f{index}" for index in range(10))
    expect_values(fallen, named, "1 more", "CPU", "there is no driver.")


def test_status_shows_the_reason_of_a_replica_that_serves():
    """Not the reason of a host that does not serve it."""
    state = function_state("f", 0.0)
    failed = FunctionReport(state="failed", reason="it did not load")
    state.usage.receive("replica", FunctionReport(reason="its code changed"), now=0.0)
    state.usage.receive("host", failed, now=0.0)
    ready = AppState("f", "ready", 1)
    assert function_entry(state, ready)["reason"] == "its code changed"
    state.usage.receive("replica", FunctionReport(), now=1.0)
    assert function_entry(state, ready)["reason"] == ""


def test_status_names_the_functions_that_keep_sequences():
    """They are why a function does not sleep."""
    entries: list[dict[str, Any]] = [
        {"name": "a", "sequences": 0},
        {"name": "b", "sequences": 1},
        {"name": "c", "sequences": 24},
    ]
    one, several = sequence_lines(entries)
    expect_values(one, "b", "1 sequence")
    expect_values(several, "c", "24 sequences")
