"""How the models of a declared function are opened in this process: what is declared, and the device that the process was given."""

from __future__ import annotations

import contextlib
from pathlib import Path

from runtime.devices import Gpu, on_cpu
from runtime.errors import WakefulError
from runtime.gpus import given
from runtime.onnx.choosing import Choice, choose
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.store.sources import resolve


def chosen(spec: FunctionSpec, settings: Settings, gpu: Gpu | None = None) -> Choice:
    """What its models are opened with; ``Choice.plan_for`` says it of each file.

    Args:
        gpu: the device this process was given; None: the first that it sees.

    Raises:
        LoadError: it asks for a device that is not to be had.
    """
    if on_cpu(spec.resources):
        return choose(spec.resources, Gpu(), (), settings.models)
    return choose(spec.resources, gpu or given(settings), model_files(spec, settings), settings.models)


def model_files(spec: FunctionSpec, settings: Settings) -> list[Path]:
    """The function's models that are there."""
    found = []
    for stage in spec.graph:
        if stage.onnx is not None:
            with contextlib.suppress(WakefulError):  # the load will say so
                found.append(resolve(stage.onnx, stage.sha256, settings.models, settings.root, fetch=False))
    return found
