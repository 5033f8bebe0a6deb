"""What a function is made of besides its declaration, as short hashes of contents: its code, its
models, and the files that its stages and its example are given.

``wakeful up`` and ``wakeful export`` write them beside the declaration (``made_of`` of
``DeployedFacts``), so that other code is another version of a function, as another graph is; they
are the same wherever the same files lie. A process that loads the function compares them with what
it finds (``mismatch``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from runtime.artifacts.python_imports import ImportScanner, digest_of, imported
from runtime.artifacts.sources import model_files, resolve_model
from runtime.declaration.function_spec import AnySpec, DeclaredSpec, FunctionSpec, StageSpec
from runtime.errors import LoadError
from runtime.onnx.model_file import weights_of
from runtime.onnx.prepared_model import PreparedIndexEntry, entry_file
from runtime.settings import Settings
from runtime.system.files import cached_sha256, file_state
from runtime.types.example_files import find_files

CODE: Final = "code"
"""The modules of its ``python:`` stages, and those of the project that they import in turn."""

MODELS: Final = "models"
"""Its model files, except those that the declaration pins by ``sha256``."""

WEIGHTS: Final = "weights"
"""Files next to models that hold their weights, of pinned models too: ``sha256`` is of the model's
file alone.
"""

FILES: Final = "files"
"""Files that its stages are given by ``with``, and those of its example."""

FUNCTIONS: Final = "functions"
"""The versions of functions that its stages are given when they are constructed."""

NOUNS: Final = {
    CODE: "code",
    MODELS: "models",
    WEIGHTS: "models",
    FILES: "files",
    FUNCTIONS: "functions that it calls",
}
"""Kinds in words, code first."""


def content_digests(
    spec: FunctionSpec, settings: Settings, scanner: ImportScanner
) -> dict[str, str]:
    """The hashes of a function, by kind. What is missing is left out; the check of the function
    reports it.
    """
    code = {name: source.sha256 for name, source in scanner.reach(stage_modules(spec)).items()}
    weights = (
        (name, file)
        for name, model, _ in _models(spec, settings)
        for file in _weights_of(model, settings.models)
    )
    found = {
        CODE: digest_of(code) if code else "",
        **_data_digests(spec, settings),
        WEIGHTS: _digest_files(weights, settings),
    }
    return {kind: digest for kind, digest in found.items() if digest}


def module_digests(spec: DeclaredSpec, scanner: ImportScanner) -> dict[str, str]:
    """The modules that a function's code consists of, with a short hash of each."""
    modules = scanner.reach(stage_modules(spec))
    return {name: source.sha256[:12] for name, source in modules.items()}


def pin_models(spec: AnySpec, settings: Settings) -> AnySpec:
    """The function with the sha256 of each local model in its declaration, so that a load on any
    machine is of that model or is refused.

    Raises:
        StoreError: a model is not there.
    """

    def sha256_of(stage: StageSpec) -> str:
        return cached_sha256(resolve_model(stage, settings), settings.models)

    graph = tuple(
        stage.model_copy(update={"sha256": sha256_of(stage)})
        if stage.onnx is not None and stage.sha256 is None
        else stage
        for stage in spec.graph
    )
    return spec.model_copy(update={"graph": graph})


def mismatch(spec: FunctionSpec, settings: Settings) -> str:
    """Why what this process loads of a function is not what was deployed; empty when it is. Call it
    before the import; it blocks.

    What differs is loaded all the same: an edit before the next ``wakeful up`` makes no call fail.
    A declaration that ``up`` has not written does not say what the function is made of.
    """
    made_of = spec.deployed.made_of
    if not made_of:
        return ""
    found = {CODE: imported(stage_modules(spec)), **_data_digests(spec, settings)}
    changed = [
        noun
        for kind, noun in NOUNS.items()
        if found.get(kind) and found[kind] != made_of.get(kind, "")
    ]
    if not changed:
        return ""
    verb = "is" if changed == ["code"] else "are"
    return (
        f"its {' and '.join(changed)} {verb} not what `wakeful up` deployed: changed since, or this"
        " machine has another copy. Run it again, or copy them here."
    )


def is_of_code(reason: str) -> bool:
    """Whether a ``mismatch`` is one of code, which only another process can mend."""
    return reason.startswith("its code ")


def stage_modules(spec: DeclaredSpec) -> list[str]:
    """The modules that its ``python:`` stages name."""
    return list(
        dict.fromkeys(
            stage.python.partition(":")[0] for stage in spec.graph if stage.python is not None
        )
    )


def stage_texts(spec: DeclaredSpec) -> Iterator[str]:
    """Every text under ``with``, at any depth."""
    return (text for stage in spec.graph for text in _texts_in(stage.with_))


def stage_files(spec: DeclaredSpec, root: Path) -> Iterator[tuple[str, Path]]:
    """The values of ``with`` that are files, at any depth: as written, and the path."""
    for text in stage_texts(spec):
        # too long for a path, or with a null character
        with contextlib.suppress(OSError, ValueError):
            if (root / text).is_file():
                yield text, root / text


def example_files(spec: DeclaredSpec, root: Path) -> Iterator[tuple[str, Path]]:
    """The files of its example: as written, and the path; there or not."""
    return ((text, root / text) for _, text in find_files(spec.example) if "\0" not in text)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(part)


def _data_digests(spec: DeclaredSpec, settings: Settings) -> dict[str, str]:
    """Of models and of files, empty for none. Files that were hashed before are not read again."""
    given = (*stage_files(spec, settings.root), *example_files(spec, settings.root))
    unpinned = ((name, file) for name, file, sha256 in _models(spec, settings) if sha256 is None)
    return {
        MODELS: _digest_files(unpinned, settings),
        FILES: _digest_files(given, settings),
    }


def _digest_files(files: Iterable[tuple[str, Path]], settings: Settings) -> str:
    found: dict[str, str] = {}
    for name, file in files:
        with contextlib.suppress(OSError):
            found[f"{name} {file.name}"] = cached_sha256(file, settings.models)
    return digest_of(found) if found else ""


def _models(spec: DeclaredSpec, settings: Settings) -> Iterator[tuple[str, Path, str | None]]:
    """Model references, their files, and the ``sha256`` declared."""
    for stage in spec.graph:
        if stage.onnx is not None:
            alone = spec.model_copy(update={"graph": (stage,)})
            yield from ((stage.onnx, file, stage.sha256) for file in model_files(alone, settings))


def _weights_of(model: Path, models: Path) -> list[Path]:
    """The model's files of weights, from its prepared form or from the model itself."""
    entry, own = PreparedIndexEntry.read(entry_file(model, models)), str(model.absolute())
    if entry is not None and entry.sources.get(own) == file_state(model):
        return [Path(source) for source in entry.sources if source != own]
    try:
        return weights_of(model)
    except LoadError:
        return []
