"""Plain Locust has users of a file's functions by two lines: they send whatever becomes of those
before."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wakeful.testing import serve

ROOT = Path(__file__).parents[4]

FILE = """
applications:
  - name: spoken-number
    route_prefix: /v2/models/spoken-number
    import_path: deployments:function
    args:
      graph: [{stage: say, python: "locust_stages:say"}]
      example: {number: 7}
  - name: broken
    route_prefix: /v2/models/broken
    import_path: deployments:function
    args:
      graph: [{stage: say, python: "locust_stages:fail"}]
      example: {number: 7}
"""

STAGES = """
def say(number: int) -> str:
    return str(number)

def fail(number: int) -> str:
    return str(number) if number == 7 else 1 / 0
"""

LOCUSTFILE = """
from wakeful.load import users_of
globals().update(users_of("serve_config.yaml", calls={"broken": "rows.jsonl"}))
"""


@pytest.mark.full
def test_users_of_a_file(tmp_path, monkeypatch):
    """So many users are about so many calls a second; what fails is counted by its code."""
    (tmp_path / "serve_config.yaml").write_text(FILE)
    (tmp_path / "locust_stages.py").write_text(STAGES)
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    (tmp_path / "rows.jsonl").write_text('{"number": 1}\n')
    with serve(tmp_path / "serve_config.yaml") as app:
        options = ["--headless", "-u", "40", "-r", "40", "-t", "4s", "--host", app.url]
        command = [sys.executable, "-m", "locust", "-f", "locustfile.py", *options]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    assert '"SpokenNumberUser": 20' in shown
    assert "CallFailed('status 500: " in shown
    counts = re.findall(r"POST +spoken-number +(\d+) +0\(0.00%\)", shown)
    assert 0 < max(map(int, counts)) < 200
