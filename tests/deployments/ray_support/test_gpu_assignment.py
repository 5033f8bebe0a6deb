"""GPUs that Ray was given as a number: packed by their fractions, shown to the process that has
them, hidden from all others, waited for in words.
"""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from tests import onnx_models
from tests.deployments.projects import HOST, Standing, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STAGE = """\
import os
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from wakeful import Shape


def seen(x: Annotated[NDArray[np.float32], Shape(3)]) -> dict[str, str]:
    return {"devices": os.environ.get("CUDA_VISIBLE_DEVICES", "all")}
"""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph:
        - {{stage: model, onnx: m.onnx, inputs: {{x: x}}}}
        - {{stage: seen, python: "sees:seen", inputs: {{x: y}}}}
      autoscaling: {{min_replicas: {least}}}
      resources: {{num_cpus: 0.25, {resources}}}
"""


def function(name: str, resources: str, least: int = 1) -> str:
    """Its entry in the file."""
    return FUNCTION.format(name=name, resources=resources, least=least)


@pytest.fixture
def gpus(standing: Standing) -> Standing:
    """The standing project, with a model, and a stage that answers which devices its process sees."""
    onnx_models.double(standing.folder / "m.onnx")
    (standing.folder / "sees.py").write_text(STAGE)
    return standing


def devices_of(project, name: str) -> str:
    """What the process that answers sees."""
    answer = httpx.post(f"{project.url}/v2/models/{name}", json={"x": [1.0, 2.0, 3.0]}, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["devices"])


def test_four_halves_pack_on_two_devices_and_the_fifth_waits_and_says_for_what(gpus):
    """Two on each, by what their processes see; the models run on the CPU, since no device is real,
    and `status` says that too.
    """
    names = [f"half{index}" for index in range(5)]
    gpus.declare(
        *HOST,
        *(function(name, "num_gpus: 0.5") for name in names),
        function("plain", "num_gpus: 0", least=0),
    )
    up = gpus.run("up", "--detach", "--num-gpus", "2")

    def ready() -> set[str]:
        functions = httpx.get(f"{gpus.url}/", timeout=30).json()["functions"]
        return {entry["name"] for entry in functions if entry["state"] == "ready"}

    # a process that takes long to start is to Ray as one without resources
    wait_until(lambda: len(ready() & set(names)) == 4)
    (waiting,) = set(names) - ready()
    others = [name for name in names if name != waiting]
    assert up.returncode == 1
    assert Counter(devices_of(gpus, name) for name in others) == {"0": 2, "1": 2}
    assert devices_of(gpus, "plain") == ""

    reason = gpus.state(waiting)["reason"]
    assert reason.startswith("waits for 0.25 CPU and 0.5 GPU a replica; free in the cluster:")
    assert reason.endswith(
        f"and 0 GPU. 2 of 2 GPUs are taken: {', '.join(f'{name} 0.5' for name in others)}."
    )
    assert f"{waiting} waits for 0.25 CPU and 0.5 GPU a replica" in up.stderr
    device = gpus.state(others[0])["device"]
    assert device["device"] == "cpu"
    assert device["fallback"].startswith("there is no NVIDIA driver")
    assert (
        f"{', '.join(others)} run on the CPU though a GPU is declared: there is no NVIDIA driver"
        in gpus.run("status").stdout
    )
    assert (
        "num_gpus: 0.5 was declared and models run on the CPU" in gpus.run("logs", others[0]).stdout
    )

    gpus.run("down", others[0])
    assert devices_of(gpus, waiting) in ("0", "1")


@pytest.mark.full
def test_a_device_that_is_not_there_fails_its_replica_with_the_reason(gpus):
    """Ray was given a GPU, so only the replica can find out; nothing is served on the CPU in its
    place.
    """
    gpus.declare(*HOST, function("asked", "num_gpus: 1, device: cuda"))
    up = gpus.run("up", "--detach", "--num-gpus", "2")
    assert up.returncode == 1
    assert (
        "asked failed: device: cuda cannot run here: there is no NVIDIA driver (libcuda.so.1)."
        in up.stderr
    )
