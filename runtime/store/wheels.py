"""Wheels from the package index, fetched by pip without what they depend on, and never installed.

pip knows the user's index, proxy and credentials, so it does the fetching; what it brings is checked again here.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.errors import StoreError
from runtime.store.files import place, refuse_wrong, sha256_of, workplace

FOLDER = ".wheels"
"""In the models folder."""

FETCH_TIMEOUT_S = 900
"""For one wheel; pip gives up on a silent connection after 15 s, twice."""

CHUNK_BYTES = 1 << 20


def fetch(package: str, version: str, hashes: Sequence[str], folder: Path, *, pip: Sequence[str] = (sys.executable, "-m", "pip")) -> Path:
    """The wheel in ``folder``: the one already there if its sha256 is right, or from the index.

    Args:
        hashes: trusted sha256 of the wheel; empty trusts any, for callers that check what they take out of it.
        pip: how pip is started.

    Raises:
        StoreError: pip is missing or fails, or the wheel is not the trusted one.
    """
    what = f"{package}=={version}"
    for wheel in folder.glob(f"{_normal(package)}-{version}-*.whl") if folder.is_dir() else ():
        if not hashes or sha256_of(wheel) in hashes:
            return wheel
    with workplace(folder) as partial:
        requirements = partial / "requirements.txt"
        requirements.write_text(" ".join([what, *(f"--hash=sha256:{each}" for each in hashes)]) + "\n")
        options = ["--no-deps", "--only-binary=:all:", *(["--require-hashes"] if hashes else [])]
        manners = ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--timeout=15", "--retries=2"]
        _run([*pip, "download", *options, *manners, "-d", str(partial), "-r", str(requirements)], what)
        found = next(partial.glob("*.whl"), None)
        if found is None:
            raise StoreError(f"{what}: pip fetched no wheel. Check that the package index serves one for this platform.")
        if hashes:
            refuse_wrong(found, tuple(hashes), what)
        build = found.name.removesuffix(".whl").split("-", 2)[2]
        target = folder / f"{_normal(package)}-{version}-{build}.whl"
        place(found, target)
    return target


def unpack(wheel: Path, members: Mapping[str, str], folder: Path) -> None:
    """Copies members of a wheel into ``folder`` under the names given, so a path inside the wheel decides nothing.

    Args:
        members: file name to path in the wheel.

    Raises:
        StoreError: the wheel is damaged or lacks a member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, member in members.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as copy:
                    while chunk := source.read(CHUNK_BYTES):
                        copy.write(chunk)
    except KeyError as error:
        raise StoreError(f"{wheel.name}: {error.args[0]} Correct the path in the declaration.") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise StoreError(f"{wheel}: is no whole wheel ({error}). Remove it and pull again.") from error


def _normal(package: str) -> str:
    """A package's name as wheels are called (binary distribution format, *Escaping and Unicode*)."""
    return re.sub(r"[-_.]+", "_", package).lower()


def _run(command: Sequence[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=FETCH_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise StoreError(f"{what}: cannot start pip ({error}). Run wakeful with a Python that has pip.") from error
    except subprocess.TimeoutExpired as error:
        raise StoreError(
            f"{what}: pip took longer than {FETCH_TIMEOUT_S} s. Check the connection to the package index and pull again."
        ) from error
    if done.returncode == 0:
        return
    said = done.stderr.strip() or done.stdout.strip()
    if "No module named pip" in said:
        raise StoreError(f"{what}: this Python has no pip. Run `{command[0]} -m ensurepip` and pull again.")
    expected, got = re.findall(r"Expected sha256 (\w+)", said), re.findall(r"Got\s+(\w+)", said)
    if expected and got:
        raise StoreError(
            f"{what}: the package index serves a wheel whose sha256 is {got[0]} and {' or '.join(expected)} is wanted. It was not kept. "
            "Use an index you trust, or, if the new file is right, put its sha256 in the lock."
        )
    last = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()[-3:]
    raise StoreError(
        f"{what}: pip could not fetch it: {' '.join(last)} Check the version, pip's index configuration (`pip config list`) and the disk."
    )
