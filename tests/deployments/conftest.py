"""What tests of the command on a cluster share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from deployments import ports, processes
from tests.deployments.projects import STAGES, Project


@pytest.fixture
def project(tmp_path) -> Iterator[Project]:
    """Whatever a test leaves in it is ended."""
    (tmp_path / "stages_of_a_test.py").write_text(STAGES)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        project = Project(tmp_path, short, ports.free("127.0.0.1", 8000))
        yield project
        processes.end(project.home.path)
