"""Follows a page as a reader would: writes the files that it shows, runs the commands, and compares
what they print.

A file is a block with a title (``python title="train.py"``), a command a line of a ``console``
block that begins with ``$``; below it stands what it prints. ``wakeful run`` goes on until the end.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import serving

ROOT = Path(__file__).parent.parent
WAIT_S = 90.0
ADDRESS = "127.0.0.1:8000"
"""What pages have, and what is replaced by the port that is free."""

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\$ (.*?)\n(.*?)(?=^\$ |\Z)", re.DOTALL | re.MULTILINE)


@dataclass
class Walk:
    """A folder in which a page is followed.

    Attributes:
        written: what was written to each file, the last.
        replaced: what a file had before.
    """

    folder: Path
    state: Path
    port: int
    server: subprocess.Popen[bytes] | None = None
    written: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    def follow(self, text: str) -> None:
        """Every file and command, in order."""
        for language, title, content in _BLOCK.findall(text):
            if title:
                self._write(title, content)
            elif language == "console":
                for command, expected in _COMMAND.findall(content):
                    self._run(command, expected.strip())

    def serve(self) -> None:
        """`wakeful run`, until it answers."""
        log = self.folder / "run.log"
        with log.open("w") as out:
            self.server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "deployments.cli",
                    "run",
                    "--reload",
                    "--port",
                    str(self.port),
                ],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        serving.wait_until_live(f"http://127.0.0.1:{self.port}", self.server, log, WAIT_S)

    def _write(self, name: str, content: str) -> None:
        path = self.folder / name
        if path.exists():
            self.replaced[name] = path.read_text()
        path.write_text(content)
        self.written[name] = content

    def _run(self, command: str, expected: str) -> None:
        words = shlex.split(command.replace(ADDRESS, f"127.0.0.1:{self.port}"))
        if words[0] == "cd":
            self.folder = self.folder / words[1]
        elif words[:2] == ["wakeful", "run"]:
            self.serve()
        elif words[0] == "curl":
            if self.server is None:
                self.serve()
            self._call(words, expected)
        else:
            printed = self._printed(words)
            assert expected in printed, command

    def _printed(self, words: list[str]) -> str:
        result = subprocess.run(
            words,
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"{words}:\n{result.stdout}{result.stderr}"
        return result.stdout

    def _call(self, words: list[str], expected: str) -> None:
        """A call is made until its answer is the expected one: an edit takes a moment."""
        until = time.monotonic() + WAIT_S
        while True:
            printed = self._printed(["curl", "-s", *words[1:]])
            if is_alike(json.loads(printed), json.loads(expected)):
                return
            assert time.monotonic() < until, f"{shlex.join(words)}: {printed}, not {expected}"
            time.sleep(0.1)

    def _environment(self) -> dict[str, str]:
        """A shell with Wakeful installed, and with runs of its own."""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.state)}


@contextmanager
def walking(folder: Path, state: Path) -> Iterator[Walk]:
    """A walk; its server ends with it.

    Args:
        state: where Wakeful notes what runs.
    """
    walk = Walk(folder, state, serving.free_port())
    try:
        yield walk
    finally:
        if walk.server is not None:
            walk.server.send_signal(signal.SIGTERM)
            assert walk.server.wait(60) == 0


def is_alike(found: Any, expected: Any) -> bool:
    """Whether two JSON values are the same, but for some percent of a number: another version of a
    library trains another model.
    """
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(is_alike(found[name], value) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(is_alike, found, expected))
        )
    if isinstance(expected, float):
        return isinstance(found, float) and abs(found - expected) <= 0.1 * max(1.0, abs(expected))
    return bool(found == expected)


def lines(text: str) -> list[str]:
    """Those that say something: comments and empty ones do not."""
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
