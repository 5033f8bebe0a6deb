"""The shipped functions under Locust, in one process without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.serving import FirstCall, free_port, local
from loadtests.samples import EMBED, embed_json

pytestmark = pytest.mark.slow


@pytest.mark.models
def test_every_answer_under_load_is_right(root: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and binary, one row and many, good rows beside bad ones, several callers at once."""
    monkeypatch.chdir(root)
    port = free_port()
    with local(root / "serve_config.yaml", port, FirstCall(EMBED, embed_json(0)), tmp_path / "log") as server:
        options = ["--headless", "-u", "12", "-r", "12", "-t", "4s", "-s", "30", "--only-summary", "--host", server.url("")]
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = (
        "embed json",
        "embed v2 binary",
        "forecast json",
        "forecast v2 binary",
        "moderate json",
        "filetype raw",
        "search json",
        "ocr ",  # pages as they are or three in a call: there is time for few
        "classify raw",
    )
    for name in names:
        assert name in done.stdout + done.stderr
