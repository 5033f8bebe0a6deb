"""Probes that still hold: nothing that the function depends on has changed since it loaded well.

A probe is kept under a hash of what is declared and of what runs it, beside size and time of every file that the load touched: models,
their prepared forms, files given to a stage by ``with``, and the modules outside of the Python installation that it imported; of an
installed package, its ``__init__``. Names do not matter: functions of one declaration share a probe.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final

from runtime.onnx.processor import features
from runtime.probe.result import Probe
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.store.files import place, workplace

FOLDER: Final = ".probes"

KEPT: Final = 20_000
"""Probes on disk, a kilobyte each; the oldest go first."""

DECIDING: Final = ("graph", "resources", "secrets", "batching", "example", "made_of")
"""Sections of a declaration that a load and its warm-up depend on."""

PACKAGES: Final = ("onnxruntime-gpu", "onnxruntime", "numpy", "pydantic")

State = tuple[int, int] | None


class Cache:
    """The probes of a models folder; made anew for each look at all functions, since it remembers what files are like.

    Mutable state: ``_states`` (file to size and time), ``_origins`` (top-level module to where it would be imported from).
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.models / FOLDER
        self._common = json.dumps(
            [str(settings.root), str(settings.models), settings.probe_timeout_s, settings.probe_memory_mb, _versions(), _own_code()]
        )
        self._states: dict[str, State] = {}
        self._origins: dict[str, str] = {}

    def key(self, spec: FunctionSpec) -> str:
        """The same for two functions exactly if one probe can stand for both, as far as declarations tell."""
        args = spec.to_args()
        tops = sorted({stage.python.partition(":")[0].partition(".")[0] for stage in spec.graph if stage.python})
        text = json.dumps([self._common, {key: args.get(key) for key in DECIDING}, [self._origin(top) for top in tops]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def get(self, key: str) -> Probe | None:
        """The probe, if every file is as it was; its name is anyone's."""
        try:
            data = json.loads((self._folder / f"{key}.json").read_bytes())
            probe, files = Probe(**data["probe"]), data["files"]
            if all(self._state(path) == (tuple(known) if known else None) for path, known in files.items()):
                return probe
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or a foreign one
            pass
        return None

    def put(self, key: str, data: Mapping[str, Any], files: Mapping[str, State]) -> None:
        """Keeps a good probe; a folder that cannot be written keeps none, and all are run again."""
        with contextlib.suppress(OSError), workplace(self._folder) as partial:
            draft = partial / "probe"
            draft.write_text(json.dumps({"probe": data, "files": files}))
            place(draft, self._folder / f"{key}.json")

    def trim(self) -> None:
        """Removes the oldest beyond ``KEPT``."""
        with contextlib.suppress(OSError):
            files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
            for file in files[KEPT:]:
                file.unlink(missing_ok=True)

    def _state(self, path: str) -> State:
        if path not in self._states:
            self._states[path] = state(Path(path))
        return self._states[path]

    def _origin(self, top: str) -> str:
        if top not in self._origins:
            found = PathFinder.find_spec(top)
            self._origins[top] = str(found and (found.origin or list(found.submodule_search_locations or ())))
        return self._origins[top]


def state(path: Path) -> State:
    """Size in bytes and time of change in ns of a file or folder; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _versions() -> list[str]:
    found = [sys.version, features()]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return found


@cache
def _own_code() -> str:
    """Of Wakeful itself, whose version says too little while it is being worked on."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(json.dumps([(str(file), state(file)) for file in files]).encode()).hexdigest()
