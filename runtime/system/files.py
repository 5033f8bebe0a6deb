"""Files that appear whole or not at all, and are what their sha256 says.

The SHA-256 of a file by its path, read once for each state of it: large files are remembered on
disk, by size and time of change.

    <models>/.digests/<hash of the path>.json     [sha256, size in bytes, time of change in ns]

As everywhere here, a file of the same size and time is taken for the same.

One pull at a time in a models folder, among all processes of a machine.

What no path is, and where a path leads.

What a file is that stands where another kind is wanted, by its first bytes and its name: a PyTorch
checkpoint for an ONNX model, Python for a declaration.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from runtime.errors import StoreError
from runtime.system.messages import did_you_mean, quote

PARTIAL = ".partial-"

LOCK_FILE: Final = "models.lock"
"""The file that pins models (``runtime.artifacts.lockfile``), beside that of functions."""


def file_state(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of change in ns, which stand for a file's contents; None where nothing
    is.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


MAX_NAME_BYTES: Final = 255
"""Of a name on disk, as most file systems have it: of each part of a path."""

MAX_PATH_BYTES: Final = 1024
"""Of a path as it is written: macOS takes no longer one, and Linux one of four times that, with the
folder that it starts from.
"""


def path_fault(path: str) -> str:
    """Why nothing can be at a path, in a sentence; empty where something may be. The disk is not
    asked: it answers such a path with an error, and not with "there is nothing".
    """
    if "\0" in path:
        return f"{quote(path)} has a null character in it, which no path has. Write the plain path."
    written = path.encode("utf-8", "surrogatepass")
    longest = max(map(len, written.split(b"/")))
    if longest > MAX_NAME_BYTES:
        return (
            f"{quote(path)} has a part of {longest} bytes, and a name on disk has {MAX_NAME_BYTES}"
            " at most. Write a shorter one."
        )
    if len(written) > MAX_PATH_BYTES:
        return (
            f"{quote(path)} is {len(written)} bytes long, and a path has {MAX_PATH_BYTES} at most."
            " Write a shorter one."
        )
    return ""


def resolve_path(path: Path) -> Path:
    """Where a path leads, links followed; what is not there is as it is written.

    Raises:
        OSError: its links lead in a circle, of which Python says so otherwise in each release.
    """
    try:
        return path.resolve()
    except RuntimeError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


MOST_LISTED: Final = 1000
"""Names of a folder among which a near one is sought."""


def did_you_mean_file(path: Path) -> str:
    """The end of a sentence about a file that is not there: ``, did you mean 'iris.onnx'?`` if its
    folder has a name like it; else a full stop.
    """
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_LISTED)]
    except OSError:  # the folder is not there either, or may not be read
        names = []
    return did_you_mean(path.name, names) or "."


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_wrong_digest(path: Path, wanted: tuple[str, ...], what: str) -> None:
    """Checks a file that was fetched; the wrong one is removed, so that nothing can use it.

    Raises:
        StoreError: its sha256 is none of the wanted; says both.
    """
    found = sha256_of(path)
    if found not in wanted:
        path.unlink()
        raise StoreError(
            f"{what}: its sha256 is {found} and {' or '.join(wanted)} is wanted. The file was"
            " removed. Fetch it from an index you trust, or, if the new file is right, put its"
            " sha256 in the declaration."
        )


@contextmanager
def make_temporary_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as ``folder``, removed on leaving; files move from it
    with ``put_in_place``.

    One that a killed process left behind starts with ``PARTIAL`` and goes with ``sweep_leftovers``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as name:
        yield Path(name)


def sweep_leftovers(folder: Path) -> None:
    """Removes the workplaces of killed processes; the caller holds the folder for itself."""
    for left in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)


def put_in_place(file: Path, target: Path) -> None:
    """Moves a finished file where it belongs, in one step and durably: after a power cut it is the
    old or the new one, whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    file.replace(target)


def write_whole(path: Path, text: str) -> None:
    """Writes a file of ours: it is the old or the new one, whole.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    with make_temporary_folder(path.parent) as partial:
        (partial / path.name).write_text(text, encoding="utf-8")
        put_in_place(partial / path.name, path)


def write_in_place(path: Path, text: str) -> None:
    """Writes a file of the user's anew: after whatever happens it is the old or the new one, whole.
    A link stays one, and the file's permissions stay.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name}.new")
    draft.write_text(text, encoding="utf-8")
    if target.exists():
        shutil.copymode(target, draft)
    put_in_place(draft, target)


def write_json(data: Any, target: Path) -> None:
    """Puts plain data in place as JSON; in a folder that cannot be written nothing is kept."""
    with contextlib.suppress(OSError):
        write_whole(target, json.dumps(data))


def note_about(path: Path, folder: Path) -> Path:
    """The file that a folder of notes has about another file, by that file's path."""
    return folder / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]}.json"


