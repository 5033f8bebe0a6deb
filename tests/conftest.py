"""Shared by every test: where the repository is, whether the models are there, and a project of a user's."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import ports, processes
from tests.deployments.projects import STAGES, Project

ROOT = Path(__file__).parent.parent

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell that starts us in its background has us ignore Ctrl-C, and so would every command that a test sends one."""


@pytest.fixture(autouse=True)
def _forgotten_hands() -> Iterator[None]:
    """What one test makes of a function that obeys it (``tests.sleepers``), no other finds."""
    yield
    if sleepers := sys.modules.get("tests.sleepers"):
        sleepers.HANDS.clear()


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


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Whatever a test leaves in it is ended."""
    (tmp_path / "stages_of_a_test.py").write_text(STAGES)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        project = Project(tmp_path, short, ports.free("127.0.0.1", 8000))
        yield project
        processes.end(project.home.path)
