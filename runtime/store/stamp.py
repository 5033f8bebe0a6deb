"""What a model's folder was made from, so that a pull knows in a moment whether anything is left to do."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.store.files import place, sha256_of
from runtime.store.lock import Lock, Model

STAMP = ".stamp.json"


@dataclass(frozen=True, slots=True)
class Output:
    """One file as it was when made; hashed again only if its size or time changed since."""

    sha256: str
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Output:
        status = path.stat()
        return cls(sha256_of(path), status.st_size, status.st_mtime_ns)

    def is_still(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        if (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.modified_ns):
            return True
        return status.st_size == self.size_bytes and sha256_of(path) == self.sha256


def cause(lock: Lock, model: Model) -> dict[str, Any]:
    """All that decides what the files contain."""
    further = {name: {"wheel": sorted(lock.wheels[name].hashes), "members": dict(members)} for name, members in model.also.items()}
    return {
        "wheel": sorted(lock.wheels[model.wheel].hashes),
        "members": dict(model.members),
        **({"also": further} if further else {}),
        "build": model.build,
        "recipe": model.recipe,
        "libraries": {name: _version(name) for name in model.libraries},
    }


def is_current(folder: Path, lock: Lock, model: Model) -> bool:
    """Whether the folder holds what a pull would make now, unchanged."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        outputs = {name: Output(**each) for name, each in stamp["outputs"].items()}
        made_from = stamp["cause"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, cut or foreign: make it anew
        return False
    return made_from == cause(lock, model) and all(name in outputs and outputs[name].is_still(folder / name) for name in model.files)


def write(folder: Path, partial: Path, lock: Lock, model: Model, files: Sequence[str]) -> None:
    """Written last, when every file is in its place."""
    outputs = {name: asdict(Output.of(folder / name)) for name in files}
    draft = partial / STAMP
    draft.write_text(json.dumps({"cause": cause(lock, model), "outputs": outputs}, indent=2) + "\n")
    place(draft, folder / STAMP)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
