"""What an execution provider lacks on this machine, and what to install: ONNX Runtime itself logs a line and goes on with the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnxruntime as ort

from runtime import nvml
from runtime.onnx.options import COREML, CUDA, DIRECTML, OPENVINO, TENSORRT

DRIVER: Final = "libcuda.so.1"

_LDD_S: Final = 10.0

_NOT_FOUND: Final = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)

_BUILDS: Final[Mapping[str, str]] = {
    CUDA: "Install onnxruntime-gpu instead of it",
    TENSORRT: "Install onnxruntime-gpu instead of it",
    OPENVINO: "Install onnxruntime-openvino instead of it",
    DIRECTML: "Install onnxruntime-directml instead of it, on Windows",
    COREML: "It is in the onnxruntime of macOS",
}

_NO_DRIVER: Final = (
    f"there is no NVIDIA driver ({DRIVER}). Install it on this machine; a container is given the GPU and the driver when it is started "
    "(docker run --gpus all, nvidia.com/gpu in Kubernetes)."
)

_NO_DEVICE: Final = "the NVIDIA driver shows no device. Give this machine or container one (docker run --gpus all), or declare device: cpu."


@functools.cache
def missing(provider: str) -> str:
    """Why a provider cannot run here, and the fix; empty if nothing is known to be missing. Blocks for the time of a look at files."""
    built = ort.get_available_providers()
    if provider not in built:
        fix = _BUILDS.get(provider, "Install a build that has it")
        return f"the installed onnxruntime {ort.__version__} has no {provider}, only {', '.join(built)}. {fix}."
    if provider not in (CUDA, TENSORRT) or sys.platform != "linux":
        return ""
    preload()
    lacking = libraries(provider)
    if DRIVER in lacking:
        return _NO_DRIVER
    if lacking:
        return f"of the libraries that {provider} needs, there is no {', no '.join(lacking)}. {_fix(lacking)}"
    return "" if nvml.devices() else _NO_DEVICE


@functools.cache
def preload() -> None:
    """Opens CUDA's and cuDNN's libraries from where ``pip`` puts them, so that the provider finds them; what is not there is not said,
    ``libraries`` says it."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        ort.preload_dlls()


def libraries(provider: str) -> list[str]:
    """Names of the shared libraries that a provider of NVIDIA's needs and that neither the system nor ``preload`` has.

    The provider itself must not be opened to find out: opened before ONNX Runtime does, it would never find its host.
    """
    name = {CUDA: "cuda", TENSORRT: "tensorrt"}[provider]
    file = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        said = subprocess.run(["ldd", str(file)], capture_output=True, text=True, timeout=_LDD_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):  # no ldd: the session will say it, in ONNX Runtime's words
        said = ""
    names = dict.fromkeys([DRIVER, *_NOT_FOUND.findall(said)])
    return [name for name in names if not _opens(name)]


def _opens(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _fix(lacking: list[str]) -> str:
    if any(name.startswith(("libnvinfer", "libnvonnxparser")) for name in lacking):
        return "Install TensorRT 10 and put its folder into LD_LIBRARY_PATH, or declare device: cuda."
    return f'pip install "onnxruntime-gpu[cuda,cudnn]=={ort.__version__}" brings CUDA and cuDNN without touching the system.'
