"""ONNX Runtime's session options and execution providers, decided from what is declared, never from what the host has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnxruntime as ort

from runtime.devices import MB, Gpu

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
COREML = "CoreMLExecutionProvider"
DIRECTML = "DmlExecutionProvider"

PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": (CPU,),
    "cuda": (CUDA, CPU),
    "tensorrt": (TENSORRT, CUDA, CPU),
    "openvino": (OPENVINO, CPU),
    "coreml": (COREML, CPU),
    "directml": (DIRECTML, CPU),
}
"""Execution providers by ``resources.device``, first choice first; each takes the nodes that those before it cannot."""

OPTIMIZATION: Final = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
"""Of a graph as it is written; one that was prepared has been through it."""

Options = tuple[tuple[str, str], ...]
"""Options of one provider, by name: pairs, so that a plan can be a key."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How a session is created; equal plans make equal sessions.

    Attributes:
        providers: execution providers in order of preference, ONNX Runtime's names.
        provider_options: options of each.
        intra_op_num_threads: threads of one run; the workers of a replica run one-thread sessions side by side.
        required: whether it is an error if the first provider is not the one that runs.
        fallback: why it is the CPU though a device was declared; empty where it is as declared.
        keeps_on: ONNX Runtime's name of a device on which an output may stay for the next model; None: outputs come to memory.
    """

    providers: tuple[str, ...]
    provider_options: tuple[Options, ...]
    intra_op_num_threads: int = 1
    required: bool = True
    fallback: str = ""
    keeps_on: tuple[str, int] | None = None

    def for_ort(self) -> list[tuple[str, dict[str, str]]]:
        """The providers as ``InferenceSession`` takes them."""
        return [(name, dict(options)) for name, options in zip(self.providers, self.provider_options, strict=True)]

    @property
    def arena(self) -> str | None:
        """The arena of its runs, as ``memory.enable_memory_arena_shrinkage`` names it; None where a provider has none of that kind."""
        if self.providers[0] in (CUDA, TENSORRT):
            return f"gpu:{dict(self.provider_options[0])['device_id']}"
        return "cpu:0" if self.providers[0] == CPU else None

    @property
    def takes_one_run(self) -> bool:
        """Whether runs must come one after the other: DirectML's provider is not safe to run from two threads at once."""
        return self.providers[0] == DIRECTML


CPU_PLAN: Final = SessionPlan((CPU,), ((),))


def plan(
    num_gpus: float,
    providers: Sequence[str] | None,
    *,
    device: str = "auto",
    gpu: Gpu | None = None,
    arena_mb: int | None = None,
    cache: Path | None = None,
) -> SessionPlan:
    """The plan for declared resources.

    Args:
        num_gpus: declared share of a GPU, or whole GPUs; 0 never touches one.
        providers: declared execution providers; None takes those of ``device``.
        device: as declared; ``auto`` is CUDA with a share of a GPU, else the CPU.
        gpu: the device this process was given; None: the first that it sees.
        arena_mb: what the session may hold of the device; None: nothing is limited.
        cache: folder for what a provider compiles; None: compiled at every load.
    """
    known = device if device != "auto" else "cuda" if num_gpus > 0 else "cpu"
    names = tuple(providers) if providers is not None else PROVIDERS[known]
    if names == (CPU,):
        return CPU_PLAN
    use = Use(num_gpus, gpu or Gpu(), arena_mb, cache)
    options = tuple(tuple(_OPTIONS[name](use).items()) if name in _OPTIONS else () for name in names)
    keeps_on = ("cuda", use.gpu.index) if names[0] in (CUDA, TENSORRT) else None
    return SessionPlan(names, options, required=providers is not None or device != "auto", keeps_on=keeps_on)


@dataclass(frozen=True, slots=True)
class Use:
    """What options of a provider are made from."""

    num_gpus: float
    gpu: Gpu
    arena_mb: int | None
    cache: Path | None


def _cuda(use: Use) -> dict[str, str]:
    limit = {} if use.arena_mb is None else {"gpu_mem_limit": str(use.arena_mb * MB)}
    return {
        "device_id": str(use.gpu.index),
        **limit,
        # The arena grows by what is asked, not to the next power of two, which of a share would be half unused.
        "arena_extend_strategy": "kSameAsRequested",
        # ONNX Runtime's default times every algorithm for each new shape: seconds of a first call, and other answers in other batches.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The largest workspaces are gigabytes that a share does not have.
        "cudnn_conv_use_max_workspace": "0" if use.num_gpus < 1 else "1",
        # 10 bits of mantissa would move an answer by 1e-3 with the batch it is in; the promise is 1e-4.
        "use_tf32": "0",
    }


def _tensorrt(use: Use) -> dict[str, str]:
    workspace = {} if use.arena_mb is None else {"trt_max_workspace_size": str(use.arena_mb * MB)}
    folder = {} if use.cache is None else {"trt_engine_cache_path": str(use.cache), "trt_timing_cache_path": str(use.cache)}
    kept = "0" if use.cache is None else "1"  # an engine takes minutes to build, and seconds to load
    return {"device_id": str(use.gpu.index), **workspace, "trt_engine_cache_enable": kept, "trt_timing_cache_enable": kept, **folder}


def _openvino(use: Use) -> dict[str, str]:
    folder = {} if use.cache is None else {"cache_dir": str(use.cache)}
    device = f"GPU.{use.gpu.index}" if use.num_gpus > 0 else "CPU"
    return {"device_type": device, "num_of_threads": "1", "precision": "FP32", **folder}  # not the 16 bits that some processors prefer


def _coreml(use: Use) -> dict[str, str]:
    folder = {} if use.cache is None else {"ModelCacheDirectory": str(use.cache)}
    return {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", **folder}


def _directml(use: Use) -> dict[str, str]:
    return {"device_id": str(use.gpu.index)}


_OPTIONS: Final[Mapping[str, Callable[[Use], dict[str, str]]]] = {
    CUDA: _cuda,
    TENSORRT: _tensorrt,
    OPENVINO: _openvino,
    COREML: _coreml,
    DIRECTML: _directml,
}


def workers(num_cpus: float) -> int:
    """One-thread workers that a replica of that many declared CPUs runs."""
    return max(1, math.floor(num_cpus))


def session_options(plan: SessionPlan, *, optimised: bool = False, mem_reuse: bool = True) -> ort.SessionOptions:
    """Options with explicit threads; spinning off, since spinning pools starve the event loop of a small box.

    Args:
        optimised: the graph has been optimised and saved.
        mem_reuse: search for buffers that tensors can share. The search takes longer the larger the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = plan.intra_op_num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL if optimised else OPTIMIZATION
    options.enable_mem_reuse = mem_reuse
    options.enable_mem_pattern = plan.providers[0] != DIRECTML  # which refuses a session that plans memory ahead
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if plan.providers != (CPU,):
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # which nodes fell to the CPU
    options.log_severity_level = 3
    return options
