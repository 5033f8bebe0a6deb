"""Shared by every test: where the repository is, whether the models are there, and a project of a
user's.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import httpx._transports.default as httpx_transports
import hypothesis
import pytest

from deployments.ray_support import ports, processes
from tests.deployments.projects import COMMANDS, STAGES, Project, Standing, starting
from tests.movable_clock import MovableClock

ROOT = Path(__file__).parent.parent

pytest_plugins = ["tests.distribution"]

hypothesis.settings.register_profile("no timing", deadline=None)
hypothesis.settings.load_profile("no timing")
"""How long an example takes is the machine's affair: on a busy one, more than its 0.2 s."""

httpx_transports.create_ssl_context = cache(httpx_transports.create_ssl_context)
"""Each client, and so each `httpx.post`, reads the certificates of the machine: 10 ms of a core. No
test calls by TLS, and one that calls in a loop takes that core from what it calls.
"""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell that starts us in its background has us ignore Ctrl-C, and so would every command that a
test sends one. So does `nohup` with the end of the terminal.
"""
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.default_int_handler)
"""A run that is stopped ends what it started, such as the standing cluster."""
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def pytest_collection_finish() -> None:
    """From here on no process keeps bytecode: a test may write a stage twice in a second, which is all
    that Python tells two versions of a file apart by.
    """
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    _freeze()


def _freeze() -> None:
    """As a process that serves does once it has loaded: each function that closes collects garbage,
    and looks at what the tests of its file made, not at all that pytest and the files before have
    imported and keep (half a second each time, after six thousand tests).
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _forgotten_hands() -> Iterator[None]:
    """What one test makes of a function that obeys it (``tests.sleepers``), no other finds."""
    yield
    if sleepers := sys.modules.get("tests.sleepers"):
        sleepers.HANDS.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    """The time of this process."""
    clock = MovableClock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def models(root: Path) -> Path:
    """The folder of pulled models; `make test` pulls them first."""
    folder = root / "models"
    assert (folder / "minilm" / "model.int8.onnx").exists(), (
        "the models are missing: run `wakeful models pull`"
    )
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Whatever a test leaves in it is ended."""
    (tmp_path / "stages_of_a_test.py").write_text(STAGES)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        # the standing cluster's port is free for a moment while a test kills what listens there
        project = Project(tmp_path, short, ports.find_free("127.0.0.1", 8100))
        yield project
        processes.end_processes(project.home.path)


@pytest.fixture(autouse=True)
def _starts_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test with a cluster of its own."""
    is_own = request.node.get_closest_marker("ray") and "standing" not in request.fixturenames
    with starting() if is_own else nullcontext():
        yield


def pytest_sessionfinish() -> None:
    """What commands were forked off ends."""
    COMMANDS.close()


STAND: list[Standing] = []
"""The cluster of the session, from when a test wants it."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The standing cluster ends with the last test that uses it (``tests.distribution``): one that
    nothing calls takes cores and memory from the others.
    """
    if nextitem is not None and "standing" not in getattr(nextitem, "fixturenames", ()):
        for standing in STAND:
            standing.end()
    if nextitem is None or nextitem.path != item.path:
        _freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test that fails leaves in the standing cluster, no other finds."""
    report = yield
    if report.failed and "standing" in getattr(item, "fixturenames", ()):
        for standing in STAND:
            standing.is_doubtful = True
    return report


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A project whose cluster starts with the first test that serves something in it and ends with
    the last, without a trace.
    """
    folder = tmp_path_factory.mktemp("standing")
    (folder / "stages_of_a_test.py").write_text(STAGES)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        standing = Standing(folder, short)
        STAND.append(standing)
        try:
            yield standing
            standing.end()
        finally:
            STAND.remove(standing)
            processes.end_processes(standing.home.path)
