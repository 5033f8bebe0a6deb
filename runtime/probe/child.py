"""What runs in a fork of the nursery: prepares a function's models, or loads the function and says what that took."""

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
from pathlib import Path
from typing import Any, Final

from runtime.devices import on_cpu
from runtime.errors import WakefulError
from runtime.footprint import Footprint, mapped_of
from runtime.function import Function
from runtime.memory import give_back
from runtime.onnx.first import first_session
from runtime.onnx.prepared import WEIGHTS, entry_file, find
from runtime.planning import chosen, model_files
from runtime.privately import Privately
from runtime.probe.cache import State, state
from runtime.probe.device import measured
from runtime.settings import Settings
from runtime.spec import FunctionSpec

TRACE_AT: Final = 0.97
"""Share of the time limit after which a load that hangs writes where it does."""


def is_prepared(spec: FunctionSpec, settings: Settings) -> bool:
    """Whether nothing is left to prepare."""
    if not on_cpu(spec.resources):
        return True
    session_plan = chosen(spec, settings).plan
    return all(find(path, session_plan, settings.models) is not None for path in model_files(spec, settings))


def prepare_models(spec: FunctionSpec, settings: Settings) -> None:
    """Prepares each model; whatever goes wrong, the original is used, and is what the load judges."""
    from runtime.onnx.prepare import prepare  # imports onnx, a quarter of a second that a load does without

    for path in model_files(spec, settings):
        prepare(path, chosen(spec, settings).plan, settings)


def load(spec: FunctionSpec, settings: Settings, timeout_s: float) -> dict[str, Any]:
    """Loads and warms up; a result as the nursery passes it on: ``files`` and the fields of ``Probe``, or ``error``."""
    faulthandler.dump_traceback_later(timeout_s * TRACE_AT, file=sys.stderr)
    known = set(sys.modules)
    began = time.perf_counter()
    for stage in spec.graph:
        if stage.python is not None:
            with contextlib.suppress(Exception):  # whatever a user's module raises; the load says it in words
                importlib.import_module(stage.python.partition(":")[0])
    imported_s = time.perf_counter() - began
    asyncio.run(asyncio.to_thread(first_session))
    try:
        loaded = asyncio.run(_measured(spec, settings))
    except WakefulError as error:
        return {"error": error.message}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        **loaded,
        "mapped_bytes": mapped_of([file.with_name(WEIGHTS) for file in prepared_files(spec, settings)]),
        "load_s": {"import": imported_s, **loaded["load_s"]},
        "files": files_of(spec, settings, known),
    }


async def _measured(spec: FunctionSpec, settings: Settings) -> dict[str, Any]:
    """What the load added to the process, and its seconds. The functions that it calls are not its own, they have probes of theirs; nor are
    the first event loop, thread and session of a process, which have been and gone: a thread that idles would be told of in the last
    words of a load that crashes."""
    callees = await Privately.load(spec, lambda called: Function.load(called, settings))
    give_back()
    before = Footprint.of()
    with measured(spec, settings) as taken:
        function = await Function.load(spec, settings, callees=callees)
    give_back()
    return {"memory_bytes": Footprint.of().since(before).own_bytes, "gpu_memory_mb": taken.memory_mb, "load_s": function.load_s}


def prepared_files(spec: FunctionSpec, settings: Settings) -> list[Path]:
    """The prepared forms of its models."""
    if not on_cpu(spec.resources):
        return []
    session_plan = chosen(spec, settings).plan
    forms = [find(path, session_plan, settings.models) for path in model_files(spec, settings)]
    return [form.model for form in forms if form is not None and form.model is not None]


def files_of(spec: FunctionSpec, settings: Settings, before: set[str]) -> dict[str, State]:
    """What the load depended on, as it is now.

    Args:
        before: names of the modules that were imported for no function.
    """
    models = model_files(spec, settings)
    paths = [*models, *prepared_files(spec, settings), *(entry_file(path, settings.models) for path in models)]
    paths += [settings.root / value for stage in spec.graph for value in stage.with_.values() if isinstance(value, str) and value]
    installed = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
    packages = (*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    for name in set(sys.modules) - before:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or (file.startswith(installed) and not file.startswith(packages)):
            continue
        if not file.startswith(packages) or "." not in name:
            paths.append(Path(file))
    with contextlib.suppress(OSError, ValueError):  # a value of `with` that is no path at all
        return {os.fspath(path): state(path) for path in paths}
    return {}
