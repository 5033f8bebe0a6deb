"""ONNX Runtime's execution providers: what is declared as the options of a session, and what models
run on in this process: the declared device if it is here, with a memory limit for each model.

``device: auto`` with a share of a GPU falls back to the CPU and logs it; anything else that was
declared and is missing is refused. ONNX Runtime itself would log a line and go on with the CPU, so
``missing_requirement`` finds out what an execution provider lacks on this machine, and what to
install.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from runtime.declaration.function_spec import ResourcesSpec, hash_of
from runtime.errors import LoadError
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import MB, GpuDevice, arena_mb, split_memory
from runtime.onnx.installed_build import onnx_runtime
from runtime.onnx.model_file import weights_of
from runtime.system.extras import is_installed, missing_message
from runtime.system.files import file_state

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": (CPU,),
    "cuda": (CUDA, CPU),
    "tensorrt": (TENSORRT, CUDA, CPU),
    "openvino": (OPENVINO, CPU),
}
"""Execution providers by ``resources.device``, first choice first; each takes the nodes that those
before it cannot.
"""

OPTIMIZATION: Final = "ORT_ENABLE_ALL"
"""ONNX Runtime's level for a graph as it is written; a prepared one is optimised already."""

Options = tuple[tuple[str, str], ...]
"""Options of one provider, by name: pairs, so that a plan can be a key."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How a session is created; equal plans make equal sessions.

    Attributes:
        providers: execution providers in order of preference, ONNX Runtime's names.
        provider_options: options of each.
        intra_op_num_threads: threads of one run; the workers of a replica run one-thread sessions
            side by side.
        required: it is an error if the first provider is not the one that runs.
        fallback: why models run on the CPU though a device was declared; empty where they run as
            declared.
    """

    providers: tuple[str, ...]
    provider_options: tuple[Options, ...]
    intra_op_num_threads: int = 1
    required: bool = True
    fallback: str = ""

    def for_ort(self) -> list[tuple[str, dict[str, str]]]:
        """The providers as ``InferenceSession`` takes them."""
        return [
            (name, dict(options))
            for name, options in zip(self.providers, self.provider_options, strict=True)
        ]

    @property
    def arena(self) -> str | None:
        """The arena of its runs, as ``memory.enable_memory_arena_shrinkage`` names it; None where a
        provider has none of that kind.
        """
        if self.providers[0] in (CUDA, TENSORRT):
            return f"gpu:{dict(self.provider_options[0])['device_id']}"
        return "cpu:0" if self.providers[0] == CPU else None


CPU_PLAN: Final = SessionPlan((CPU,), ((),))


def plan_session(
    num_gpus: float,
    providers: Sequence[str] | None,
    *,
    device: str = "auto",
    gpu: GpuDevice | None = None,
    arena_mb: int | None = None,
    cache: Path | None = None,
) -> SessionPlan:
    """The plan for declared resources.

    Args:
        num_gpus: declared share of a GPU, or whole GPUs; 0 never touches one.
        providers: declared execution providers; None takes those of ``device``.
        device: as declared; ``auto`` is CUDA with a share of a GPU, else the CPU.
        gpu: the device that Ray assigned to this process; None: the first visible one.
        arena_mb: what the session may hold of the device; None: nothing is limited.
        cache: folder for what a provider compiles; None: compiled at every load.
    """
    known = device if device != "auto" else "cuda" if num_gpus > 0 else "cpu"
    names = tuple(providers) if providers is not None else PROVIDERS[known]
    if names == (CPU,):
        return CPU_PLAN
    use = ProviderUse(num_gpus, gpu or GpuDevice(), arena_mb, cache)
    options = tuple(
        tuple(_OPTIONS[name](use).items()) if name in _OPTIONS else () for name in names
    )
    return SessionPlan(names, options, required=providers is not None or device != "auto")


@dataclass(frozen=True, slots=True)
class ProviderUse:
    """What the options of a provider are made from."""

    num_gpus: float
    gpu: GpuDevice
    arena_mb: int | None
    cache: Path | None


def _cuda(use: ProviderUse) -> dict[str, str]:
    limit = {} if use.arena_mb is None else {"gpu_mem_limit": str(use.arena_mb * MB)}
    return {
        "device_id": str(use.gpu.index),
        **limit,
        # The arena grows by what is asked, not to the next power of two, which of a share would be
        # half unused.
        "arena_extend_strategy": "kSameAsRequested",
        # ONNX Runtime's default times every algorithm for each new shape: seconds of a first call,
        # and other answers in other batches.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The largest workspaces are gigabytes that a share does not have.
        "cudnn_conv_use_max_workspace": "0" if use.num_gpus < 1 else "1",
        # 10 bits of mantissa would move an answer by 1e-3 with the batch it is in; the promise is
        # 1e-4.
        "use_tf32": "0",
    }


