"""The arithmetic of shares: memory that fits, limits that add up, devices by their number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.devices import CONTEXT_MB, Kept, arena_mb, beyond_share, divided, least_share, on_cpu, overcommitted, position
from runtime.spec import ResourcesSpec


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
    assert on_cpu(ResourcesSpec(**resources)) is cpu


@pytest.mark.parametrize(
    ("num_gpus", "memory_mb", "said"),
    [
        (0.25, 4000, ""),
        (0.25, 3999, ""),
        (1, 16000, ""),
        (2, 16000, ""),
        (0.25, 4001, "0.25 of a device of 16000 MB is 4000 MB, and 4001 MB are needed. Declare num_gpus: 0.26 or more."),
        (0.5, 12000, "0.5 of a device of 16000 MB is 8000 MB, and 12000 MB are needed. Declare num_gpus: 0.75 or more."),
        (2, 16001, "16001 MB of GPU memory are needed and a device has 16000. Use larger devices or a smaller model."),
    ],
)
def test_memory_has_to_fit_the_share(num_gpus, memory_mb, said):
    """Of one device, however many a replica has; with the share that would do."""
    assert beyond_share(num_gpus, memory_mb, 16000) == said


@given(st.integers(1, 200_000), st.integers(1000, 200_000))
def test_the_least_share_is_enough_and_a_hundredth_less_is_not(memory_mb, device_mb):
    """Whatever the sizes."""
    share = least_share(memory_mb, device_mb)
    assert share * device_mb >= memory_mb - 1e-6
    assert (share - 0.01) * device_mb < memory_mb


@pytest.mark.parametrize(
    ("num_gpus", "memory_mb", "device_mb", "room"),
    [
        (0.25, None, None, None),
        (0.25, None, 16000, 4000 - CONTEXT_MB),
        (0.25, 3000, 16000, 3000 - CONTEXT_MB),
        (0.25, 3000, None, 3000 - CONTEXT_MB),
        (1, None, 16000, 16000 - CONTEXT_MB),
        (2, None, 16000, 16000 - CONTEXT_MB),
    ],
)
def test_arenas_get_the_memory_less_a_context(num_gpus, memory_mb, device_mb, room):
    """What is declared, else the share; nothing is limited where nobody knows."""
    assert arena_mb(num_gpus, memory_mb, device_mb) == room


@pytest.mark.parametrize(
    ("num_gpus", "memory_mb", "device_mb", "said"),
    [
        (0.25, 5000, 16000, "Declare num_gpus: 0.32 or more"),
        (0.03, None, 16000, "0.03 of a device of 16000 MB is 480 MB, and a process takes about 600 of them before any model"),
        (0.5, 600, None, "gpu_memory_mb is 600 MB, and a process takes about 600"),
    ],
)
def test_too_little_room_is_refused_with_the_numbers(num_gpus, memory_mb, device_mb, said):
    """Before a session finds out in the middle of a call."""
    with pytest.raises(ValueError, match=said):
        arena_mb(num_gpus, memory_mb, device_mb)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 5000))
def test_limits_of_the_models_of_a_process_add_up_to_its_room(weights, more):
    """Each holds its weights and the same room for activations; not a unit is handed out twice."""
    room = sum(weights) + more
    limits = divided(room, weights)
    assert sum(limits) <= room
    assert {limit - weight for limit, weight in zip(limits, weights, strict=True)} == {more // len(weights)}


def test_weights_beyond_the_room_are_refused():
    """Nothing would be left to run in."""
    with pytest.raises(ValueError, match="weights are 300 and the room for them and all activations is 300"):
        divided(300, [100, 200])


@pytest.mark.parametrize(
    ("assigned", "visible", "index"),
    [
        (["1"], "1", 0),  # as Ray sets it: CUDA numbers the one device that it may see
        (["2", "3"], "2,3", 0),
        (["1"], "0,1", 1),  # Ray was told to leave the variable alone
        (["1"], None, 1),
        ([], "", 0),
        ([], None, 0),
        (["GPU-8a1b"], "GPU-ffff, GPU-8a1b", 1),
        (["GPU-8a1b"], None, 0),
    ],
)
def test_a_device_is_numbered_as_its_process_sees_it(assigned, visible, index):
    """Ray gives numbers of the node."""
    assert position(assigned, visible) == index


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([Kept("a", 4, 0.25, 4000), Kept("b", 4, 0.25, 4000)], ""),
        ([Kept("a", 9, 0.25, None)], ""),  # fractions wait; memory that nobody knows is no reason
        ([Kept("a", 0, 1, 16000), Kept("b", 2, 1, 16000)], ""),
        (
            [Kept("a", 4, 0.5, 8000), Kept("b", 1, 0.25, 4000), Kept("c", 1, 0.5, None)],
            "always-on replicas take 4 x 8000 (a) + 1 x 4000 (b) = 36000 MB of GPU memory, and 2 devices of 16000 MB hold 32000. ",
        ),
        (
            [Kept("a", 2, 0.6, 9000), Kept("b", 1, 0.55, 8200)],
            "3 always-on replicas, 2 x 9000 (a) + 1 x 8200 (b) MB, take more than half of a device each, and there are 2 devices of 16000",
        ),
    ],
)
def test_always_on_replicas_that_no_devices_hold_are_refused(kept, said):
    """With the sum; what could be placed in some way is not refused."""
    assert overcommitted(kept, 2, 16000).startswith(said)
    assert bool(overcommitted(kept, 2, 16000)) is bool(said)
