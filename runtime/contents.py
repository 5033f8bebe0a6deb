"""What a function consists of beside its declaration, as short hashes of contents: equal wherever the same files lie.

``wakeful up`` and ``wakeful export`` write them into the declaration (``made_of``), so that other code is another version of a function,
as another graph is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtime.errors import LoadError
from runtime.given import given_files, stage_modules
from runtime.modules import Reading, digest_of
from runtime.onnx.prepared import Entry, entry_file, state
from runtime.planning import model_files
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.specfile import ServeFile
from runtime.store.digests import sha256_as_of

CODE: Final = "code"
"""The modules of its ``python:`` stages, and those of the project that they import in turn."""

MODELS: Final = "models"
"""Its model files, but for those that the declaration pins by ``sha256``."""

WEIGHTS: Final = "weights"
"""What these keep beside themselves."""

FILES: Final = "files"
"""Those that its stages are given by ``with``."""


def written(file: ServeFile, settings: Settings) -> ServeFile:
    """The file, whose functions say what they are made of."""
    reading = Reading()
    return replace(file, functions=tuple(spec.model_copy(update={"made_of": contents(spec, settings, reading)}) for spec in file.functions))


def contents(spec: FunctionSpec, settings: Settings, reading: Reading) -> dict[str, str]:
    """The hashes of all that there is, by kind. What is missing is left out; the check of the function says so."""
    code = {name: source.sha256 for name, source in reading.reach(stage_modules(spec)).items()}
    unpinned = list(_unpinned(spec, settings))
    found = {
        CODE: digest_of(code) if code else "",
        **data(spec, settings),
        WEIGHTS: _digest(((name, weight) for name, model in unpinned for weight in _weights(model, settings.models)), settings),
    }
    return {kind: digest for kind, digest in found.items() if digest}


def data(spec: FunctionSpec, settings: Settings) -> dict[str, str]:
    """Those that take a look at each file and no more, if they have been made before: of models and of files; empty for none."""
    return {MODELS: _digest(_unpinned(spec, settings), settings), FILES: _digest(given_files(spec, settings.root), settings)}


def _unpinned(spec: FunctionSpec, settings: Settings) -> Iterator[tuple[str, Path]]:
    for stage in spec.graph:
        if stage.onnx is not None and stage.sha256 is None:
            yield from ((stage.onnx, file) for file in model_files(spec.model_copy(update={"graph": (stage,)}), settings))


def _weights(model: Path, models: Path) -> list[Path]:
    """As the model's prepared form knows them, or as the model itself says."""
    entry = Entry.read(entry_file(model, models))
    if entry is not None and entry.sources.get(str(model.absolute())) == state(model):
        return [Path(source) for source in entry.sources if source != str(model.absolute())]
    from runtime.onnx.prepare import weights_of  # imports onnx, which serving does without

    try:
        return weights_of(model)
    except LoadError:
        return []


def _digest(files: Iterable[tuple[str, Path]], settings: Settings) -> str:
    found: dict[str, str] = {}
    for name, file in files:
        with contextlib.suppress(OSError):
            found[f"{name} {file.name}"] = sha256_as_of(file, settings.models)
    return digest_of(found) if found else ""
