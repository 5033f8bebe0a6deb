"""A cluster whose processes are forked; what a fork is, is in ``test_fork_server``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


READING = """\
import json, os

class Read(dict):
    def __getitem__(self, name):
        names.add(os.fsdecode(name))
        return super().__getitem__(name)

names = set()
os.environ._data = Read(os.environ._data)
from deployments.ray_support.workers import fork_request, fork_server
names.clear()
fork_server.import_all(fork_server.MODULES)
print(json.dumps(sorted(one for one in names - fork_request.VARIES if not one.startswith(fork_request.READ))))
"""

HARMLESS = {"COLUMNS", "HOME", "LINES", "PATH"}
"""Of what imports read: the size of a terminal, and folders of Python's own."""


@pytest.mark.slow
@pytest.mark.full  # three seconds; test_fork_server shows what is done with the names
def test_what_imports_read_is_looked_at_before_a_fork() -> None:
    """Each variable that Python code reads meanwhile, in an environment that has next to none: some
    code copies the whole.
    """
    found = subprocess.run(
        [sys.executable, "-c", READING],
        env={"PATH": os.environ["PATH"], "HOME": "/"},
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert set(json.loads(found.stdout.splitlines()[-1])) <= HARMLESS
