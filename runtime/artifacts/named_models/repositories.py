"""Models by name on this machine: which files of a hub's repository make a model, where they lie,
and how they get there.

A function says ``model: hf:ORG/REPO@COMMIT``. The lock has the sha256 of each file of that commit
(``[repositories."ORG/REPO@COMMIT"]``), which ``pin`` writes there once; a pull of a fresh clone
fetches the same files to the same place, ``models/hf/ORG/REPO@COMMIT/``, under their own names. A
stamp beside them says that all are there and right.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from runtime.artifacts.hub import HubRepository, fetch_from_hub, look_up
from runtime.artifacts.lockfile import (
    PinnedFile,
    PinnedRepository,
    read_lock,
    read_lock_if_there,
    write_pins,
)
from runtime.artifacts.pull import Event, Listed, Result
from runtime.declaration.constrained_types import MODEL_NAME, TaskName
from runtime.errors import StoreError
from runtime.settings import Settings
from runtime.system.files import (
    cached_sha256,
    hold_lock,
    make_temporary_folder,
    os_error_message,
    put_in_place,
    sha256_of,
)

HUB_FOLDER: Final = "hf"
"""In the folder of models."""

COMMIT_DIGITS: Final = 12
"""Of a commit, in the name of a folder: enough for one repository, and short enough to read."""

ONNX_FILES: Final = ("onnx/model.onnx", "model.onnx")
"""Where exporters put the float32 model, the first found first."""

CONFIGURATION: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "preprocessor_config.json",
)
"""What says how a model is called; each model has some of them."""

EXPORTS: Final[Mapping[TaskName, str]] = {
    "embedding": "feature-extraction",
    "rerank": "text-classification",
    "text-classification": "text-classification",
    "token-classification": "token-classification",
    "image-classification": "image-classification",
}
"""What optimum calls our tasks."""

HUB_TASKS: Final[Mapping[str, TaskName]] = {
    "sentence-similarity": "embedding",
    "feature-extraction": "embedding",
    "text-ranking": "rerank",
    "text-classification": "text-classification",
    "token-classification": "token-classification",
    "image-classification": "image-classification",
}
"""Our tasks by the names that a hub has for them (``pipeline_tag``)."""


def choose_files(found: HubRepository, onnx: str, task: TaskName | None) -> tuple[str, ...]:
    """The files of a repository that are pulled: its configuration, one ONNX file, and its weights
    beside that.

    Args:
        onnx: the path of the ONNX file; empty: one of ``ONNX_FILES``, or the only one there is.
        task: for the advice where there is none.

    Raises:
        StoreError: there is no such file, or none, or several of which none is the obvious one.
    """
    models = [path for path in found.files if path.endswith(".onnx")]
    if onnx and onnx not in models:
        there = f" It has {', '.join(models)}." if models else ""
        raise StoreError(f"{found.repository} has no file {onnx}.{there}")
    chosen = onnx or next((path for path in ONNX_FILES if path in models), "")
    if not chosen and len(models) == 1:
        chosen = models[0]
    if not chosen and models:
        raise StoreError(
            f"{found.repository} has several ONNX files: {', '.join(models)}. Say which:"
            f" `wakeful add {found.repository} --onnx {models[0]}`."
        )
    if not chosen:
        raise StoreError(no_onnx_message(found.repository, task))
    weights = [
        path
        for path in found.files
        if path in (f"{chosen}_data", f"{chosen}.data")
        or re.fullmatch(rf"{re.escape(chosen)}_data_\d+", path)
    ]
    configuration = (find_beside(name, chosen, found.files) for name in CONFIGURATION)
    return (*filter(None, configuration), chosen, *weights)


def find_beside(name: str, onnx: str, paths: Collection[str]) -> str:
    """The path of a file of the configuration: the repository's own, or, where exporters put
    another, that beside the ONNX file; empty where there is neither.
    """
    beside = (PurePosixPath(onnx).parent / name).as_posix()
    return next((path for path in (name, beside) if path in paths), "")


def no_onnx_message(repository: str, task: TaskName | None) -> str:
    """How to make the ONNX file that a repository does not have."""
    name, export = repository.rpartition("/")[2], EXPORTS[task or "embedding"]
    return (
        f"{repository} has no ONNX file. Make one: `pip install 'optimum[onnx]'`, then `optimum-cli"
        f" export onnx --model {repository} --task {export} models/{name}`, and declare"
        f" `model: models/{name}`."
    )


def guess_task(found: HubRepository) -> TaskName | None:
    """The task that the hub has for a repository, or that its files show."""
    if "modules.json" in found.files and found.task != "text-ranking":
        return "embedding"
    return HUB_TASKS.get(found.task)


def repository_folder(models: Path, key: str) -> Path:
    """Where the files of ``ORG/REPO@COMMIT`` lie."""
    repository, _, commit = key.partition("@")
    return models / HUB_FOLDER / f"{repository}@{commit[:COMMIT_DIGITS]}"


def model_folder(name: str, settings: Settings) -> Path:
    """The folder that a function's ``model`` names; whether it is there is not looked at."""
    if MODEL_NAME.fullmatch(name):
        return repository_folder(settings.models, name.removeprefix("hf:"))
    return settings.root / name


