"""Environments with nothing but the wheel, made by ``uv`` from its cache or the package index."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]

VERSIONS = ("3.11", "3.12", "3.13")
"""Of Python that Wakeful is for."""

UV = (sys.executable, "-m", "uv")

INSTALL_TIMEOUT_S = 500

READY_TIMEOUT_S = 120
"""For a server on a machine that has much else to do."""


@cache
def find_python(version: str) -> Path | None:
    """An interpreter of that version: the one that runs the tests, or of the path, or of pyenv."""
    candidates = [Path(getattr(sys, "_base_executable", sys.executable))]
    if found := shutil.which(f"python{version}"):
        candidates.append(Path(found))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += sorted(pyenv.glob(f"{version}.*/bin/python"))
    ask = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for path in candidates:
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    return None


def build_wheel(folder: Path) -> Path:
    """As ``make wheel`` does, without fetching what builds it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: its own.
        state: a short folder for temporary files, and so for what a command remembers.
    """

    folder: Path
    state: Path

    @classmethod
    def make(cls, folder: Path, python: Path, *wanted: str) -> Environment:
        """A new one, with these packages and what they need, if any."""
        commands: list[tuple[str, ...]] = [
            ("venv", "--quiet", "--python", str(python), str(folder))
        ]
        if wanted:
            target = ("--python", str(folder / "bin" / "python"))
            commands.append(("pip", "install", "--quiet", *target, *wanted))
        for command in commands:
            done = subprocess.run(
                [*UV, *command],
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        return cls(folder, Path(tempfile.mkdtemp(dir="/tmp")))

    @property
    def variables(self) -> dict[str, str]:
        """Nothing of the tests' own environment but the path of the system's programs."""
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "TMPDIR": str(self.state),
            "HOME": str(self.state),
        }

    def command(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.folder / "bin" / name)

    def run(self, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs in a folder."""
        return subprocess.run(
            [self.command(command[0]), *command[1:]],
            cwd=cwd,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@contextlib.contextmanager
def served(
    command: Sequence[str], url: str, folder: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, once it says that it is ready; it is ended by SIGTERM, upon which it
    drains.

    Args:
        folder: where it starts, and where a file gets what it writes.
    """
    log = folder / "written.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=written, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + READY_TIMEOUT_S
        while not _is_ready(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, log.read_text()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready").is_success
    except httpx.TransportError:
        return False
