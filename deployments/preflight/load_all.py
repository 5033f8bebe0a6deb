"""Loads every function of a file once, and keeps the results that succeed until something changes
that the function depends on.

A result is stored under a hash of the declaration and of what runs it, with size and time of every
file that the load touched: models, their prepared forms, files given to a stage by ``with``, and
the modules outside of the Python installation that it imported; of an installed package, its
``__init__``. Names do not matter: functions of one declaration share a result.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from runtime.declaration.function_spec import FunctionSpec, hash_of, version_hash
from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import MB, DeviceMemory, device_share
from runtime.onnx.prepared_model import processor_features
from runtime.settings import Settings
from runtime.system.child_processes import end_by_closing
from runtime.system.files import file_state, write_json
from runtime.system.secrets import Secrets, reference_names

FOLDER: Final = ".probes"

MAX_RESULTS: Final = 20_000
"""Results on disk, a kilobyte each; the oldest are deleted first."""

PACKAGES: Final = ("onnxruntime-gpu", "onnxruntime", "numpy", "pydantic")

State = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One function, loaded once in a process of its own.

    Attributes:
        name: the function's.
        memory_bytes: memory of its own (anonymous) that it adds, loaded and warmed up, to a process
            that has its modules imported: what cannot be taken back while it is loaded. 0: not
            known.
        mapped_bytes: pages of files, its prepared models' weights, that it adds besides: part of a
            process's resident memory, but the system takes them back when memory is short, and
            all processes with the same model share them.
        gpu_memory_mb: what it takes of a GPU, context and warm-up included. 0: not measured, or no
            GPU.
        load_s: seconds by phase of the load; ``import`` is what its modules take the first time.
        error: why it cannot be loaded, in words, with the last lines that it wrote; empty for a
            function that loads.
        skipped: why no load was tried; empty otherwise.
        cached: nothing was run, since a former result still holds.
        took_s: seconds that this load took, its process included.
    """

    name: str
    memory_bytes: int = 0
    mapped_bytes: int = 0
    gpu_memory_mb: int = 0
    load_s: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    skipped: str = ""
    cached: bool = False
    took_s: float = 0.0


ProbeProgress = Callable[[LoadResult], None]
"""Called with each result when it is known; ``cached`` and ``took_s`` say how it went."""

END_S: Final = 5.0
"""The fork server ends its loads and itself in milliseconds, once its input has ended."""

_START: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from deployments.preflight.fork_server import serve; serve()"
)


def load_all_once(
    specs: Sequence[FunctionSpec],
    settings: Settings,
    on_result: ProbeProgress = lambda result: None,
    *,
    environment: Mapping[str, str] | None = None,
) -> list[LoadResult]:
    """Loads every function, as many at once as there are cores, and prepares their models;
    blocking.

    Stages are imported as this process would import them (``sys.path``).

    Args:
        on_result: called with each result when it is known, in no certain order.
        environment: of the processes that load; None: this process's.

    Returns:
        One result a function, in the order of ``specs``. What is wrong with a function is in its
        ``error``; nothing is raised for it.
    """
    cache = Cache(settings)
    devices = () if all(spec.resources.is_cpu_only for spec in specs) else gpu_memory.list_devices()
    found: dict[int, LoadResult] = {}
    groups: dict[str, list[int]] = {}
    known: dict[str, LoadResult | None] = {}

    def add(index: int, result: LoadResult) -> None:
        error = settings.secrets.hide(result.error)
        found[index] = replace(result, name=specs[index].name, error=error)
        on_result(found[index])

    for index, spec in enumerate(specs):
        if why := not_yet_loaded(spec, devices):
            add(index, LoadResult(spec.name, skipped=why))
            continue
        key = cache.key(spec)
        if key not in known:
            known[key] = cache.get(key)
        if (former := known[key]) is not None:
            add(index, replace(former, cached=True, took_s=0.0))
        else:
            groups.setdefault(key, []).append(index)
    with contextlib.closing(_run(groups, specs, settings, environment)) as ran:
        for key, result, files in ran:
            if not result.error:
                cache.put(key, asdict(result), files)
            for index in groups[key]:
                add(index, result)
    if groups:
        cache.trim()
    return [found[index] for index in range(len(specs))]