def find_onnx(folder: Path, name: str) -> str:
    """The path of the model's file within a folder of the user's: one of ``ONNX_FILES``, or the
    only one.

    Args:
        name: of the model, for messages.

    Raises:
        StoreError: there is none, or none that is the obvious one.
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for pattern in ("*.onnx", "onnx/*.onnx")
        for path in folder.glob(pattern)
        if not path.name.endswith(INT8)
    )
    chosen = next((path for path in ONNX_FILES if path in found), "")
    if chosen or len(found) == 1:
        return chosen or found[0]
    if not found:
        raise StoreError(f"{name}: {folder} has no ONNX file.")
    raise StoreError(
        f"{name}: {folder} has several ONNX files: {', '.join(found)}. Call the one that is meant"
        " model.onnx."
    )


INT8: Final = ".int8.onnx"
"""The end of the name of a model's int8 form, which is made beside it."""


def quantized_file(folder: Path, onnx: str, models: Path, name: str) -> str:
    """The path of a model's int8 form within its folder.

    Args:
        onnx: the float model's path within the folder.
        models: folder of pulled models, where digests are kept.
        name: of the model, for messages.

    Raises:
        StoreError: there is none, or it was made of another model.
    """
    path = onnx.removesuffix(".onnx") + INT8
    if not (folder / path).is_file() or not is_quantized(folder, onnx, models):
        raise StoreError(f"the int8 form of {name} is not there; run `wakeful models pull`.")
    return path


def is_quantized(folder: Path, onnx: str, models: Path) -> bool:
    """Whether the int8 form beside a model was made of that model, as it is made today."""
    try:
        made_of = json.loads(quantization_stamp(folder / onnx).read_text())
    except (OSError, ValueError):
        return False
    return bool(made_of == describe_quantization(folder / onnx, models))


def quantization_stamp(onnx: Path) -> Path:
    """The file that says what a model's int8 form was made of."""
    return onnx.with_name(f".{onnx.name}{INT8}.json")


def describe_quantization(onnx: Path, models: Path) -> dict[str, Any]:
    """Everything that decides what a model's int8 form is."""
    return {"sha256": cached_sha256(onnx, models), "recipe": RECIPE}


RECIPE: Final = 1
"""Counts up when int8 forms are made in another way."""


def pull_named(
    key: str,
    task: TaskName | None,
    lock_path: Path,
    models: Path,
    progress: Callable[[Event], None],
    *,
    found: HubRepository | None = None,
    onnx: str = "",
) -> Result:
    """Fetch the files of a model, unless they are there, and pin them, unless they are pinned.

    Args:
        key: ``ORG/REPO@COMMIT``.
        task: for advice.
        found: what the hub has under that name; None: it is asked if it must be.
        onnx: path of the ONNX file in the repository; empty: the obvious one.

    Raises:
        StoreError: the hub does not have it, or has another commit under its name, it has no ONNX
            file, a file is not the one that is pinned, or the lock pins another ONNX file.
    """
    pinned = read_lock_if_there(lock_path).repositories.get(key)
    if pinned is not None:
        if onnx and onnx not in pinned.files:
            raise StoreError(
                f'{lock_path} has {key} without {onnx}. Delete [repositories."{key}"] there, and'
                " add it again."
            )
        return pull_repository(key, pinned, models, progress)
    began = time.monotonic()
    repository, _, commit = key.partition("@")
    found = found or look_up(repository, commit)
    if found.commit != commit:
        raise StoreError(
            f"hf:{key}: the hub has the commit {found.commit} under that name. Use another hub."
        )
    pinned = pin(found, choose_files(found, onnx, task), models, progress)
    write_pins(lock_path, key, pinned)
    folder = repository_folder(models, key)
    size = sum(file.size_bytes for file in pinned.files.values())
    files = tuple(folder / path for path in pinned.files)
    return Result(key, True, files, size, time.monotonic() - began)