@contextmanager
def os_error_message(folder: Path) -> Iterator[None]:
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
        raise StoreError(
            f"{error.filename or folder}: {error.strerror or error}. {advice}"
        ) from error


FOLDER: Final = ".digests"

LARGE_BYTES: Final = 1 << 20
"""From this size on a digest is kept on disk: reading a smaller file takes as long as looking that
up (0.6 ms).
"""


def cached_sha256(path: Path, models: Path) -> str:
    """Hex digest of a file as it is now; in the time of one look at it where that was asked before.

    Args:
        models: the folder of models, which keeps the digests of large files; one that cannot be
            written keeps none.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _sha256_as_of(path, status.st_size, status.st_mtime_ns, models)


@functools.lru_cache(maxsize=4096)
def _sha256_as_of(path: Path, size_bytes: int, changed_ns: int, models: Path) -> str:
    """Once a process for each state of a file: a function that wakes again does not wait for it."""
    if size_bytes < LARGE_BYTES:
        return sha256_of(path)
    kept = note_about(path, models / FOLDER)
    try:
        digest, *state = json.loads(kept.read_bytes())
        if state == [size_bytes, changed_ns] and isinstance(digest, str):
            return digest
    except (OSError, ValueError, TypeError):  # none, or a foreign one
        pass
    digest = sha256_of(path)
    write_json([digest, size_bytes, changed_ns], kept)
    return digest


TIMEOUT_S: Final = 1200.0
"""Longer than one wheel takes at most."""


@contextmanager
def hold_lock(folder: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Holds ``folder`` until left; the system lets go of it when the process dies, so no stale lock
    is possible.

    Raises:
        StoreError: another pull holds it for longer than ``timeout_s``.
    """
    from filelock import FileLock, Timeout  # 8 ms that most commands and processes do without

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".pull")
    try:
        lock.acquire(timeout=timeout_s, poll_interval=0.2)
    except Timeout:
        raise StoreError(
            f"another `wakeful models pull` is at work in {folder}; wait for it or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()


# What kind of file it is.

HEAD_BYTES: Final = 512
"""Of a file, that are looked at."""

_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes models"),
    (0, b"\x80\x02", "a pickle, as older PyTorch and joblib write them"),
    (0, b"\x80\x03", "a pickle"),
    (0, b"\x80\x04", "a pickle, as joblib and scikit-learn write models"),
    (0, b"\x80\x05", "a pickle, as joblib and scikit-learn write models"),
    (0, b"GGUF", "a GGUF file of llama.cpp, a language model"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "an ONNX Runtime file (.ort)"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (0, b"\x89PNG\r\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (0, b"<!DOCTYPE", "a page of HTML, perhaps an error of a download"),
    (0, b"<html", "a page of HTML, perhaps an error of a download"),
)

_ZIPS: Final = {
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".bin": "a PyTorch file",
    ".ckpt": "a PyTorch checkpoint",
    ".pt2": "an exported program of PyTorch",
    ".keras": "a Keras model",
    ".npz": "arrays of NumPy",
    ".mar": "an archive of TorchServe",
    ".whl": "a wheel",
}
"""What a zip archive is, by the ending of its name."""

_EXPORTS: Final = {
    "PyTorch": "torch.onnx.export(model, example, 'model.onnx', dynamo=True)",
    "Keras": "model.export('model.onnx', format='onnx')",
    "TensorFlow": "python -m tf2onnx.convert",
    "scikit-learn": "skl2onnx.to_onnx(model, rows[:1])",
    "safetensors": "torch.onnx.export, or `wakeful add hf:ORG/REPO` for a model of a hub",
}
"""How a model of a framework becomes ONNX."""


def kind_of_file(path: Path, head: bytes) -> str:
    """What a file is, with its article; empty where that is not known.

    Args:
        head: its first ``HEAD_BYTES``.
    """
    if not head:
        return "empty"
    if head.startswith(b"PK\x03\x04"):
        return _ZIPS.get(path.suffix.lower(), "a zip archive, as PyTorch and Keras write models")
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    size = int.from_bytes(head[:8], "little")
    if 2 <= size < 1 << 27 and head[8:9] == b"{":
        return "a safetensors file, weights without a graph"
    if path.suffix.lower() in (".py", ".ipynb") and _is_text(head):
        return "Python" if path.suffix.lower() == ".py" else "a notebook"
    return "text" if _is_text(head) else ""


def export_advice(kind: str) -> str:
    """The sentence that says how to make ONNX of it; empty where that is not known."""
    line = next((line for framework, line in _EXPORTS.items() if framework in kind), "")
    return f" Export it: {line}." if line else ""


def _is_text(head: bytes) -> bool:
    """Whether it reads as text; a character that is cut at its end counts."""
    if b"\x00" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 4:
            return False
    return all(byte >= 32 or byte in b"\t\n\r\x0c" for byte in head)
