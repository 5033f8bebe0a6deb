"""Prepares a model: optimises its graph once and saves it, with large weights in a file next to it,
packed as the processor wants them, to be mapped.

Measured on MiniLM int8 (one thread, ONNX Runtime 1.31.1): session created in 10.4 ms instead of 40,
2.5 MB of memory of its own instead of 32 (weights are pages of a file, shared by all processes),
runs as fast. Of the 10.4 ms, packing weights is 5: ONNX Runtime packs them to find out that it has
them packed.

Nothing is trusted: the prepared model must give the original's answers on made-up inputs, up to
``TOLERANCE``. A model that fails this is recorded as one to open from the original, so that it is
not tried again. A crash half-way leaves no folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.errors import LoadError
from runtime.onnx.installed_build import onnx_runtime
from runtime.onnx.model_file import weights_of
from runtime.onnx.prepared_model import (
    EXTERNAL_BYTES,
    FOLDER,
    INDEX,
    MODEL,
    WEIGHTS,
    PreparedIndexEntry,
    PreparedModel,
    entry_file,
    environment_key,
    find_prepared,
    is_whole,
)
from runtime.onnx.providers import SessionPlan, session_options
from runtime.onnx.session import Array, Session, dummy_inputs, hold_weights, varied_inputs
from runtime.settings import Settings
from runtime.system.files import (
    file_state,
    hold_lock,
    make_temporary_folder,
    os_error_message,
    put_in_place,
    sha256_of,
    sweep_leftovers,
)

MADE: Final = "made.json"
"""File in a folder with the names and sizes of its files, for the next copy of the model."""


def prepare_model(path: Path, plan: SessionPlan, settings: Settings) -> PreparedModel:
    """Prepare a model unless it is prepared; safe among processes; blocks for ten to forty times
    its load.

    Raises:
        LoadError: ONNX Runtime refuses the original.
        StoreError: the disk refuses.
    """
    models = settings.models
    known = find_prepared(path, plan, models)
    if known is not None:
        return known
    folder = models / FOLDER
    with os_error_message(folder), hold_lock(folder):
        known = find_prepared(path, plan, models)  # another process prepared it
        if known is not None:
            return known
        sweep_leftovers(folder)
        previous = PreparedIndexEntry.read(entry_file(path, models))
        entry, is_new = _make_entry(path, plan, models)
        with make_temporary_folder(folder) as partial:
            draft = partial / "entry"
            draft.write_text(entry.to_json())
            put_in_place(draft, entry_file(path, models))
        # not for each of a thousand copies
        if is_new or (previous is not None and previous.key != entry.key):
            remove_unused(models)
    return entry.to_prepared(models)


def _make_entry(path: Path, plan: SessionPlan, models: Path) -> tuple[PreparedIndexEntry, bool]:
    """The entry, and whether a folder was made for it."""
    files = [path, *weights_of(path)]
    # before they are read
    sources = {
        str(file.absolute()): known for file in files if (known := file_state(file)) is not None
    }
    key = _folder_key(files)
    made = _find_made_files(key, models)
    try:
        names = made or _make_folder(path, plan, key, models)
    except RefusedError as refused:
        return PreparedIndexEntry(sources, environment_key(), "", {}, str(refused)), False
    return PreparedIndexEntry(sources, environment_key(), key, names, ""), made is None


def _find_made_files(key: str, models: Path) -> dict[str, int] | None:
    """Sizes by names of the files that were made of a copy of the model, if all are there."""
    try:
        names: dict[str, int] = json.loads((models / FOLDER / key / MADE).read_bytes())
    except (OSError, ValueError):
        return None
    return names if is_whole(key, names, models) else None


def _make_folder(path: Path, plan: SessionPlan, key: str, models: Path) -> dict[str, int]:
    """Make the folder; returns sizes by names of its files.

    Raises:
        RefusedError: the original is to be used.
    """
    with make_temporary_folder(models / FOLDER) as partial:
        folder = partial / "made"
        folder.mkdir()
        original = Session(path, plan)
        feeds = find_runnable(original)
        _save_optimised(path, plan, folder)
        _drop_stray_inputs(folder / MODEL, {spec.name for spec in original.info.inputs})
        refuse_differing(original, Session(path, plan, PreparedModel(folder / MODEL)), feeds)
        names = {file.name: file.stat().st_size for file in folder.iterdir()}
        (folder / MADE).write_text(json.dumps(names))
        _move_into_place(folder, models / FOLDER / key)
    return names


def _move_into_place(made: Path, target: Path) -> None:
    """Move a folder to its place, durably: after a power cut it is there whole or not at all."""
    for file in made.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    shutil.rmtree(target, ignore_errors=True)  # one that lost a file, or it would have been taken
    made.replace(target)


def _save_optimised(path: Path, plan: SessionPlan, folder: Path) -> None:
    options = session_options(plan)
    options.optimized_model_filepath = str(folder / MODEL)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", WEIGHTS
    )
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", str(EXTERNAL_BYTES)
    )
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    held = hold_weights(path, options)
    try:
        onnx_runtime().InferenceSession(str(path), options, providers=plan.for_ort())
    except Exception as error:
        # ONNX Runtime's classes have no common base; some graphs cannot be written
        raise RefusedError(f"ONNX Runtime does not save it: {error}") from error
    finally:
        del held


def _drop_stray_inputs(file: Path, wanted: set[str]) -> None:
    """Remove inputs of weights that were folded away: old models list their weights as inputs too,
    and ONNX Runtime keeps those inputs.
    """
    import onnx  # the one step that needs it, of models alone that are being prepared

    model = onnx.load(str(file), load_external_data=False)
    known = wanted | {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name in known]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        onnx.save(model, str(file))


def _folder_key(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(environment_key().encode())
    for file in files:
        try:
            digest.update(
                f"{os.path.relpath(file, files[0].parent) if file != files[0] else ''}"
                f" {sha256_of(file)}".encode()
            )
        except OSError as error:
            raise LoadError(
                f"{files[0]} keeps weights in {file}, which cannot be read: {error.strerror}."
            ) from error
    return digest.hexdigest()[:24]


def list_prepared(models: Path) -> dict[Path, PreparedIndexEntry]:
    """Every entry by its file."""
    found = {
        file: PreparedIndexEntry.read(file) for file in (models / FOLDER / INDEX).glob("*.json")
    }
    return {file: entry for file, entry in found.items() if entry is not None}


def remove_unused(models: Path) -> None:
    """Remove entries of models that are gone, and folders that no entry names; the caller holds the
    folder's lock.

    A process that has one mapped keeps it until it closes the session.
    """
    used = {INDEX}
    for file, entry in list_prepared(models).items():
        if all(Path(path).exists() for path in entry.sources):
            used.add(entry.key)
        else:
            file.unlink()
    for folder in (models / FOLDER).iterdir():
        if folder.is_dir() and folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)


Feeds = Mapping[str, Array]

TOLERANCE: Final = 1e-6
"""Relative and absolute. The same kernels run on the same numbers, so the difference is 0; but a
model may leave the order of a sum open.
"""

SIZES: Final = ((8, 64), (8, 16), (2, 224), (1, 16), (1, 1))
"""Rows, and size of other free dimensions, to try a model at: it may run on some of them only."""


class RefusedError(Exception):
    """The original stays in use; the message says why."""


def find_runnable(session: Session) -> list[Feeds]:
    """Made-up inputs that the model runs on, the largest first.

    Raises:
        RefusedError: there are none.
    """
    if found := list(_runnable_inputs(session)):
        return found
    raise RefusedError("it runs on nothing that was made up, so answers cannot be compared")


def refuse_differing(original: Session, form: Session, feeds: Sequence[Feeds]) -> None:
    """Compare interfaces and answers.

    Raises:
        RefusedError: they differ.
    """
    if not form.is_prepared:
        raise RefusedError("ONNX Runtime does not open what it saved")
    if form.info != original.info:
        raise RefusedError("its inputs and outputs are not those of the model")
    for feed in feeds:
        for spec, wanted, found in zip(
            original.info.outputs, original.run(feed), form.run(feed), strict=True
        ):
            if not is_same(wanted, found):
                raise RefusedError(f"its answer differs in {spec.name!r}")


def is_same(wanted: Any, found: Any) -> bool:
    """Whether two outputs are equal, up to ``TOLERANCE``."""
    wanted, found = np.asarray(wanted), np.asarray(found)
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return False
    if wanted.dtype.kind == "f":
        return bool(np.allclose(wanted, found, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(np.array_equal(wanted, found))


def _runnable_inputs(session: Session) -> Iterator[Feeds]:
    tried: set[tuple[tuple[int, ...], ...]] = set()
    for rows, free in SIZES:
        shapes = tuple(
            array.shape for array in dummy_inputs(session.info.inputs, rows, free).values()
        )
        if shapes in tried:  # a model without free dimensions has one size
            continue
        tried.add(shapes)
        for make in (varied_inputs, dummy_inputs):
            feeds = make(session.info.inputs, rows, free)
            if session.can_run(feeds):
                yield feeds
