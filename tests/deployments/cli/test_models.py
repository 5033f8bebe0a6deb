"""``wakeful models``: what is pulled is prepared."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments.cli import main
from runtime.onnx.prepared_model import find_prepared
from runtime.onnx.providers import plan_session


@pytest.mark.models
def test_a_pull_prepares_what_it_built(root: Path, models: Path) -> None:
    """And a second one does nothing."""
    for _ in range(2):
        result = CliRunner().invoke(
            main,
            ["models", "pull", "--lock", str(root / "models.lock")],
            env={"WAKEFUL_ROOT": str(root)},
        )
        assert result.exit_code == 0, result.output
    assert "prepared" not in result.output
    files = [
        models / "minilm" / "model.int8.onnx",
        models / "minilm" / "model.fp32.onnx",
        models / "forecast" / "model.onnx",
    ]
    assert all(
        form and form.model
        for form in (find_prepared(file, plan_session(0, None), models) for file in files)
    )