def not_yet_loaded(spec: FunctionSpec, devices: Sequence[DeviceMemory]) -> str:
    """Why a function is not loaded now; empty for one that is."""
    if spec.resources.is_cpu_only:
        return ""
    if not spec.resources.num_gpus or not devices:
        return "it needs a device that this machine need not have; its own deployment finds out"
    most_free = max(device.total_bytes - device.used_bytes for device in devices)
    wanted_mb = (
        spec.resources.gpu_memory_mb
        or device_share(spec.resources.num_gpus) * devices[0].total_bytes / MB
    )
    if most_free < wanted_mb * MB:
        return (
            f"its share of a GPU, {wanted_mb:.0f} MB, is not free now; its own deployment finds out"
        )
    return ""


def _run(
    groups: Mapping[str, Sequence[int]],
    specs: Sequence[FunctionSpec],
    settings: Settings,
    environment: Mapping[str, str] | None,
) -> Generator[tuple[str, LoadResult, dict[str, Any]]]:
    """A result for each key, and the files it depended on; closing the generator ends the loads
    that still run.
    """
    if not groups:
        return
    keys = list(groups)
    firsts = [specs[groups[key][0]] for key in keys]
    secrets = Secrets(
        **settings.secrets.given(
            reference_names(stage.with_ for spec in firsts for stage in spec.graph)
        )
    )
    command, pipe = [sys.executable, "-c", _START], subprocess.PIPE
    server = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    missing = set(range(len(keys)))
    try:
        server.stdin.write(
            pickle.dumps(sys.path) + pickle.dumps((firsts, replace(settings, secrets=secrets)))
        )
        server.stdin.flush()
        while missing:
            index, data = pickle.load(server.stdout)
            missing.discard(index)
            files = data.pop("files", {})
            yield keys[index], LoadResult(firsts[index].name, **data), files
    except (BrokenPipeError, EOFError, pickle.UnpicklingError):  # the server died
        pass
    finally:
        end_by_closing(server, END_S)
    for index in sorted(missing):
        error = (
            f"the process that probes functions ended with {server.returncode} before this one was "
            "done; what it wrote stands above."
        )
        yield keys[index], LoadResult(firsts[index].name, error=error), {}


class Cache:
    """The results in a models folder. Made for each run over all functions, since it remembers the
    state of files.

    Mutable state: ``_states``, size and time by file.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.models / FOLDER
        self._common = [
            str(settings.root),
            str(settings.models),
            settings.probe_timeout_s,
            settings.probe_memory_mb,
            _versions(),
            _own_code(),
        ]
        self._states: dict[str, State] = {}

    def key(self, spec: FunctionSpec) -> str:
        """The same for two functions exactly if one result holds for both, as far as declarations
        tell: their ``version_hash``, which covers the code and the files that they are made of, and
        how they are warmed up.
        """
        args = spec.to_args()
        return hash_of(
            [*self._common, version_hash(spec), args.get("batching"), args.get("example")]
        )

    def get(self, key: str) -> LoadResult | None:
        """The result, if every file is as it was; its name is that of any function."""
        try:
            data = json.loads((self._folder / f"{key}.json").read_bytes())
            probe, files = LoadResult(**data["probe"]), data["files"]
            if all(
                self._state(path) == (tuple(known) if known else None)
                for path, known in files.items()
            ):
                return probe
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or a foreign one
            pass
        return None

    def put(self, key: str, data: Mapping[str, Any], files: Mapping[str, State]) -> None:
        """Keeps a result. If the folder cannot be written, none is kept and all loads run again."""
        write_json({"probe": data, "files": files}, self._folder / f"{key}.json")

    def trim(self) -> None:
        """Removes the oldest beyond ``MAX_RESULTS``."""
        with contextlib.suppress(OSError):
            files = sorted(
                self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True
            )
            for file in files[MAX_RESULTS:]:
                file.unlink(missing_ok=True)

    def _state(self, path: str) -> State:
        if path not in self._states:
            self._states[path] = file_state(Path(path))
        return self._states[path]


def _versions() -> list[str]:
    found = [sys.version, processor_features()]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return found


@cache
def _own_code() -> str:
    """A hash of Wakeful's own files; its version does not change while it is being worked on."""
    files = sorted((Path(__file__).parents[2] / "runtime").rglob("*.py"))
    return hash_of([(str(file), file_state(file)) for file in files])
