"""What a load takes of a GPU: what the driver counts more than before. A function on CPUs sees none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from runtime import nvml
from runtime.devices import MB, on_cpu
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.store.exclusive import exclusively

LOCK: Final = ".gpu-probe"
"""Folder, in that of the models, that one probe with a GPU holds at a time: the driver tells what is taken of a device, not by whom."""


class Taken:
    """Memory of a device, once it has been measured.

    Mutable state: ``memory_mb``, set when the measured block ends; 0: nothing was measured.
    """

    def __init__(self) -> None:
        self.memory_mb = 0


@contextlib.contextmanager
def measured(spec: FunctionSpec, settings: Settings) -> Iterator[Taken]:
    """A load runs within; what other programs take of the device meanwhile is counted as its own."""
    taken = Taken()
    if on_cpu(spec.resources):
        os.putenv("CUDA_VISIBLE_DEVICES", "")  # for CUDA alone, which reads it when it starts: this process has its settings
        yield taken
        return
    with exclusively(settings.models / LOCK):
        before = nvml.devices()
        yield taken
        grown = [after.used_bytes - was.used_bytes for was, after in zip(before, nvml.devices(), strict=False)]
        taken.memory_mb = max(0, max(grown, default=0)) // MB
