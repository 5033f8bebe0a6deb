"""What a reload depends on: the files that a version of a project is made of, and when a change of
them starts the next version. They are looked at again and again (``POLL_S``), and not watched by
the system: that works on every disk, network and container, and leaves the process that forks
without threads.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.remote.pinned_files import located_files
from runtime.artifacts.sources import model_files
from runtime.artifacts.version import example_files, stage_files, stage_modules
from runtime.declaration.constrained_types import is_remote
from runtime.declaration.function_spec import DeclaredSpec, hash_of
from runtime.settings import Settings
from runtime.system.files import LOCK_FILE, file_state

POLL_S: Final = 0.05
"""Between two looks: a hundred files take 0.2 ms."""

MOST_NAMES: Final = 2000
"""Names of a folder that are compared; it is looked at only while something is missing."""

PathState = tuple[int, int] | tuple[str, ...] | None
"""Of a file, size and time of change; of a folder, the names of modules and packages in it."""


def source_files(spec: DeclaredSpec, settings: Settings, scanner: ImportScanner) -> frozenset[Path]:
    """The files that a function is made of: modules of the project, models with their files of
    weights, and what ``with:`` and the example name. A model or a file of the example that is not
    there is among them.
    """
    modules = scanner.reach(stage_modules(spec)).values()
    models = {
        settings.root / stage.onnx
        for stage in spec.graph
        if stage.onnx is not None and not is_remote(stage.onnx)
    }
    models.update(model_files(spec, settings))
    models.update(located_files(spec, settings.models, settings.root / LOCK_FILE))
    weights = (
        path for model in models for path in model.parent.glob(f"{glob.escape(model.name)}*")
    )
    return frozenset(
        (
            *(module.file for module in modules if module.file is not None),
            *models,
            *weights,
            *(path for _, path in stage_files(spec, settings.root)),
            *(path for _, path in example_files(spec, settings.root)),
        )
    )


def function_digest(spec: DeclaredSpec, files: Iterable[Path]) -> str:
    """A hash of all that a function is made of: its declaration, and the present state of its
    files. It compares two versions within minutes, so no file is read.
    """
    states = sorted((str(path), file_state(path)) for path in files)
    return hash_of([spec.route_prefix, spec.to_args(), states])


def changed_functions(serving: Mapping[str, str], new: Mapping[str, str]) -> frozenset[str]:
    """The functions of a new version that another one does not serve as they are."""
    return frozenset(name for name, digest in new.items() if serving.get(name) != digest)


def look_at(paths: Iterable[Path]) -> dict[Path, PathState]:
    """The state of each path now."""
    return {path: _state(path) for path in paths}


def _state(path: Path) -> PathState:
    try:
        with os.scandir(path) as entries:
            names = (
                entry.name
                for entry in entries
                if entry.name.endswith(".py")
                or (entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir())
            )
            return tuple(sorted(name for name, _ in zip(names, range(MOST_NAMES), strict=False)))
    except OSError:
        return file_state(path)


def should_start(
    tried: Mapping[Path, PathState],
    before: Mapping[Path, PathState],
    now: Mapping[Path, PathState],
) -> bool:
    """Whether the next version is to be started: something is not as it was tried last, and is as
    it was a look ago, so that no file is read while it is written.

    Args:
        tried: states when the newest version was started, or when it named the path.
        before: a look ago.
        now: states of the paths that matter now.
    """
    return all(state == before.get(path, state) for path, state in now.items()) and any(
        state != tried.get(path, state) for path, state in now.items()
    )
