"""Files that appear whole or not at all, and are what their sha256 says."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import StoreError

PARTIAL = ".partial-"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_wrong(path: Path, wanted: tuple[str, ...], what: str) -> None:
    """Checks a file that was fetched; the wrong one is removed, so that nothing can use it.

    Raises:
        StoreError: its sha256 is none of the wanted; says both.
    """
    found = sha256_of(path)
    if found not in wanted:
        path.unlink()
        raise StoreError(
            f"{what}: its sha256 is {found} and {' or '.join(wanted)} is wanted. The file was removed. Fetch it from an index you trust, "
            "or, if the new file is right, put its sha256 in the declaration."
        )


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as ``folder``, removed on leaving; files move from it with ``place``.

    One that a killed process left behind starts with ``PARTIAL`` and goes with ``sweep``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as name:
        yield Path(name)


def sweep(folder: Path) -> None:
    """Removes the workplaces of killed processes; the caller holds the folder for itself."""
    for left in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)


def place(file: Path, target: Path) -> None:
    """Moves a finished file where it belongs, in one step and durably: after a power cut it is the old or the new one, whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    file.replace(target)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses into advice.

    Raises:
        StoreError: no space, no permission, a read-only or failing disk.
    """
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "Free some space, or set WAKEFUL_MODELS to a folder on a larger disk.",
            errno.EDQUOT: "Free some space, or set WAKEFUL_MODELS to a folder on a larger disk.",
            errno.EACCES: "Make the folder writable, or set WAKEFUL_MODELS to one that is.",
            errno.EPERM: "Make the folder writable, or set WAKEFUL_MODELS to one that is.",
            errno.EROFS: "Set WAKEFUL_MODELS to a folder that can be written.",
        }.get(error.errno or 0, "Check the disk and the folder's permissions.")
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}. {advice}") from error
