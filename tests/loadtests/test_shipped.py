"""The shipped functions under Locust, in one process without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.serving import FirstCall, free_port, local
from loadtests.samples import EMBED, embed_json

pytestmark = pytest.mark.slow

DECLARATION = """
applications:
  - name: embed
    route_prefix: /v2/models/embed
    import_path: deployments:function
    args:
      graph:
        - {stage: tokenize, python: "apps.embed:Tokenize", with: {tokenizer: models/minilm/tokenizer.json}}
        - {stage: model, onnx: models/minilm/model.int8.onnx}
        - {stage: answer, python: "apps.embed:answer"}
      resources: {num_cpus: 2}
  - name: forecast
    route_prefix: /v2/models/forecast
    import_path: deployments:function
    args:
      graph:
        - {stage: features, python: "apps.forecast:features"}
        - {stage: model, onnx: models/forecast/model.onnx}
        - {stage: plan, python: "apps.forecast:plan"}
"""


@pytest.mark.models
def test_every_answer_under_load_is_right(root: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and binary, one row and many, good rows beside bad ones, several callers at once."""
    monkeypatch.chdir(root)
    (tmp_path / "serve_config.yaml").write_text(DECLARATION)
    port = free_port()
    with local(tmp_path / "serve_config.yaml", port, FirstCall(EMBED, embed_json(0)), tmp_path / "log") as server:
        options = ["--headless", "-u", "6", "-r", "6", "-t", "3s", "--only-summary", "--host", server.url("")]
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("embed json", "embed v2 binary", "forecast json", "forecast v2 binary"):
        assert name in done.stdout + done.stderr
