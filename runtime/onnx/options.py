"""ONNX Runtime's session options and execution providers, decided from what is declared, never from what the host has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnxruntime as ort

from runtime.errors import LoadError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

OPTIMIZATION: Final = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
"""Of a graph as it is written; one that was prepared has been through it."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How a session is created.

    Attributes:
        providers: execution providers in order of preference, ONNX Runtime's names.
        provider_options: one mapping a provider.
        intra_op_num_threads: threads of one run; the workers of a replica run one-thread sessions side by side.
    """

    providers: tuple[str, ...]
    provider_options: tuple[dict[str, str], ...]
    intra_op_num_threads: int = 1


def plan(num_gpus: float, providers: Sequence[str] | None, *, device_id: int = 0) -> SessionPlan:
    """The plan for declared resources: CPU, or CUDA first when a share of a GPU is declared.

    Args:
        num_gpus: declared share of a GPU, or whole GPUs.
        providers: declared execution providers; None takes the default for ``num_gpus``.
        device_id: which of the visible devices to use; Ray numbers a replica's devices from 0.
    """
    names = tuple(providers) if providers is not None else ((CUDA, CPU) if num_gpus > 0 else (CPU,))
    cuda = {
        "device_id": str(device_id),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_use_max_workspace": "0" if num_gpus < 1 else "1",
    }
    return SessionPlan(names, tuple(cuda if name == CUDA else {} for name in names))


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
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def refuse_missing(plan: SessionPlan, running: Sequence[str], path: str) -> None:
    """What is asked must be what runs: ONNX Runtime itself falls back to the CPU with a log line.

    Raises:
        LoadError: the first provider asked for is not the first that runs.
    """
    if plan.providers[0] == running[0]:
        return
    has = ", ".join(ort.get_available_providers())
    raise LoadError(
        f"{path} was to run on {plan.providers[0]} and runs on {running[0]}: its driver or library is missing on this machine "
        f"(the installed onnxruntime was built for {has}). Install it, or declare resources.providers: [{running[0]}]."
    )
