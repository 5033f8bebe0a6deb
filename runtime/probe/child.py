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

from runtime.errors import WakefulError
from runtime.footprint import Footprint, mapped_of
from runtime.function import Function
from runtime.memory import give_back
from runtime.onnx.first import first_session
from runtime.onnx.options import plan
from runtime.onnx.prepared import WEIGHTS, entry_file, find
from runtime.probe.cache import State, state
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.store.sources import resolve

TRACE_AT: Final = 0.97
"""Share of the time limit after which a load that hangs writes where it does."""


def model_files(spec: FunctionSpec, settings: Settings) -> list[Path]:
    """The function's models that are there."""
    found = []
    for stage in spec.graph:
        if stage.onnx is not None:
            with contextlib.suppress(WakefulError):  # the load will say so
                found.append(resolve(stage.onnx, stage.sha256, settings.models, settings.root, fetch=False))
    return found


def is_prepared(spec: FunctionSpec, settings: Settings) -> bool:
    """Whether nothing is left to prepare."""
    session_plan = plan(spec.resources.num_gpus, spec.resources.providers)
    return all(find(path, session_plan, settings.models) is not None for path in model_files(spec, settings))


def prepare_models(spec: FunctionSpec, settings: Settings) -> None:
    """Prepares each model; whatever goes wrong, the original is used, and is what the load judges."""
    from runtime.onnx.prepare import prepare  # imports onnx, a quarter of a second that a load does without

    for path in model_files(spec, settings):
        prepare(path, plan(spec.resources.num_gpus, spec.resources.providers), settings)


def load(spec: FunctionSpec, settings: Settings, timeout_s: float) -> dict[str, Any]:
    """Loads and warms up; a result as the nursery passes it on: ``memory_bytes``, ``mapped_bytes``, ``load_s``, ``files``, or ``error``."""
    faulthandler.dump_traceback_later(timeout_s * TRACE_AT, file=sys.stderr)
    known = set(sys.modules)
    began = time.perf_counter()
    for stage in spec.graph:
        if stage.python is not None:
            with contextlib.suppress(Exception):  # whatever a user's module raises; the load says it in words
                importlib.import_module(stage.python.partition(":")[0])
    imported_s = time.perf_counter() - began
    asyncio.run(_take_what_is_no_functions())
    before = Footprint.of()
    try:
        function = asyncio.run(Function.load(spec, settings))
    except WakefulError as error:
        return {"error": error.message}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    give_back()
    added = Footprint.of().since(before)
    return {
        "memory_bytes": added.own_bytes,
        "mapped_bytes": mapped_of([file.with_name(WEIGHTS) for file in prepared_files(spec, settings)]),
        "load_s": {"import": imported_s, **function.load_s},
        "files": files_of(spec, settings, known),
    }


async def _take_what_is_no_functions() -> None:
    """The first event loop, thread and session of a process, so that they are not measured."""
    await asyncio.to_thread(first_session)
    await asyncio.to_thread(give_back)


def prepared_files(spec: FunctionSpec, settings: Settings) -> list[Path]:
    """The prepared forms of its models."""
    session_plan = plan(spec.resources.num_gpus, spec.resources.providers)
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
