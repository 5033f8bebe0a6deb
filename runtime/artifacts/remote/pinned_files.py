"""Models where they lie, on this machine: what each must be, where it is kept, and how it gets
there.

A stage says ``onnx: s3://BUCKET/PATH``. What the file must be stands beside it (``sha256``,
``weights``), or in the lock (``[files."s3://BUCKET/PATH"]``), which the first pull writes; a lock
that is read with the declaration makes both one. A file lies under the digest of all its contents,
so that two projects, or two versions, never take each other's:

    <models>/.fetched/<sha256 of the model>/model.onnx            without weights beside it
    <models>/.fetched/<hash of all digests>/model.onnx            with them
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal
from urllib.parse import quote

from runtime.artifacts.lockfile import LocatedFile, Lock, PinnedFile, read_lock_if_there
from runtime.artifacts.remote.download import (
    MAX_MODEL_BYTES,
    PartialFile,
    download,
    remove_stale_parts,
    retry_wait_s,
)
from runtime.artifacts.remote.mlflow import find_artifact
from runtime.artifacts.remote.objects import Interrupted, RemoteObject
from runtime.artifacts.remote.stores import StoreObject
from runtime.artifacts.remote.web import WebObject
from runtime.declaration.function_spec import AnySpec, DeclaredSpec
from runtime.declaration.stage_spec import StageSpec
from runtime.errors import LoadError, StoreError
from runtime.onnx.model_file import read_weight_names
from runtime.settings import MlflowServer, password_file
from runtime.system.files import hold_lock, os_error_message, put_in_place, sha256_of
from runtime.system.model_locations import (
    STORES,
    Location,
    MlflowLocation,
    ObjectLocation,
    is_location,
    parse_location,
)

Say = Callable[[Literal["fetching", "note"], str], object]
"""Told which file is fetched, and remarks about it."""

FETCHED: Final = ".fetched"
"""Folder of fetched models, in the models folder."""


@dataclass(frozen=True, slots=True)
class WantedFile:
    """What a model must be.

    Attributes:
        sha256: of its file; None: whatever is there is pinned.
        weights: sha256 by name of the files beside it; None: whatever is there is pinned.
    """

    sha256: str | None = None
    weights: Mapping[str, str] | None = None


def wanted_file(
    sha256: str | None, weights: Mapping[str, str], pinned: LocatedFile | None
) -> WantedFile:
    """What a model must be: what the stage says, and what it does not say the lock.

    Args:
        sha256, weights: as the stage has them.
        pinned: as the lock has it; None: it does not. Another file than the stage's says nothing of
            that one's weights.
    """
    if pinned is not None and sha256 in (None, pinned.sha256):
        known = {name: file.sha256 for name, file in pinned.weights.items()}
        return WantedFile(pinned.sha256, dict(weights) or known)
    return WantedFile(sha256, dict(weights) or None)


def pin_stages(spec: AnySpec, lock_path: Path) -> AnySpec:
    """The function with what the lock says of the models that its stages take from where they lie.

    Args:
        lock_path: read only if there is such a stage, since most files have none.

    Raises:
        StoreError: the lock is wrong.
    """
    if not any(is_location(stage.onnx or "") for stage in spec.graph):
        return spec
    lock = read_lock_if_there(lock_path)
    return spec.model_copy(update={"graph": tuple(_pinned(stage, lock) for stage in spec.graph)})


def located_files(spec: DeclaredSpec, models: Path, lock_path: Path) -> list[Path]:
    """What a function with models at addresses depends on: the lock, and each model's file in the
    place where a pull puts it, whether it is there or not. None for another function.
    """
    if not any(is_location(stage.onnx or "") for stage in spec.graph):
        return []
    with contextlib.suppress(StoreError):  # the load reports it
        spec = pin_stages(spec, lock_path)
    found = [
        fetched_folder(models, stage.sha256, stage.weights) / PurePosixPath(location.path).name
        for stage in spec.graph
        if stage.sha256 is not None and (location := parse_location(stage.onnx or "")) is not None
    ]
    return [lock_path, *found]


def _pinned(stage: StageSpec, lock: Lock) -> StageSpec:
    if stage.onnx not in lock.files:
        return stage
    wanted = wanted_file(stage.sha256, stage.weights, lock.files[stage.onnx])
    return stage.model_copy(update={"sha256": wanted.sha256, "weights": dict(wanted.weights or {})})


def fetched_folder(models: Path, sha256: str, weights: Mapping[str, str]) -> Path:
    """Where a model of these contents lies."""
    if not weights:
        return models / FETCHED / sha256
    parts = [sha256, *(f"{name} {digest}" for name, digest in sorted(weights.items()))]
    return models / FETCHED / hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fetch_located(
    source: str,
    wanted: WantedFile,
    models: Path,
    say: Say,
    *,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[LocatedFile, tuple[Path, ...], bool]:
    """A model and its weights, fetched unless they are there.

    Args:
        source: as declared.
        say: told what happens.

    Returns:
        What they are, for the lock; their files, the model first; whether they were fetched now.

    Raises:
        StoreError: they cannot be fetched, or are not what they must be.
    """
    location = parse_location(source)
    assert location is not None
    if (known := _find(location, wanted, models)) is not None:
        return (*known, False)
    if wanted.sha256 is None and source.startswith("http://"):
        raise StoreError(
            f"{source}: what comes over http may be anything. Write `sha256:` beside it, or take"
            " https."
        )
    with os_error_message(models), hold_lock(models):
        if (known := _find(location, wanted, models)) is not None:  # another has fetched it
            return (*known, False)
        remove_stale_parts(models / FETCHED, time.time())
        return (*_fetch(location, wanted, models, say, sleep), True)


def _fetch(
    location: Location,
    wanted: WantedFile,
    models: Path,
    say: Say,
    sleep: Callable[[float], object],
) -> tuple[LocatedFile, tuple[Path, ...]]:
    path = PurePosixPath(location.path)
    part, sha256 = _fetch_one(location, path, wanted.sha256, models, say, sleep)
    digests: dict[str, str] = {}
    parts: dict[str, PartialFile] = {}
    for name in _weight_names(part, location):
        if wanted.weights is not None and name not in wanted.weights:
            raise StoreError(
                f"{location}: it has weights in {name}, of which nothing is pinned. Delete"
                " `weights`, or its lines in the lock, and pull again."
            )
        known = None if wanted.weights is None else wanted.weights[name]
        beside = path.parent / name
        parts[name], digests[name] = _fetch_one(location, beside, known, models, say, sleep)
    if digests and str(location).startswith("http://") and wanted.weights is None:
        raise StoreError(
            f"{location}: what comes over http may be anything. Write `weights:` beside it, with"
            f" the sha256 of {', '.join(digests)}, or take https."
        )
    if unknown := [name for name in wanted.weights or {} if name not in digests]:
        raise StoreError(
            f"{location}: it has no weights in {', '.join(unknown)}. Delete that of `weights`, or"
            " of its lines in the lock."
        )
    folder = fetched_folder(models, sha256, digests)
    files = [folder / path.name]
    for name, one in parts.items():
        put_in_place(one.path, folder / name)
        one.remove()
        files.append(folder / name)
    put_in_place(part.path, files[0])  # last: where it is, all is
    part.remove()
    return _describe(sha256, tuple(files), digests), tuple(files)


def _fetch_one(
    location: Location,
    path: PurePosixPath,
    sha256: str | None,
    models: Path,
    say: Say,
    sleep: Callable[[float], object],
) -> tuple[PartialFile, str]:
    """A file of that place, whole and right, not in its place yet; and its sha256."""
    is_model = path == PurePosixPath(location.path)
    here = _at(location, path.as_posix())
    name, part = str(here), PartialFile(models / FETCHED, str(here))
    say("fetching", path.name)
    download(
        _open(here, sleep),
        part,
        name,
        limit=MAX_MODEL_BYTES if is_model else None,
        say=lambda remark: say("note", remark),
        sleep=sleep,
    )
    found = sha256_of(part.path)
    if sha256 not in (None, found):
        part.remove()
        raise StoreError(
            f"{name}: its sha256 is {found} and {sha256} is wanted. It was not kept. If the new"
            " file is right, write its sha256 in the declaration, or delete its lines in the lock"
            " and pull again."
        )
    return part, found


def _at(location: Location, path: str) -> Location:
    if isinstance(location, ObjectLocation):
        return ObjectLocation(location.scheme, location.host, path)
    return MlflowLocation(location.model, location.version, location.run, path)


def _open(location: Location, sleep: Callable[[float], object]) -> RemoteObject:
    name = str(location)
    if isinstance(location, MlflowLocation):
        found = _ask_mlflow(location, sleep)
        if isinstance(found, WebObject):
            return found
        location = found
    if location.scheme in STORES:
        return StoreObject(location, name)
    url = f"{location.scheme}://{location.host}/{quote(location.path, safe=_KEPT)}"
    return WebObject(url, name, netrc=password_file())


_KEPT: Final = "/%@!$&'()*+,;=~"
"""Characters of a path that are written as they are; ``%`` among them, which an author has written
for another.
"""


def _ask_mlflow(
    location: MlflowLocation, sleep: Callable[[float], object]
) -> ObjectLocation | WebObject:
    failures = 0
    while True:
        try:
            return find_artifact(location, MlflowServer.read())
        except Interrupted as error:
            failures += 1
            wait_s = retry_wait_s(failures, error.after_s)
            if wait_s is None:
                raise StoreError(
                    f"{location}: MLFLOW_TRACKING_URI does not answer: {error.reason}. Check the"
                    " network, or correct it."
                ) from error
            sleep(wait_s)


def _weight_names(model: PartialFile, location: Location) -> list[str]:
    """The files beside a model that hold its weights, as it names them.

    Raises:
        StoreError: it is no ONNX model, or names files elsewhere.
    """
    try:
        names = read_weight_names(model.path)
    except LoadError as error:
        model.remove()
        what = str(error).partition(" is no ONNX model: ")[2]
        raise StoreError(f"{location} is no ONNX model{f': {what}' if what else '.'}") from error
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or "\\" in name or any(p[0] == "." for p in parts):
            raise StoreError(
                f"{location}: it has weights in {name!r}, which is not beside it. Save it with its"
                " weights in its own folder."
            )
    return names


def _find(
    location: Location, wanted: WantedFile, models: Path
) -> tuple[LocatedFile, tuple[Path, ...]] | None:
    """A model that is here already."""
    if wanted.sha256 is None:
        return None
    weights = wanted.weights or {}
    folder = fetched_folder(models, wanted.sha256, weights)
    files = tuple(folder / name for name in (PurePosixPath(location.path).name, *weights))
    if not all(file.is_file() for file in files):
        return None
    return _describe(wanted.sha256, files, weights), files


def _describe(sha256: str, files: tuple[Path, ...], weights: Mapping[str, str]) -> LocatedFile:
    model, *others = files
    return LocatedFile(
        sha256=sha256,
        bytes=model.stat().st_size,
        weights={
            name: PinnedFile(sha256=digest, bytes=file.stat().st_size)
            for (name, digest), file in zip(weights.items(), others, strict=True)
        },
    )
