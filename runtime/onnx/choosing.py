"""What the models of a function run on in this process: as declared and as it is here, with a limit for each.

``device: auto`` with a share of a GPU falls back to the CPU and says so; anything else that was asked for and is not to be had is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from runtime.devices import MB, Gpu, arena_mb, divided, on_cpu
from runtime.errors import LoadError
from runtime.onnx.missing import missing
from runtime.onnx.options import CPU_PLAN, SessionPlan, plan
from runtime.spec import ResourcesSpec

COMPILED: Final = ".compiled"
"""In the models folder: what providers compile for a device, TensorRT's engines first of all."""

logger = logging.getLogger("wakeful.model")


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        plan: for a model without a limit of its own.
        limits: plans of models that share a device's memory, by file.
    """

    plan: SessionPlan
    limits: Mapping[Path, SessionPlan] = field(default_factory=dict)

    def plan_for(self, path: Path) -> SessionPlan:
        """How a model is opened."""
        return self.limits.get(path, self.plan)


def choose(resources: ResourcesSpec, gpu: Gpu, files: Sequence[Path], models: Path, *, lacks: Callable[[str], str] = missing) -> Choice:
    """What models run on; for a function on CPUs that is said at once.

    Args:
        gpu: the device this process was given.
        files: of the function's models.
        models: the folder of pulled models.
        lacks: says what a provider lacks on this machine; empty: nothing.

    Raises:
        LoadError: a device was asked for by name and is not to be had, or its share does not hold the models.
    """
    wanted = _plan(resources)
    if on_cpu(resources):
        return Choice(wanted)
    if why := lacks(wanted.providers[0]):
        if wanted.required:
            raise LoadError(f"{_asked(resources)} cannot run here: {why}")
        logger.warning("num_gpus: %g was declared and models run on the CPU: %s", resources.num_gpus, why)
        return Choice(replace(CPU_PLAN, fallback=why))
    cache = _folder(models / COMPILED)
    files = list(dict.fromkeys(files))
    try:
        room = arena_mb(resources.num_gpus, resources.gpu_memory_mb, gpu.memory_bytes and gpu.memory_bytes // MB)
        if room is None or not files or not resources.num_gpus:
            return Choice(_plan(resources, gpu, None, cache))
        shares = divided(room, [weights_mb(file) for file in files])
    except ValueError as error:
        raise LoadError(f"num_gpus: {resources.num_gpus:g} is too small: {error}") from error
    limits = {file: _plan(resources, gpu, share, cache) for file, share in zip(files, shares, strict=True)}
    return Choice(_plan(resources, gpu, room, cache), limits=limits)


def _folder(path: Path) -> Path | None:
    """None where it cannot be made: what is compiled is then compiled at every load."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path


def weights_mb(file: Path) -> int:
    """Of a model and the files beside it that are named after it, as exporters name those of large weights (``model.onnx.data``)."""
    return sum(part.stat().st_size for part in file.parent.iterdir() if part.name.startswith(file.name)) // MB + 1


def _plan(resources: ResourcesSpec, gpu: Gpu | None = None, room: int | None = None, cache: Path | None = None) -> SessionPlan:
    return plan(resources.num_gpus, resources.providers, device=resources.device, gpu=gpu, arena_mb=room, cache=cache)


def _asked(resources: ResourcesSpec) -> str:
    return f"device: {resources.device}" if resources.providers is None else f"providers: {list(resources.providers)}"
