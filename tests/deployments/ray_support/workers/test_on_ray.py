"""A cluster whose processes are forked; what a fork is, is in ``test_fork_server``."""

from __future__ import annotations

import psutil
import pytest

from deployments.ray_support import processes
from deployments.ray_support.workers import fork_server
from tests.deployments.projects import Standing


@pytest.mark.ray
@pytest.mark.slow
def test_replicas_are_forked_off_what_has_imported_what_they_need(standing: Standing) -> None:
    """And Ray knows them by the names of their actors."""
    standing.with_anything()
    (catalogue,) = processes.by_name(standing.home.path, "ray::ServeReplica:catalogue")
    (host,) = processes.by_name(standing.home.path, "ray::ServeReplica:host")
    assert catalogue.ppid() == host.ppid()
    assert fork_server.__file__ in psutil.Process(host.ppid()).cmdline()
    assert host.cmdline()[0].startswith("ray::ServeReplica:host:WakefulHost")
