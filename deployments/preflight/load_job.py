"""What runs in a process of the fork server: prepares a function's models, or loads the function
and measures the load.

The memory that a load takes of a GPU is what the driver counts more than before. A function on CPUs
sees no GPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import os
import site
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from deployments.preflight.load_all import State
from runtime.artifacts.sources import model_files
from runtime.artifacts.tracebacks import notes_of
from runtime.artifacts.version import stage_texts
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import WakefulError
from runtime.execution.function import Function
from runtime.execution.loader import choose_session_plans
from runtime.execution.stages.function_stage import InlineCallees
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import MB
from runtime.onnx.prepared_model import WEIGHTS, entry_file, find_prepared
from runtime.onnx.session import warm_up_runtime
from runtime.settings import Settings
from runtime.system.files import file_state, hold_lock
from runtime.system.memory import Footprint, mapped_bytes, trim_memory

TRACE_AT: Final = 0.97
"""Share of the time limit after which a load that hangs writes a traceback."""


def is_prepared(spec: FunctionSpec, settings: Settings) -> bool:
    """Whether nothing is left to prepare."""
    if not spec.resources.is_cpu_only:
        return True
    session_plan = choose_session_plans(spec, settings).plan
    return all(
        find_prepared(path, session_plan, settings.models) is not None
        for path in model_files(spec, settings)
    )


def prepare_models(spec: FunctionSpec, settings: Settings) -> None:
    """Prepares each model. If that fails, the load uses the original, and its result counts."""
    # imports onnx, a quarter of a second that a load does without
    from runtime.onnx.preparation import prepare_model

    for path in model_files(spec, settings):
        prepare_model(path, choose_session_plans(spec, settings).plan, settings)


def load(spec: FunctionSpec, settings: Settings, timeout_s: float) -> dict[str, Any]:
    """Loads a function and warms it up. Returns what the fork server passes on: ``files`` and the
    fields of ``LoadResult``, or ``error``.
    """
    faulthandler.dump_traceback_later(timeout_s * TRACE_AT, file=sys.stderr)
    known = set(sys.modules)
    began = time.perf_counter()
    for stage in spec.graph:
        if stage.python is not None:
            # whatever a user's module raises; the load reports it
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(stage.python.partition(":")[0])
    imported_s = time.perf_counter() - began
    asyncio.run(asyncio.to_thread(warm_up_runtime))
    try:
        loaded = asyncio.run(_measured(spec, settings))
    except WakefulError as error:
        return {"error": error.message + notes_of(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        **loaded,
        "mapped_bytes": mapped_bytes(
            [file.with_name(WEIGHTS) for file in prepared_files(spec, settings)]
        ),
        "load_s": {"import": imported_s, **loaded["load_s"]},
        "files": files_of(spec, settings, known),
    }


async def _measured(spec: FunctionSpec, settings: Settings) -> dict[str, Any]:
    """What the load added to the process, and its seconds. The functions that it calls do not
    count, since each is loaded by itself; nor do the first event loop, thread and session of a
    process, which have ended: an idle thread would be in the traceback of a load that crashes.
    """
    callees = await InlineCallees.load(
        spec, lambda called, callees: Function.load(called, settings, callees=callees)
    )
    trim_memory()
    before = Footprint.of()
    with measure_device(spec, settings) as taken:
        function = await Function.load(spec, settings, callees=callees)
    trim_memory()
    return {
        "memory_bytes": Footprint.of().since(before).own_bytes,
        "gpu_memory_mb": taken.memory_mb,
        "load_s": function.load_s,
    }


def prepared_files(spec: FunctionSpec, settings: Settings) -> list[Path]:
    """The prepared forms of its models."""
    if not spec.resources.is_cpu_only:
        return []
    session_plan = choose_session_plans(spec, settings).plan
    forms = [
        find_prepared(path, session_plan, settings.models) for path in model_files(spec, settings)
    ]
    return [form.model for form in forms if form is not None and form.model is not None]


def files_of(spec: FunctionSpec, settings: Settings, before: set[str]) -> dict[str, State]:
    """The files that the load depended on, with their state now.

    Args:
        before: names of the modules that were imported before the function was loaded.
    """
    models = model_files(spec, settings)
    paths = [
        *models,
        *prepared_files(spec, settings),
        *(entry_file(path, settings.models) for path in models),
    ]
    paths += [settings.root / text for text in stage_texts(spec) if text]
    installed = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
    packages = (
        *site.getsitepackages(),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    )
    for name in set(sys.modules) - before:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or (file.startswith(installed) and not file.startswith(packages)):
            continue
        if not file.startswith(packages) or "." not in name:
            paths.append(Path(file))
    with contextlib.suppress(OSError, ValueError):  # a value of `with` that is no path at all
        return {os.fspath(path): file_state(path) for path in paths}
    return {}


LOCK: Final = ".gpu-probe"
"""A lock in the models folder that one load with a GPU holds at a time: the driver counts the
memory of a device, not by process.
"""


class DeviceUse:
    """Memory of a device, once it has been measured.

    Mutable state: ``memory_mb``, set when the measured block ends; 0: nothing was measured.
    """

    def __init__(self) -> None:
        self.memory_mb = 0


@contextlib.contextmanager
def measure_device(spec: FunctionSpec, settings: Settings) -> Iterator[DeviceUse]:
    """Measures a load that runs within the block; what other programs take of the device meanwhile
    counts as its own.
    """
    taken = DeviceUse()
    if spec.resources.is_cpu_only:
        # for CUDA alone, which reads it when it starts: this process has its settings
        os.putenv("CUDA_VISIBLE_DEVICES", "")
        yield taken
        return
    with hold_lock(settings.models / LOCK):
        before = gpu_memory.list_devices()
        yield taken
        grown = [
            after.used_bytes - was.used_bytes
            for was, after in zip(before, gpu_memory.list_devices(), strict=False)
        ]
        taken.memory_mb = max(0, max(grown, default=0)) // MB
