"""Builders for the tests of pulling."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path


def upper(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """The model in capitals, and how long it is."""
    content = (source / "model.onnx").read_bytes()
    (out / "upper.onnx").write_bytes(content.upper())
    (out / "size.txt").write_text(str(len(content)))
    say("in capitals")


def killed(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Half of the work, and the process is gone."""
    (out / "upper.onnx").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def lazy(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Forgets an output."""
    (out / "size.txt").write_text("0")