def _tensorrt(use: ProviderUse) -> dict[str, str]:
    workspace = {} if use.arena_mb is None else {"trt_max_workspace_size": str(use.arena_mb * MB)}
    folder = (
        {}
        if use.cache is None
        else {"trt_engine_cache_path": str(use.cache), "trt_timing_cache_path": str(use.cache)}
    )
    # an engine takes minutes to build, and seconds to load
    kept = "0" if use.cache is None else "1"
    return {
        "device_id": str(use.gpu.index),
        **workspace,
        "trt_engine_cache_enable": kept,
        "trt_timing_cache_enable": kept,
        **folder,
    }


def _openvino(use: ProviderUse) -> dict[str, str]:
    folder = {} if use.cache is None else {"cache_dir": str(use.cache)}
    device = f"GPU.{use.gpu.index}" if use.num_gpus > 0 else "CPU"
    # not the 16 bits that some processors prefer
    return {"device_type": device, "num_of_threads": "1", "precision": "FP32", **folder}


_OPTIONS: Final[Mapping[str, Callable[[ProviderUse], dict[str, str]]]] = {
    CUDA: _cuda,
    TENSORRT: _tensorrt,
    OPENVINO: _openvino,
}


def session_options(plan: SessionPlan, *, optimised: bool = False) -> Any:
    """Options with explicit threads; spinning off, since spinning pools starve the event loop of a
    small box.

    Args:
        optimised: the graph has been optimised and saved. Then ONNX Runtime does not search for
            buffers that tensors can share, half of what opening such a graph takes (MiniLM int8
            opens in 10 ms instead of 26). Runs of the shipped models are no slower without it (0.97
            to 1.01 of the time), and take the same memory within 8 %, some more and some less.
    """
    ort = onnx_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = plan.intra_op_num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, "ORT_DISABLE_ALL" if optimised else OPTIMIZATION
    )
    options.enable_mem_reuse = not optimised
    # A plan of all memory ahead is one block for each run, for which the CPU's arena grows by
    # doubling: ten pages for ocr's detector, two at a time, grew a process by 1,135 MB, and by 800
    # without, in the same time (0.98 to 1.02 of it for the shipped models).
    options.enable_mem_pattern = plan.providers[0] != CPU
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if plan.providers != (CPU,):
        # which nodes fell to the CPU
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = 3
    return options


DRIVER: Final = "libcuda.so.1"

_LDD_S: Final = 10.0

_NOT_FOUND: Final = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)

_BUILDS: Final[Mapping[str, str]] = {
    CUDA: "Install onnxruntime-gpu instead of it",
    TENSORRT: "Install onnxruntime-gpu instead of it",
    OPENVINO: "Install onnxruntime-openvino instead of it",
}

_NO_DRIVER: Final = (
    f"there is no NVIDIA driver ({DRIVER}). Install it on this machine; a container is given the"
    " GPU and the driver when it is started (docker run --gpus all, nvidia.com/gpu in Kubernetes)."
)

_NO_DEVICE: Final = (
    "the NVIDIA driver shows no device. Give this machine or container one (docker run --gpus all),"
    " or declare device: cpu."
)


@functools.cache
def missing_requirement(provider: str) -> str:
    """Why a provider cannot run here, and the fix; empty if nothing is known to be missing. Blocks
    while it reads files.
    """
    ort = onnx_runtime()
    built = ort.get_available_providers()
    if provider not in built:
        fix = _BUILDS.get(provider, "Install a build that has it")
        return (
            f"the installed onnxruntime {ort.__version__} has no {provider}, only"
            f" {', '.join(built)}. {fix}."
        )
    if provider not in (CUDA, TENSORRT) or sys.platform != "linux":
        return ""
    preload_libraries()
    lacking = required_libraries(provider)
    if DRIVER in lacking:
        return _NO_DRIVER
    if lacking:
        return (
            f"of the libraries that {provider} needs, there is no {', no '.join(lacking)}."
            f" {_installation_advice(lacking)}"
        )
    if not is_installed("pynvml"):
        return missing_message("pynvml", provider)
    return "" if gpu_memory.list_devices() else _NO_DEVICE


