"""What no GPU could ever hold is refused by `up`, with the arithmetic and the line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployments.preflight import LoadResult
from deployments.preflight.gpu_fit import Devices, gpu_problems, load_environment
from runtime.declaration.config_file import read
from runtime.graph.resolve import ResolvedConfig
from runtime.onnx import gpu_memory
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import expect_values, place

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      onnx: m.onnx
      autoscaling: {{min_replicas: {least}, max_replicas: 8}}
      resources: {{{resources}}}
"""

TWO = Devices(2, 16000)


@pytest.fixture
def find_problems(tmp_path):
    """What is refused of functions given as (name, min_replicas, resources)."""

    def refused(
        *functions: tuple[str, int, str],
        devices: Devices = TWO,
        probes: dict[str, LoadResult] | None = None,
    ) -> list[str]:
        text = "".join(
            FUNCTION.format(name=name, least=least, resources=resources)
            for name, least, resources in functions
        )
        (tmp_path / "serve_config.yaml").write_text(f"applications:\n{text}")
        return list(
            gpu_problems(
                ResolvedConfig.split(read(tmp_path / "serve_config.yaml")), probes or {}, devices
            )
        )

    return refused


def test_fractions_that_are_too_many_wait_instead(find_problems):
    """Nine quarters on two devices: their memory is not known, or it fits their shares."""
    assert find_problems(*((f"q{index}", 1, "num_gpus: 0.25") for index in range(9))) == []
    assert (
        find_problems(
            *((f"q{index}", 0, "num_gpus: 0.25, gpu_memory_mb: 4000") for index in range(9))
        )
        == []
    )


def test_always_on_memory_beyond_all_devices_is_refused(find_problems):
    """Once, at the first function that takes part, with the sum."""
    (refused,) = find_problems(
        ("plain", 1, "num_gpus: 0"),
        ("a", 3, "num_gpus: 0.5, gpu_memory_mb: 8000"),
        ("b", 1, "num_gpus: 0.75, gpu_memory_mb: 10000"),
    )
    assert place(refused) == "15: applications[1].args.resources"
    expect_values(
        refused.message,
        "3 x 8000 (a) + 1 x 10000 (b) = 34000 MB",
        "2 devices of 16000 MB",
        "32000",
        "min_replicas: 0",
    )


def test_memory_beyond_its_share_is_refused_even_asleep(find_problems):
    """With the share that would do; as the probe measured, where nothing is declared."""
    declared = find_problems(("a", 0, "num_gpus: 0.25, gpu_memory_mb: 5000"))
    measured = find_problems(
        ("a", 0, "num_gpus: 0.25"), probes={"a": LoadResult("a", gpu_memory_mb=5000)}
    )
    for (problem,) in (declared, measured):
        assert place(problem) == "8: applications[0].args.resources.num_gpus"
        expect_values(problem.message, "0.25", "16000 MB", "4000 MB", "5000 MB", "num_gpus: 0.32")
    assert measured[0].message.endswith(declared[0].message)
    expect_values(measured[0].message.removesuffix(declared[0].message), "probe measured")
    assert (
        find_problems(("a", 0, "num_gpus: 0.25, gpu_memory_mb: 5000"), devices=Devices(None, 16000))
        == declared
    )
    assert (
        find_problems(("a", 0, "num_gpus: 0.25, gpu_memory_mb: 5000"), devices=Devices(2, None))
        == []
    )


@pytest.mark.skipif(bool(gpu_memory.list_devices()), reason="this machine has a GPU")
def test_a_named_device_that_the_cluster_lacks_is_refused(find_problems):
    """With what is missing, before anything starts; `auto` is not."""
    none = Devices(0, None)
    (refused,) = find_problems(
        ("a", 0, "num_gpus: 0.5, device: cuda"), ("b", 0, "num_gpus: 0.5"), devices=none
    )
    assert place(refused) == "8: applications[0].args.resources.device"
    expect_values(refused.message, "device: cuda", "no GPU", "NVIDIA driver")
    assert find_problems(("a", 0, "num_gpus: 0.5, device: cuda"), devices=Devices(None, None)) == []


def test_a_stage_with_a_deployment_of_its_own_counts_as_a_function(tmp_path):
    """It is named, at the function that it was split off from."""
    text = """\
applications:
  - name: ocr
    route_prefix: /v2/models/ocr
    import_path: deployments:function
    args:
      graph:
        - {stage: detect, onnx: d.onnx}
        - {stage: read, onnx: r.onnx, deployment: {num_gpus: 0.25, gpu_memory_mb: 5000}}
"""
    (tmp_path / "f.yaml").write_text(text)
    (problem,) = gpu_problems(ResolvedConfig.split(read(tmp_path / "f.yaml")), {}, TWO)
    assert (problem.line, problem.key) == (2, "applications[0]")
    expect_values(problem.message, "ocr.read: ", "0.25", "16000 MB", "4000 MB", "5000 MB")


def test_the_gpus_of_a_cluster_are_those_of_this_machine_or_a_given_number(tmp_path):
    """Those of a joined cluster are not known yet."""
    settings = Settings(tmp_path, tmp_path, gpu_memory_mb=16000)
    assert Devices.of(settings, None, joined=True) == Devices(None, 16000)
    assert Devices.of(settings, 2, joined=False) == TWO
    assert Devices.of(settings, None, joined=False).count == len(gpu_memory.list_devices())


def test_the_example_of_the_page_is_refused_as_it_says(tmp_path, root, monkeypatch):
    """On two devices of 16,000 MB."""
    text = (root / "docs" / "gpu.md").read_text(encoding="utf-8")
    (declaration,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "serve_config.yaml").write_text(declaration)
    monkeypatch.chdir(tmp_path)
    (problem,) = gpu_problems(ResolvedConfig.split(read(Path("serve_config.yaml"))), {}, TWO)
    assert str(problem) in text


def test_probes_find_cuda_where_up_does(monkeypatch):
    """And see no more devices than it may."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/cuda/lib64")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert load_environment() == {"LD_LIBRARY_PATH": "/opt/cuda/lib64", "CUDA_VISIBLE_DEVICES": "3"}


@pytest.mark.slow
def test_up_refuses_before_anything_starts(project):
    """With the line; nothing is left, nothing was begun."""
    onnx_models.double(project.folder / "m.onnx")
    project.declare(
        FUNCTION.format(name="a", least=5, resources="num_gpus: 0.5, gpu_memory_mb: 8000")
    )
    project.more["WAKEFUL_GPU_MEMORY_MB"] = "16000"
    up = project.run("up", "--detach", "--num-gpus", "2")
    assert up.returncode != 0
    expect_values(
        up.stderr,
        "serve_config.yaml:8: applications[0].args.resources: ",
        "5 x 8000 (a) = 40000 MB",
    )
    assert "starting Ray" not in up.stderr
    assert project.is_clean()
