"""What `up` refuses because no GPU of the cluster could ever hold it, with the arithmetic. What is merely taken now waits instead.

A replica's memory is what is declared, or what its probe measured; where neither is known, nothing is refused and the share is its limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from runtime import nvml
from runtime.devices import MB, Kept, beyond_share, overcommitted
from runtime.errors import Problem
from runtime.probe import Probe
from runtime.settings import Settings
from runtime.spec import ResourcesSpec
from runtime.specfile import ServeFile

INHERITED: Final = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Of `up`'s environment, what a probe needs to find CUDA, and to see no more devices than `up` may."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The GPUs that Ray will have.

    Attributes:
        count: None where a cluster is joined, whose nodes come and go.
        memory_mb: of the smallest; None where nobody says.
    """

    count: int | None
    memory_mb: int | None

    @classmethod
    def of(cls, settings: Settings, num_gpus: int | None, *, joined: bool) -> Devices:
        """Those of this machine, which Ray counts as the driver does, or believes to be ``num_gpus``."""
        found = nvml.devices()
        smallest = min((device.total_bytes // MB for device in found), default=None)
        count = None if joined else len(found) if num_gpus is None else num_gpus
        return cls(count, settings.gpu_memory_mb or smallest)


@dataclass(frozen=True, slots=True)
class _Wanted:
    key: str
    name: str
    resources: ResourcesSpec
    memory_mb: int | None
    min_replicas: int
    is_part: bool

    def problem(self, file: ServeFile, key: str, message: str) -> Problem:
        """At the key of its resources; a part's are somewhere within the function that it was split off from."""
        return file.problem(self.key, f"{self.name}: {message}") if self.is_part else file.problem(f"{self.key}.{key}", message)


def unfit(file: ServeFile, probes: Mapping[str, Probe], devices: Devices) -> list[Problem]:
    """What is to be refused of a file, in its order.

    Args:
        probes: what was found of its functions, by name.
    """
    wanted = list(_wanted(file, probes))
    problems = [problem for one in wanted if (problem := _alone(file, one, devices))]
    if devices.count and devices.memory_mb and not problems:
        kept = [Kept(one.name, one.min_replicas, one.resources.num_gpus, one.memory_mb) for one in wanted if one.min_replicas]
        if said := overcommitted(kept, devices.count, devices.memory_mb):
            first = next(one.key for one in wanted if one.min_replicas and one.memory_mb)
            problems.append(file.problem(first, said))
    return problems


def _alone(file: ServeFile, one: _Wanted, devices: Devices) -> Problem | None:
    """What is wrong with one replica by itself."""
    if devices.count == 0 and one.resources.device in ("cuda", "tensorrt"):
        from runtime.onnx.missing import missing  # onnxruntime, for this alone
        from runtime.onnx.options import PROVIDERS

        why = missing(PROVIDERS[one.resources.device][0]) or "Ray was told so. Start it with another `--num-gpus`."
        return one.problem(file, "device", f"device: {one.resources.device} and no GPU in this cluster: {why}")
    if one.memory_mb is None or devices.memory_mb is None:
        return None
    said = beyond_share(one.resources.num_gpus, one.memory_mb, devices.memory_mb)
    measured = "" if one.resources.gpu_memory_mb is not None else "as the probe measured: "
    return one.problem(file, "num_gpus", f"{measured}{said}") if said else None


def _wanted(file: ServeFile, probes: Mapping[str, Probe]) -> Iterator[_Wanted]:
    """Every function that wants a GPU, those among them that stages were split off as."""
    for spec in file.functions:
        resources, key = spec.resources, file.key_of(spec.name)
        if resources.num_gpus:
            probe = probes.get(spec.name)
            memory_mb = resources.gpu_memory_mb or (probe.gpu_memory_mb if probe else 0) or None
            is_part = file.raw["applications"][file.positions[spec.name]]["name"] != spec.name
            at = key if is_part else f"{key}.args.resources"
            yield _Wanted(at, spec.name, resources, memory_mb, spec.autoscaling.min_replicas, is_part)


def probing() -> dict[str, str]:
    """Environment of the probes beside what every replica has: a single device, the freest, unless `up` was given certain ones."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    free = [device.total_bytes - device.used_bytes for device in nvml.devices()]
    return {"CUDA_VISIBLE_DEVICES": str(free.index(max(free))), **inherited} if free else inherited
