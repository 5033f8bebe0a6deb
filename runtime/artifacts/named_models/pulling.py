"""Gets a model by name onto this machine: what the lock pins is fetched, what it does not have is
looked up at the hub, fetched, and pinned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from runtime.artifacts.hub import HubRepository, look_up
from runtime.artifacts.lockfile import Lock, read_lock, write_pins
from runtime.artifacts.named_models.repositories import (
    choose_files,
    pin,
    pull_repository,
    repository_folder,
)
from runtime.artifacts.pull import Event, Result
from runtime.declaration.constrained_types import TaskName
from runtime.errors import StoreError


def read_lock_if_there(path: Path) -> Lock:
    """The lock, empty where there is none.

    Raises:
        StoreError: it is wrong.
    """
    return read_lock(path) if path.exists() else Lock()


def pull_named(
    key: str,
    task: TaskName | None,
    lock_path: Path,
    models: Path,
    progress: Callable[[Event], None],
    *,
    found: HubRepository | None = None,
    onnx: str = "",
    endpoint: str | None = None,
) -> Result:
    """Fetch the files of a model, unless they are there, and pin them, unless they are pinned.

    Args:
        key: ``ORG/REPO@COMMIT``.
        task: for advice.
        found: what the hub has under that name; None: it is asked if it must be.
        onnx: path of the ONNX file in the repository; empty: the obvious one.
        endpoint: address of the hub; None: the client's own.

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
        return pull_repository(key, pinned, models, progress, endpoint=endpoint)
    began = time.monotonic()
    repository, _, commit = key.partition("@")
    found = found or look_up(repository, commit, endpoint=endpoint)
    if found.commit != commit:
        raise StoreError(
            f"hf:{key}: the hub has the commit {found.commit} under that name. Use another hub."
        )
    pinned = pin(found, choose_files(found, onnx, task), models, progress, endpoint=endpoint)
    write_pins(lock_path, key, pinned)
    folder = repository_folder(models, key)
    size = sum(file.size_bytes for file in pinned.files.values())
    files = tuple(folder / path for path in pinned.files)
    return Result(key, True, files, size, time.monotonic() - began)
