"""The shipped functions under Locust, in one process without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import declare
from loadtests.server import free_port, local

pytestmark = pytest.mark.slow


@pytest.mark.full
@pytest.mark.models
def test_every_answer_under_load_is_right(
    root: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row and many, good rows next to bad ones, several callers at once. Each ends the call that it
    has begun, however long that takes.
    """
    monkeypatch.chdir(root)
    port = free_port()
    with local(root / "serve_config.yaml", port, tmp_path / "log"):
        options = [
            "--headless",
            "-u",
            "12",
            "-r",
            "12",
            "-t",
            "2s",
            "-s",
            "30",
            "--only-summary",
            "--host",
            f"http://127.0.0.1:{port}",
        ]
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [f"{name} " for name in declare.shipped()]
    for name in names:
        assert name in done.stdout + done.stderr
