"""Preparing a model: its graph optimised once and saved; large weights beside it, packed as the processor wants them, to be mapped.

Measured on MiniLM int8 (one thread, ONNX Runtime 1.31.1): session created in 10.4 ms instead of 40, 2.5 MB of memory of its own instead
of 32 (weights are pages of a file, shared by all processes), runs as fast. Of the 10.4 ms, packing weights is 5: ONNX Runtime packs them to
find out that it has them packed.

Nothing is trusted: the prepared model must give the original's answers on made-up inputs, and load no slower. What fails that is kept as
a decision for the original, so that it is not tried again. A crash half-way leaves no folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime as ort
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from runtime.errors import LoadError
from runtime.onnx.options import SessionPlan, session_options
from runtime.onnx.prepared import (
    EXTERNAL_BYTES,
    FOLDER,
    INDEX,
    MODEL,
    WEIGHTS,
    Entry,
    Prepared,
    entry_file,
    environment,
    find,
    is_whole,
    state,
)
from runtime.onnx.session import Session
from runtime.onnx.trial import RefusedError, choose, cost, refuse_differing, runnable
from runtime.settings import Settings
from runtime.store.exclusive import exclusively
from runtime.store.files import explained, place, sha256_of, sweep, workplace

MADE: Final = "made.json"
"""Names and sizes of the files in a folder, and how to load them: for the next copy of the model."""


def prepare(path: Path, plan: SessionPlan, settings: Settings) -> Prepared:
    """Prepares a model unless it is; safe among processes; blocks for about twenty times its load.

    Raises:
        LoadError: ONNX Runtime refuses the original.
        StoreError: the disk refuses.
    """
    models = settings.models
    known = find(path, plan, models)
    if known is not None:
        return known
    folder = models / FOLDER
    with explained(folder), exclusively(folder):
        known = find(path, plan, models)  # another process was at it
        if known is not None:
            return known
        sweep(folder)
        former = Entry.read(entry_file(path, models))
        entry, is_new = _entry(path, plan, models)
        with workplace(folder) as partial:
            draft = partial / "entry"
            draft.write_text(entry.to_json())
            place(draft, entry_file(path, models))
        if is_new or (former is not None and former.key != entry.key):  # not for each of a thousand copies
            remove_unused(models)
    return entry.prepared(models)


def _entry(path: Path, plan: SessionPlan, models: Path) -> tuple[Entry, bool]:
    """The entry, and whether a folder was made for it."""
    files = [path, *weights_of(path)]
    sources = {str(file.absolute()): known for file in files if (known := state(file)) is not None}  # before they are read
    key = _key(files)
    made = _made(key, models)
    try:
        names, mem_reuse = made or _make(path, plan, key, models)
    except RefusedError as refused:
        return Entry(sources, environment(), "", {}, True, str(refused)), False
    return Entry(sources, environment(), key, names, mem_reuse, ""), made is None


def _made(key: str, models: Path) -> tuple[dict[str, int], bool] | None:
    """What was made of a copy of the model, if it is whole."""
    try:
        names, mem_reuse = json.loads((models / FOLDER / key / MADE).read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    return (names, mem_reuse) if is_whole(key, names, models) else None


def _make(path: Path, plan: SessionPlan, key: str, models: Path) -> tuple[dict[str, int], bool]:
    """Makes the folder; gives sizes by names of its files, and whether to load them with ``mem_reuse``.

    Raises:
        RefusedError: the original is better.
    """
    with workplace(models / FOLDER) as partial:
        folder = partial / "made"
        folder.mkdir()
        original = Session(path, plan)
        feeds = runnable(original)
        _save(path, plan, folder)
        _drop_stray_inputs(folder / MODEL, {spec.name for spec in original.info.inputs})
        forms = [Prepared(folder / MODEL, mem_reuse) for mem_reuse in (True, False)]
        for form in forms:
            refuse_differing(original, Session(path, plan, form), feeds)
        del original
        mem_reuse = choose(*(cost(path, plan, form, feeds[0]) for form in (None, *forms)))
        names = {file.name: file.stat().st_size for file in folder.iterdir()}
        (folder / MADE).write_text(json.dumps([names, mem_reuse]))
        _settle(folder, models / FOLDER / key)
    return names, mem_reuse


def _settle(made: Path, target: Path) -> None:
    """Moves a folder where it belongs, durably: after a power cut it is there whole or not at all."""
    for file in made.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    shutil.rmtree(target, ignore_errors=True)  # one that lost a file, or it would have been taken
    made.replace(target)


def _save(path: Path, plan: SessionPlan, folder: Path) -> None:
    options = session_options(plan)
    options.optimized_model_filepath = str(folder / MODEL)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(EXTERNAL_BYTES))
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    try:
        ort.InferenceSession(str(path), options, providers=plan.for_ort())
    except Exception as error:  # ONNX Runtime's classes have no common base; some graphs cannot be written
        raise RefusedError(f"ONNX Runtime does not save it: {error}") from error


def _drop_stray_inputs(file: Path, wanted: set[str]) -> None:
    """Models of the first years list their weights as inputs too; of those that were folded away, ONNX Runtime leaves the inputs."""
    model = onnx.load(str(file), load_external_data=False)
    known = wanted | {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name in known]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        onnx.save(model, str(file))


def _key(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(environment().encode())
    for file in files:
        try:
            digest.update(f"{os.path.relpath(file, files[0].parent) if file != files[0] else ''} {sha256_of(file)}".encode())
        except OSError as error:
            raise LoadError(f"{files[0]} keeps weights in {file}, which cannot be read: {error.strerror}.") from error
    return digest.hexdigest()[:24]


def weights_of(path: Path) -> list[Path]:
    """The files beside a model that hold its weights.

    Raises:
        LoadError: it is no ONNX model.
    """
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's DecodeError has no typed home
        raise LoadError(f"{path} is no ONNX model: {error}") from error
    names = {ExternalDataInfo(tensor).location for tensor in _tensors(graph) if uses_external_data(tensor)}
    return [path.parent / name for name in sorted(names)]


def _tensors(graph: Any) -> Iterator[Any]:
    """Of a graph and of the graphs in its nodes: branches, loops."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner) if inner.node or inner.initializer else ()


def entries(models: Path) -> dict[Path, Entry]:
    """Every entry by its file."""
    found = {file: Entry.read(file) for file in (models / FOLDER / INDEX).glob("*.json")}
    return {file: entry for file, entry in found.items() if entry is not None}


def remove_unused(models: Path) -> None:
    """Removes entries of models that are gone, and folders that no entry names; the caller holds the folder for itself.

    Who has one mapped keeps it until he closes it.
    """
    used = {INDEX}
    for file, entry in entries(models).items():
        if all(Path(path).exists() for path in entry.sources):
            used.add(entry.key)
        else:
            file.unlink()
    for folder in (models / FOLDER).iterdir():
        if folder.is_dir() and folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)
