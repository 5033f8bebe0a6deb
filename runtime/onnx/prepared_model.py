"""Where a model's prepared form lies, found in the time of a few ``stat`` calls, and what was
verified of a model's file.

    <models>/.prepared/by-path/<hash of the model's path>.json   a ``PreparedIndexEntry``
    <models>/.prepared/<hash of content and environment>/        model.onnx optimised, weights.bin
    <models>/.verified/<hash of the model's path>.json           what ``VerifiedModels`` recorded

The name of a prepared folder says all that decides what is in it, so copies of a model share one;
the folder appears whole, by a rename. Loading hashes nothing: an entry holds as long as size and
time of the model's files are those that were hashed. Where it does not hold, the original is used,
and ``preparation.prepare_model`` makes it again. Rows, answers and names are the original's.

Replicas and later processes do not repeat a check that is recorded as verified. A folder that
cannot be written keeps nothing, and everything is checked again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from runtime.declaration.function_spec import hash_of
from runtime.onnx.installed_build import onnx_runtime
from runtime.onnx.providers import CPU, OPTIMIZATION, SessionPlan
from runtime.system.files import file_state, note_about, write_json

FOLDER: Final = ".prepared"
INDEX: Final = "by-path"
MODEL: Final = "model.onnx"
WEIGHTS: Final = "weights.bin"

EXTERNAL_BYTES: Final = 64 * 1024
"""Weights from this size on lie outside the model file and are mapped; each costs 90 system calls
when loading, so small ones stay in the file.
"""

FORMAT: Final = 2
"""Counted up when ``preparation`` makes another form."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model made ready for this machine.

    Attributes:
        model: the file to open instead of the original; None where the original is to be used.
        why: why the original is to be used.
        sources: the state of the model's files that this holds for; empty where they were not read.
    """

    model: Path | None
    why: str = ""
    sources: tuple[tuple[str, tuple[int, int]], ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedIndexEntry:
    """What was made of one model file, and from which state of it.

    Attributes:
        sources: size in bytes and time of change in ns by path: the model, and its files of
            weights.
        environment: ``environment_key()`` when it was made.
        key: name of the folder; empty where the original is to be used.
        files: size in bytes by name of the files in the folder.
        why: why the original is to be used.
    """

    sources: Mapping[str, tuple[int, int]]
    environment: str
    key: str
    files: Mapping[str, int]
    why: str

    @classmethod
    def read(cls, file: Path) -> PreparedIndexEntry | None:
        """The entry in a file; None if there is none, or one of another format."""
        try:
            data = json.loads(file.read_bytes())
            sources = {
                path: (int(size), int(changed))
                for path, (size, changed) in data.pop("sources").items()
            }
            return cls(sources=sources, **data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def to_json(self) -> str:
        """The text of its file."""
        return json.dumps(asdict(self))

    def is_current(self, models: Path) -> bool:
        """Whether nothing changed since: neither the model, nor what runs it, nor what was made."""
        return (
            self.environment == environment_key()
            and all(file_state(Path(path)) == known for path, known in self.sources.items())
            and is_whole(self.key, self.files, models)
        )

    def to_prepared(self, models: Path) -> PreparedModel:
        """What to open."""
        file = models / FOLDER / self.key / MODEL if self.key else None
        return PreparedModel(file, self.why, tuple(sorted(self.sources.items())))


def find_prepared(path: Path, plan: SessionPlan, models: Path) -> PreparedModel | None:
    """The prepared form of a model, if it was prepared as it is now; None if ``prepare_model`` has
    something to do.
    """
    if plan.providers != (CPU,):
        return PreparedModel(None, why=f"{plan.providers[0]} takes the model as it is")
    entry = PreparedIndexEntry.read(entry_file(path, models))
    return entry.to_prepared(models) if entry is not None and entry.is_current(models) else None


def entry_file(path: Path, models: Path) -> Path:
    """The file of the index entry of a model's file."""
    return note_about(path, models / FOLDER / INDEX)


def is_whole(key: str, files: Mapping[str, int], models: Path) -> bool:
    """Whether a folder holds these files, in these sizes."""
    return all(
        (file_state(models / FOLDER / key / name) or (-1,))[0] == size
        for name, size in files.items()
    )


def environment_key() -> str:
    """Everything but the model that decides what its prepared form is: two machines with one key
    make the same. Kernels, and the layouts of weights that they want, depend on the processor.
    """
    return (
        f"{FORMAT} onnxruntime {onnx_runtime().__version__} {OPTIMIZATION} {EXTERNAL_BYTES}"
        f" {processor_features()}"
    )


_FEATURES = re.compile(
    r"avx\w*|amx\w*|f?ma\w*|f16c|s?sse\w*|asimd\w*|sve\w*|sme\w*|i8mm|bf16|dotprod"
)
"""Vectors and matrices; the other flags change with the kernel and decide nothing here."""


@cache
def processor_features(file: Path = Path("/proc/cpuinfo")) -> str:
    """A short hash of the vector instructions; of the processor's name where the system lists
    none.
    """
    try:
        with file.open() as lines:  # the first processor's are enough; some machines have hundreds
            flags = next(
                (line for line in lines if line.lower().startswith(("flags", "features"))), ""
            )
    except OSError:
        flags = ""
    names = sorted(name for name in flags.partition(":")[2].split() if _FEATURES.fullmatch(name))
    return hashlib.sha256(" ".join(names or [platform.processor()]).encode()).hexdigest()[:12]


VERIFIED_FOLDER: Final = ".verified"
MAX_CLAIMS: Final = 64
"""Claims kept of a file; each declaration that uses it otherwise adds one."""


class VerifiedModels:
    """What was tried and found right of models, recorded in a models folder."""

    def __init__(self, models: Path) -> None:
        self._folder = models / VERIFIED_FOLDER

    def holds(self, path: Path, claim: str) -> bool:
        """Whether the claim is recorded of the file as it is now."""
        known = file_state(path)
        return known is not None and claim in self._claims(path, known)

    def record(self, path: Path, claim: str) -> None:
        """Record that the claim holds of the file as it is now."""
        known = file_state(path)
        if known is None:
            return
        claims = [*(other for other in self._claims(path, known) if other != claim), claim][
            -MAX_CLAIMS:
        ]
        write_json({"state": known, "claims": claims}, note_about(path, self._folder))

    def _claims(self, path: Path, known: tuple[int, int]) -> list[str]:
        try:
            data = json.loads(note_about(path, self._folder).read_bytes())
            return list(data["claims"]) if tuple(data["state"]) == known else []
        except (OSError, ValueError, KeyError, TypeError):  # none, or one of another format
            return []


def verification_key(*circumstances: Any) -> str:
    """The claim that a model is right in this environment, and under these circumstances (plain
    data).
    """
    return hash_of([environment_key(), *circumstances])
