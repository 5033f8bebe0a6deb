"""``wakeful models pull`` of models by their addresses, and the list of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal

from runtime.artifacts.lockfile import read_lock, read_lock_if_there, write_located_file
from runtime.artifacts.pull import Event, Listed, Result
from runtime.artifacts.remote.pinned_files import fetch_located, fetched_folder, wanted_file
from runtime.declaration.stage_spec import StageSpec
from runtime.system.files import hold_lock
from runtime.system.model_locations import parse_location


def pull_located(
    source: str,
    stage: StageSpec | None,
    lock_path: Path,
    models: Path,
    progress: Callable[[Event], None],
) -> Result:
    """Fetch a model from its address, unless it is there, and pin it in the lock, unless it is
    pinned.

    Args:
        stage: whose model it is, which may say what it must be; None: the lock says it.

    Raises:
        StoreError: as ``fetch_located``, or the lock is wrong.
    """
    began = time.monotonic()
    pinned = read_lock_if_there(lock_path).files.get(source)
    sha256, weights = (stage.sha256, stage.weights) if stage is not None else (None, {})
    found, files, is_new = fetch_located(
        source,
        wanted_file(sha256, weights, pinned),
        models,
        lambda step, remark: progress(Event(source, step, remark)),
    )
    detail = "sha256 checked" if is_new else "nothing to do"
    if found != pinned:
        with hold_lock(models):  # of two pulls at once each adds its line
            write_located_file(lock_path, source, found)
        detail = f"sha256 {found.sha256}, pinned in {lock_path.name}"
    seconds, size = time.monotonic() - began, sum(file.stat().st_size for file in files)
    step: Literal["fetched", "kept"] = "fetched" if is_new else "kept"
    progress(Event(source, step, detail, size, seconds if is_new else 0.0))
    return Result(source, is_new, files, size, seconds)


def list_located(lock_path: Path, models: Path) -> list[Listed]:
    """The models of the lock that lie elsewhere, in its order, and whether they are here.

    Raises:
        StoreError: the lock is wrong.
    """
    listed = []
    for source, pinned in read_lock(lock_path).files.items():
        location = parse_location(source)
        assert location is not None
        digests = {name: file.sha256 for name, file in pinned.weights.items()}
        folder = fetched_folder(models, pinned.sha256, digests)
        files = [folder / name for name in (PurePosixPath(location.path).name, *digests)]
        is_here = all(file.is_file() for file in files)
        size = pinned.size_bytes + sum(file.size_bytes for file in pinned.weights.values())
        state: Literal["present", "missing"] = "present" if is_here else "missing"
        listed.append(Listed(source, state, "", "", "its address", tuple(files), size))
    return listed
