"""Where a model's prepared form lies, found in the time of a few looks at the file system.

    <models>/.prepared/by-path/<hash of the model's path>.json     what was made of the file there (``Entry``)
    <models>/.prepared/<hash of content and environment>/          model.onnx, weights.bin: optimised, weights to be mapped

The folder's name says all that decides what is in it, so copies of a model share one, and it appears whole, by a rename. Loading hashes
nothing: an entry holds as long as size and time of the model's files are those that were hashed. What does not hold is not used, and the
original is; ``prepare`` makes it anew. Rows, answers and names are the original's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import onnxruntime as ort

from runtime.onnx.options import CPU, OPTIMIZATION, SessionPlan
from runtime.onnx.processor import features

FOLDER: Final = ".prepared"
INDEX: Final = "by-path"
MODEL: Final = "model.onnx"
WEIGHTS: Final = "weights.bin"

EXTERNAL_BYTES: Final = 64 * 1024
"""Weights from this size on lie outside of the model file and are mapped; each costs 90 system calls when loading, so small ones do not."""

FORMAT: Final = 1
"""Raised when what ``prepare`` makes changes."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model made ready for this machine.

    Attributes:
        model: the file to open instead of the original; None where the original is to be used.
        mem_reuse: ONNX Runtime's ``enable_mem_reuse``: its search for buffers to share.
        why: why the original is to be used.
        sources: of which state of the model's files this is said; empty where nobody looked.
    """

    model: Path | None
    mem_reuse: bool = True
    why: str = ""
    sources: tuple[tuple[str, tuple[int, int]], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """What was made of one model file, and of which state of it.

    Attributes:
        sources: size in bytes and time of change in ns by path: the model, and files of weights beside it.
        environment: ``environment()`` when it was made.
        key: name of the folder; empty where the original is better.
        files: size in bytes by name of what is in the folder.
    """

    sources: Mapping[str, tuple[int, int]]
    environment: str
    key: str
    files: Mapping[str, int]
    mem_reuse: bool
    why: str

    @classmethod
    def read(cls, file: Path) -> Entry | None:
        """None if there is none, or a foreign one."""
        try:
            data = json.loads(file.read_bytes())
            sources = {path: (int(size), int(changed)) for path, (size, changed) in data.pop("sources").items()}
            return cls(sources=sources, **data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def holds(self, models: Path) -> bool:
        """Whether nothing changed since: neither the model, nor what runs it, nor what was made."""
        return (
            self.environment == environment()
            and all(state(Path(path)) == known for path, known in self.sources.items())
            and is_whole(self.key, self.files, models)
        )

    def prepared(self, models: Path) -> Prepared:
        file = models / FOLDER / self.key / MODEL if self.key else None
        return Prepared(file, self.mem_reuse, self.why, tuple(sorted(self.sources.items())))


def find(path: Path, plan: SessionPlan, models: Path) -> Prepared | None:
    """The prepared form of a model, if it was prepared as it is now; None if ``prepare`` has something to do."""
    if plan.providers != (CPU,):
        return Prepared(None, why=f"{plan.providers[0]} takes the model as it is")
    entry = Entry.read(entry_file(path, models))
    return entry.prepared(models) if entry is not None and entry.holds(models) else None


def entry_file(path: Path, models: Path) -> Path:
    """Where the entry of a model's file is kept."""
    return models / FOLDER / INDEX / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]}.json"


def is_whole(key: str, files: Mapping[str, int], models: Path) -> bool:
    """Whether a folder holds the files that it should, in the sizes that they should have."""
    return all((state(models / FOLDER / key / name) or (-1,))[0] == size for name, size in files.items())


def state(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of change in ns; None for no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def environment() -> str:
    """All but the model that decides what its prepared form is: two of one environment make the same."""
    return f"{FORMAT} onnxruntime {ort.__version__} {OPTIMIZATION.name} {EXTERNAL_BYTES} {features()}"
