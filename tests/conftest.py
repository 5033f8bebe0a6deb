"""Shared by every test: where the repository is, and whether the models are there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def models(root: Path) -> Path:
    """The folder of pulled models; `make test` pulls them first."""
    folder = root / "models"
    assert (folder / "minilm" / "model.int8.onnx").exists(), "the models are missing: run `wakeful models pull`"
    return folder
