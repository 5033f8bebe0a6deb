"""Probes and GPUs: which are run, what one sees of them, and what it measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.preflight import load_all_once
from deployments.preflight.load_all import not_yet_loaded
from deployments.preflight.load_job import LOCK, measure_device
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import StoreError
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import DeviceMemory
from runtime.settings import Settings
from runtime.system.files import hold_lock
from tests.problems import expect_values

EYES = """\
import ctypes
import pathlib

getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p


class Eyes:
    def __init__(self, to: str) -> None:
        pathlib.Path(to).write_text(repr(getenv(b"CUDA_VISIBLE_DEVICES")))

    def __call__(self, x: int) -> int:
        return x
"""


def spec(**resources: object) -> FunctionSpec:
    """A function of a model with these resources."""
    return FunctionSpec.from_args("f", "/f", {"onnx": "m.onnx", "resources": resources})


def device(free_mb: int) -> DeviceMemory:
    """One of 16000 MB."""
    return DeviceMemory(16000 << 20, (16000 - free_mb) << 20)


@pytest.mark.parametrize(
    ("resources", "free_mb", "values"),
    [
        ({}, [], []),
        ({"num_gpus": 0.25}, [], ["device", "this machine"]),
        ({"device": "openvino"}, [16000], ["device", "this machine"]),
        ({"num_gpus": 0.25}, [100, 5000], []),
        ({"num_gpus": 0.25}, [100, 3999], ["share", "4000 MB"]),
        ({"num_gpus": 0.25, "gpu_memory_mb": 3000}, [100, 3999], []),
        ({"num_gpus": 2}, [16000, 16000], []),
    ],
)
def test_a_function_for_a_gpu_is_probed_where_its_share_is_free(resources, free_mb, values):
    """Else its own deployment finds out: a load that lacks memory next to others proves nothing."""
    reason = not_yet_loaded(spec(**resources), [device(free) for free in free_mb])
    assert bool(reason) is bool(values)
    expect_values(reason, *values)


@pytest.mark.slow
def test_the_probe_of_a_function_on_cpus_sees_no_gpu(tmp_path: Path, monkeypatch):
    """As its replica does not; CUDA reads the C library's, not Python's."""
    (tmp_path / "eyes_of_a_test.py").write_text(EYES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    stage = {"stage": "s", "python": "eyes_of_a_test:Eyes", "with": {"to": str(tmp_path / "seen")}}
    (probe,) = load_all_once(
        [FunctionSpec.from_args("f", "/f", {"graph": [stage]})],
        Settings(tmp_path, tmp_path / "models"),
    )
    assert not probe.error
    assert (tmp_path / "seen").read_text() == "b''"
    assert probe.gpu_memory_mb == 0


def test_one_load_measures_a_device_at_a_time(tmp_path: Path, monkeypatch):
    """The driver counts the memory of a device, not by process."""
    used = iter([100, 700])
    monkeypatch.setattr(gpu_memory, "list_devices", lambda: [device(16000 - next(used))])
    settings = Settings(tmp_path, tmp_path / "models")
    with measure_device(spec(num_gpus=0.5), settings) as taken, pytest.raises(StoreError):
        hold_lock(settings.models / LOCK, timeout_s=0).__enter__()
    assert taken.memory_mb == 600
    with hold_lock(settings.models / LOCK, timeout_s=0):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_memory.list_devices(), reason="no GPU")
def test_a_probe_measures_what_a_load_takes_of_the_device(tmp_path: Path):
    """A context at least, and no more than the device has."""
    from tests import onnx_models

    onnx_models.perceptron(tmp_path / "m.onnx")
    (probe,) = load_all_once(
        [spec(num_gpus=0.5, device="cuda")], Settings(tmp_path, tmp_path / "models")
    )
    assert not probe.error
    assert 100 < probe.gpu_memory_mb < gpu_memory.list_devices()[0].total_bytes >> 20