def pin(
    found: HubRepository,
    paths: Collection[str],
    models: Path,
    progress: Callable[[Event], None],
) -> PinnedRepository:
    """Fetch files of a repository to their place, and say what they are. Where the hub says what a
    file's sha256 is, it must be that.

    Raises:
        StoreError: a file cannot be fetched, or is another than the hub says.
    """
    digests = {path: found.files[path].sha256 for path in paths}
    sizes = {path: found.files[path].size_bytes for path in paths}
    key = f"{found.repository}@{found.commit}"
    files = _fetch_all(key, digests, sizes, models, progress)
    return PinnedRepository(licence=found.licence, files=files)


def pull_repository(
    key: str,
    pinned: PinnedRepository,
    models: Path,
    progress: Callable[[Event], None],
) -> Result:
    """Fetch the files of ``ORG/REPO@COMMIT`` to their place, unless they are there.

    Raises:
        StoreError: a file cannot be fetched, or is not the one of the lock.
    """
    began = time.monotonic()
    folder = repository_folder(models, key)
    files = tuple(folder / path for path in pinned.files)
    size = sum(file.size_bytes for file in pinned.files.values())
    if is_pulled(key, pinned, models):
        progress(Event(key, "kept", "nothing to do", size))
        return Result(key, False, files, size, time.monotonic() - began)
    digests = {path: file.sha256 for path, file in pinned.files.items()}
    sizes = {path: file.size_bytes for path, file in pinned.files.items()}
    _fetch_all(key, digests, sizes, models, progress)
    return Result(key, True, files, size, time.monotonic() - began)


def list_repositories(lock_path: Path, models: Path) -> list[Listed]:
    """The repositories of the lock, in its order, and whether they are there.

    Raises:
        StoreError: the lock is wrong.
    """
    return [
        Listed(
            key,
            "present" if is_pulled(key, pinned, models) else "missing",
            "",
            pinned.licence,
            "hub",
            tuple(repository_folder(models, key) / path for path in pinned.files),
            sum(file.size_bytes for file in pinned.files.values()),
        )
        for key, pinned in read_lock(lock_path).repositories.items()
    ]


def is_pulled(key: str, pinned: PinnedRepository, models: Path) -> bool:
    """Whether every file is in its place and was right when it got there."""
    folder = repository_folder(models, key)
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return False
    wanted = {path: file.sha256 for path, file in pinned.files.items()}
    return stamp == wanted and all(
        (folder / path).is_file() and (folder / path).stat().st_size == file.size_bytes
        for path, file in pinned.files.items()
    )


STAMP: Final = ".stamp.json"
"""In a repository's folder: the sha256 of each of its files, written when all are there."""


def _fetch_all(
    key: str,
    digests: Mapping[str, str],
    sizes: Mapping[str, int],
    models: Path,
    progress: Callable[[Event], None],
) -> dict[str, PinnedFile]:
    """Each file fetched, checked against its digest if it has one, and put in place; the stamp
    last, so that a pull that was killed goes on with the next.
    """
    repository, _, commit = key.partition("@")
    folder = repository_folder(models, key)
    found: dict[str, PinnedFile] = {}
    with os_error_message(models), hold_lock(models), make_temporary_folder(models) as partial:
        (folder / STAMP).unlink(missing_ok=True)
        for path, wanted in digests.items():
            began, target = time.monotonic(), folder / path
            digest = sha256_of(target) if wanted and target.is_file() else ""
            if not digest or digest != wanted:
                progress(Event(key, "fetching", path, sizes[path]))
                file = fetch_from_hub(repository, commit, path, partial)
                digest = sha256_of(file)
                if wanted and digest != wanted:
                    raise StoreError(
                        f"hf:{key}/{path}: its sha256 is {digest} and {wanted} is wanted. It was"
                        " not kept. Use a hub you trust."
                    )
                put_in_place(file, target)
                took = time.monotonic() - began
                progress(Event(key, "fetched", path, target.stat().st_size, took))
            found[path] = PinnedFile(sha256=digest, bytes=target.stat().st_size)
        draft = partial / STAMP
        draft.write_text(json.dumps({path: file.sha256 for path, file in found.items()}, indent=2))
        put_in_place(draft, folder / STAMP)
    return found
