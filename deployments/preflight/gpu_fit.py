"""Refuses functions that no GPU of the cluster could ever hold, with the arithmetic. A function
that only has to wait for a GPU is not refused.

A replica's memory is what is declared, or what its load measured; where neither is known, nothing
is refused and the share is its limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from deployments.preflight import LoadResult
from runtime.declaration.function_spec import ResourcesSpec
from runtime.errors import Problem
from runtime.graph.resolve import ResolvedConfig
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import (
    MB,
    AlwaysOnReplicas,
    overcommitted_message,
    share_overflow_message,
)
from runtime.settings import Settings

INHERITED: Final = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Variables of `up` that a load needs to find CUDA, and to see no more devices than `up` may."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The GPUs that Ray will have.

    Attributes:
        count: None where a cluster is joined, since its nodes come and go.
        memory_mb: of the smallest; None where it is not known.
    """

    count: int | None
    memory_mb: int | None

    @classmethod
    def of(cls, settings: Settings, num_gpus: int | None, *, joined: bool) -> Devices:
        """Those of this machine, which Ray counts as the driver does, unless it is given
        ``num_gpus``.
        """
        found = gpu_memory.list_devices()
        smallest = min((device.total_bytes // MB for device in found), default=None)
        count = None if joined else len(found) if num_gpus is None else num_gpus
        return cls(count, settings.gpu_memory_mb or smallest)


@dataclass(frozen=True, slots=True)
class _GpuFunction:
    key: str
    name: str
    resources: ResourcesSpec
    memory_mb: int | None
    min_replicas: int
    is_split_stage: bool

    def problem(self, config: ResolvedConfig, key: str, message: str) -> Problem:
        """A problem at the key of the resources; of a split stage, at its function, which has them
        somewhere within.
        """
        return (
            config.file.problem(self.key, f"{self.name}: {message}")
            if self.is_split_stage
            else config.file.problem(f"{self.key}.{key}", message)
        )


def gpu_problems(
    config: ResolvedConfig, results: Mapping[str, LoadResult], devices: Devices
) -> list[Problem]:
    """Why functions of a file are refused, in its order.

    Args:
        results: of the functions that were loaded once, by name.
    """
    wanted = list(_gpu_functions(config, results))
    problems = [
        problem for function in wanted if (problem := _check_replica(config, function, devices))
    ]
    if devices.count and devices.memory_mb and not problems:
        kept = [
            AlwaysOnReplicas(
                function.name,
                function.min_replicas,
                function.resources.num_gpus,
                function.memory_mb,
            )
            for function in wanted
            if function.min_replicas
        ]
        if message := overcommitted_message(kept, devices.count, devices.memory_mb):
            first = next(
                function.key for function in wanted if function.min_replicas and function.memory_mb
            )
            problems.append(config.file.problem(first, message))
    return problems


def _check_replica(
    config: ResolvedConfig, function: _GpuFunction, devices: Devices
) -> Problem | None:
    """What is wrong with a single replica."""
    if devices.count == 0 and function.resources.device in ("cuda", "tensorrt"):
        from runtime.onnx.providers import (
            PROVIDERS,
            missing_requirement,  # onnxruntime, for this alone
        )

        why = (
            missing_requirement(PROVIDERS[function.resources.device][0])
            or "Ray was told so. Start it with another `--num-gpus`."
        )
        return function.problem(
            config,
            "device",
            f"device: {function.resources.device} and no GPU in this cluster: {why}",
        )
    if function.memory_mb is None or devices.memory_mb is None:
        return None
    message = share_overflow_message(
        function.resources.num_gpus, function.memory_mb, devices.memory_mb
    )
    measured = "" if function.resources.gpu_memory_mb is not None else "as the probe measured: "
    return function.problem(config, "num_gpus", f"{measured}{message}") if message else None


def _gpu_functions(
    config: ResolvedConfig, results: Mapping[str, LoadResult]
) -> Iterator[_GpuFunction]:
    """Every function that needs a GPU, split stages included."""
    for spec in config.functions:
        resources, key = spec.resources, config.key_of(spec.name)
        if resources.num_gpus:
            result = results.get(spec.name)
            memory_mb = resources.gpu_memory_mb or (result.gpu_memory_mb if result else 0) or None
            is_split_stage = spec.name in config.parents
            at = key if is_split_stage else f"{key}.args.resources"
            yield _GpuFunction(
                at, spec.name, resources, memory_mb, spec.autoscaling.min_replicas, is_split_stage
            )


def load_environment() -> dict[str, str]:
    """What the processes that load have in their environment besides a replica's: one device, that
    with the most free memory, unless `up` was given certain ones.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    free = [device.total_bytes - device.used_bytes for device in gpu_memory.list_devices()]
    return {"CUDA_VISIBLE_DEVICES": str(free.index(max(free))), **inherited} if free else inherited