@functools.cache
def preload_libraries() -> None:
    """Open CUDA's and cuDNN's libraries from where ``pip`` puts them, so that the provider finds
    them. Missing ones are not reported here; ``required_libraries`` reports them.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        onnx_runtime().preload_dlls()


def required_libraries(provider: str) -> list[str]:
    """Names of the shared libraries that a provider of NVIDIA's needs and that neither the system
    nor ``preload_libraries`` has.

    The provider itself must not be opened to find out: opened before ONNX Runtime does, it would
    never find its host.
    """
    name = {CUDA: "cuda", TENSORRT: "tensorrt"}[provider]
    file = Path(onnx_runtime().__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        output = subprocess.run(
            ["ldd", str(file)], capture_output=True, text=True, timeout=_LDD_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        # no ldd: the session will say it, in ONNX Runtime's words
        output = ""
    names = dict.fromkeys([DRIVER, *_NOT_FOUND.findall(output)])
    return [name for name in names if not _can_open(name)]


def _can_open(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _installation_advice(lacking: list[str]) -> str:
    if any(name.startswith(("libnvinfer", "libnvonnxparser")) for name in lacking):
        return (
            "Install TensorRT 10 and put its folder into LD_LIBRARY_PATH, or declare device: cuda."
        )
    version = onnx_runtime().__version__
    return (
        f'pip install "onnxruntime-gpu[cuda,cudnn]=={version}" brings CUDA and cuDNN without'
        " touching the system."
    )


COMPILED: Final = ".compiled"
"""In the models folder: what providers compile for a device, in a folder for each model."""

_COMPILING: Final = frozenset({TENSORRT, OPENVINO})
"""Providers that keep what they compile."""

logger = logging.getLogger("wakeful.model")


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """What models run on.

    Attributes:
        plan: for a model without one of its own.
        own_plans: by file, with the model's part of a device's memory, and with the folder of what
            is compiled of it.
    """

    plan: SessionPlan
    own_plans: Mapping[Path, SessionPlan] = field(default_factory=dict)

    def plan_for(self, path: Path) -> SessionPlan:
        """The plan that a model is opened with."""
        return self.own_plans.get(path, self.plan)


def choose_providers(
    resources: ResourcesSpec,
    gpu: GpuDevice,
    files: Sequence[Path],
    models: Path,
    *,
    find_missing: Callable[[str], str] = missing_requirement,
) -> ProviderChoice:
    """Choose what models run on; a function on CPUs needs no look at the machine.

    Args:
        gpu: the device that Ray assigned to this process.
        files: of the function's models.
        models: the folder of pulled models.
        find_missing: tells what a provider lacks on this machine; empty: nothing.

    Raises:
        LoadError: a device was declared by name and is missing, or its share does not hold the
            models.
    """
    wanted = _plan(resources)
    if resources.is_cpu_only:
        return ProviderChoice(wanted)
    if reason := find_missing(wanted.providers[0]):
        if wanted.required:
            raise LoadError(f"{_declared_device(resources)} cannot run here: {reason}")
        logger.warning(
            "num_gpus: %g was declared and models run on the CPU: %s", resources.num_gpus, reason
        )
        return ProviderChoice(replace(CPU_PLAN, fallback=reason))
    files = list(dict.fromkeys(files))
    shares: Sequence[int | None] = [None] * len(files)
    try:
        total = arena_mb(
            resources.num_gpus, resources.gpu_memory_mb, gpu.memory_bytes and gpu.memory_bytes // MB
        )
        if total is not None and files and resources.num_gpus:
            shares = split_memory(total, [weights_mb(file) for file in files])
    except ValueError as error:
        raise LoadError(f"num_gpus: {resources.num_gpus:g} is too small: {error}") from error
    compiles = not _COMPILING.isdisjoint(wanted.providers)
    own_plans = {
        file: _plan(resources, gpu, share, _compiled_folder(file, models) if compiles else None)
        for file, share in zip(files, shares, strict=True)
    }
    return ProviderChoice(_plan(resources, gpu), own_plans)


def _compiled_folder(file: Path, models: Path) -> Path | None:
    """The folder of what is compiled of a model as it is now; None where none can be made: it is
    then compiled at every load.

    TensorRT's engines are named after the model's file and its nodes, not after its weights: in one
    folder, the second of two models of one form would give the answers of the first
    (microsoft/onnxruntime, issue 6455).
    """
    parts = [file]
    with contextlib.suppress(LoadError):  # opening it says what is wrong with it
        parts += weights_of(file)
    states = [(str(part.absolute()), file_state(part)) for part in parts]
    folder = models / COMPILED / hash_of(states)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def weights_mb(file: Path) -> int:
    """Size of a model and of the files that are named after it, as exporters name those of large
    weights (``model.onnx.data``).
    """
    return (
        sum(
            part.stat().st_size for part in file.parent.iterdir() if part.name.startswith(file.name)
        )
        // MB
        + 1
    )


def _plan(
    resources: ResourcesSpec,
    gpu: GpuDevice | None = None,
    arena_limit_mb: int | None = None,
    cache: Path | None = None,
) -> SessionPlan:
    return plan_session(
        resources.num_gpus,
        resources.providers,
        device=resources.device,
        gpu=gpu,
        arena_mb=arena_limit_mb,
        cache=cache,
    )


def _declared_device(resources: ResourcesSpec) -> str:
    return (
        f"device: {resources.device}"
        if resources.providers is None
        else f"providers: {list(resources.providers)}"
    )
