"""The arithmetic of shares: memory that fits, limits that add up, devices by their number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.declaration.function_spec import ResourcesSpec
from runtime.onnx.gpu_memory import (
    CONTEXT_MB,
    AlwaysOnReplicas,
    arena_mb,
    device_position,
    overcommitted_message,
    share_overflow_message,
    smallest_share,
    split_memory,
)
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("resources", "cpu"),
    [
        ({}, True),
        ({"device": "cpu"}, True),
        ({"num_gpus": 0.25}, False),
        ({"num_gpus": 0.25, "providers": ("CPUExecutionProvider",)}, True),
        ({"num_gpus": 1, "device": "cuda"}, False),
        ({"device": "openvino"}, False),
        ({"providers": ("OpenVINOExecutionProvider", "CPUExecutionProvider")}, False),
    ],
)
def test_a_function_is_on_cpus_unless_it_says_otherwise(resources, cpu):
    """By what is declared alone."""
    assert ResourcesSpec(**resources).is_cpu_only is cpu


@pytest.mark.parametrize(
    ("num_gpus", "memory_mb", "values"),
    [
        (0.25, 4000, []),
        (0.25, 3999, []),
        (1, 16000, []),
        (2, 16000, []),
        (0.25, 4001, ["0.25", "16000 MB", "4000 MB", "4001 MB", "num_gpus: 0.26"]),
        (0.5, 12000, ["0.5", "16000 MB", "8000 MB", "12000 MB", "num_gpus: 0.75"]),
        (2, 16001, ["16001 MB", "16000", "larger devices"]),
    ],
)
def test_memory_has_to_fit_the_share(num_gpus, memory_mb, values):
    """Of one device, however many a replica has; with the share that would do."""
    message = share_overflow_message(num_gpus, memory_mb, 16000)
    assert bool(message) is bool(values)
    expect_values(message, *values)


@given(st.integers(1, 200_000), st.integers(1000, 200_000))
def test_the_smallest_share_is_enough_and_a_hundredth_less_is_not(memory_mb, device_mb):
    """Whatever the sizes."""
    share = smallest_share(memory_mb, device_mb)
    assert share * device_mb >= memory_mb - 1e-6
    assert (share - 0.01) * device_mb < memory_mb


@pytest.mark.parametrize(
    ("num_gpus", "memory_mb", "device_mb", "arena"),
    [
        (0.25, None, None, None),
        (0.25, None, 16000, 4000 - CONTEXT_MB),
        (0.25, 3000, 16000, 3000 - CONTEXT_MB),
        (0.25, 3000, None, 3000 - CONTEXT_MB),
        (1, None, 16000, 16000 - CONTEXT_MB),
        (2, None, 16000, 16000 - CONTEXT_MB),
    ],
)
def test_arenas_get_the_memory_minus_a_context(num_gpus, memory_mb, device_mb, arena):
    """The declared memory, else the share; nothing is limited where neither is known."""
    assert arena_mb(num_gpus, memory_mb, device_mb) == arena


@pytest.mark.parametrize(
    ("num_gpus", "memory_mb", "device_mb", "values"),
    [
        (0.25, 5000, 16000, ["5000 MB", "num_gpus: 0.32"]),
        (0.03, None, 16000, ["0.03", "16000 MB", "480 MB", "600"]),
        (0.5, 600, None, ["gpu_memory_mb", "600 MB"]),
    ],
)
def test_too_little_memory_is_refused_with_the_numbers(num_gpus, memory_mb, device_mb, values):
    """Before a session finds out in the middle of a call."""
    expect_values(refused_memory(num_gpus, memory_mb, device_mb), *values)


def refused_memory(num_gpus: float, memory_mb: int | None, device_mb: int | None) -> ValueError:
    """The error of too little memory."""
    with pytest.raises(ValueError, match="MB") as caught:
        arena_mb(num_gpus, memory_mb, device_mb)
    return caught.value


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 5000))
def test_limits_of_the_models_of_a_process_add_up_to_its_memory(weights, more):
    """Each holds its weights and the same memory for activations; not a unit is handed out twice."""
    total = sum(weights) + more
    limits = split_memory(total, weights)
    assert sum(limits) <= total
    assert {limit - weight for limit, weight in zip(limits, weights, strict=True)} == {
        more // len(weights)
    }


def test_weights_beyond_the_memory_are_refused():
    """Nothing would be left to run in."""
    with pytest.raises(ValueError, match=r"\b300\b.*\b300\b"):
        split_memory(300, [100, 200])


@pytest.mark.parametrize(
    ("assigned", "visible", "index"),
    [
        (["1"], "1", 0),  # as Ray sets it: CUDA numbers the one device that it may see
        (["2", "3"], "2,3", 0),
        (["1"], "0,1", 1),  # Ray was configured to leave the variable alone
        (["1"], None, 1),
        ([], "", 0),
        ([], None, 0),
        (["GPU-8a1b"], "GPU-ffff, GPU-8a1b", 1),
        (["GPU-8a1b"], None, 0),
    ],
)
def test_a_device_is_numbered_among_those_visible_to_its_process(assigned, visible, index):
    """Ray gives numbers of the node."""
    assert device_position(assigned, visible) == index


@pytest.mark.parametrize(
    ("kept", "values"),
    [
        ([AlwaysOnReplicas("a", 4, 0.25, 4000), AlwaysOnReplicas("b", 4, 0.25, 4000)], []),
        # fractions wait; unknown memory is no reason
        ([AlwaysOnReplicas("a", 9, 0.25, None)], []),
        ([AlwaysOnReplicas("a", 0, 1, 16000), AlwaysOnReplicas("b", 2, 1, 16000)], []),
        (
            [
                AlwaysOnReplicas("a", 4, 0.5, 8000),
                AlwaysOnReplicas("b", 1, 0.25, 4000),
                AlwaysOnReplicas("c", 1, 0.5, None),
            ],
            ["4 x 8000 (a) + 1 x 4000 (b) = 36000 MB", "2 devices of 16000 MB", "32000"],
        ),
        (
            [AlwaysOnReplicas("a", 2, 0.6, 9000), AlwaysOnReplicas("b", 1, 0.55, 8200)],
            ["3 always-on", "2 x 9000 (a) + 1 x 8200 (b) MB", "half", "2 devices of 16000"],
        ),
    ],
)
def test_always_on_replicas_that_no_devices_hold_are_refused(kept, values):
    """With the sum; what could be placed in some way is not refused."""
    message = overcommitted_message(kept, 2, 16000)
    assert bool(message) is bool(values)
    expect_values(message, *values)
