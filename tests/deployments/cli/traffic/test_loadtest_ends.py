"""`wakeful loadtest` that is ended, by a signal or by the system, leaves no process; one that was
asked to end says what there is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from tests.deployments.projects import wait_until
from tests.serving import ROOT

pytestmark = pytest.mark.slow

FILE = """
applications:
  - name: hello
    route_prefix: /v2/models/hello
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "hello_stages:greet"}]
      example: {name: bo}
      slo: {latency_p50_ms: 60000, success: 0.5}
"""

STAGES = """
def greet(name: str) -> str:
    return f"hello {name}"
"""

END_S = 30.0


class UnderLoad(NamedTuple):
    """A load test that sends.

    Attributes:
        children: its server, the processes of that, and those that send.
    """

    process: subprocess.Popen[str]
    children: list[psutil.Process]


@contextlib.contextmanager
def under_load(folder: Path, *more: str) -> Iterator[UnderLoad]:
    """A load test of a file that takes long; the server has answered some calls."""
    (folder / "serve_config.yaml").write_text(FILE)
    (folder / "hello_stages.py").write_text(STAGES)
    command = [sys.executable, "-m", "deployments.cli", "loadtest", "--json", "--rps", "60", *more]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _has_answered(process.pid))
        yield UnderLoad(process, psutil.Process(process.pid).children(recursive=True))
    finally:
        for one in _family(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate()


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    return []


def _is_running(process: psutil.Process) -> bool:
    """Whether it does; in a container the end of one without a parent may never be looked at."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _has_answered(pid: int) -> bool:
    """Whether its server counts calls; it listens at a port of its own choice."""
    for child in _family(pid):
        with contextlib.suppress(psutil.Error, httpx.HTTPError):
            for one in child.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    metrics = httpx.get(f"http://127.0.0.1:{one.laddr.port}/metrics").text
                    rows = re.search(r'wakeful_rows_total\{function="hello"\} ([\d.]+)', metrics)
                    return rows is not None and float(rows[1]) > 5
    return False


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)],
    ids=lambda number: number.name,
)
def test_a_load_test_that_is_asked_to_end(tmp_path: Path, number: signal.Signals):
    """Says what there is, with its verdict; no process is left."""
    with under_load(tmp_path, "--for", "600", "--warm-up", "0") as (process, children):
        process.send_signal(number)
        said, _ = process.communicate(timeout=2 * END_S)
        wait_until(lambda: not any(map(_is_running, children)))
    found = json.loads(said)
    assert found["is_partial"] is True
    assert found["functions"]["hello"]["right"] > 0
    assert found["seconds"] < 600
    assert process.returncode == found["verdict"]["exit_status"]


@pytest.mark.full
def test_a_search_that_is_asked_to_end(tmp_path: Path):
    """Has not converged: 2."""
    with under_load(tmp_path, "--find-capacity") as (process, children):
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=2 * END_S)
        wait_until(lambda: not any(map(_is_running, children)))
    found = json.loads(said)
    assert (found["is_partial"], found["is_converged"]) == (True, False)
    assert process.returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system ends them")
def test_a_load_test_that_is_killed(tmp_path: Path):
    """Can end nothing itself: its server and what sends end with it."""
    with under_load(tmp_path, "--for", "600") as (process, children):
        commands = [" ".join(child.cmdline()) for child in children]
        assert any(" run " in command for command in commands)
        assert any("generator.worker" in command for command in commands)
        process.kill()
        process.wait(END_S)
        wait_until(lambda: not any(map(_is_running, children)))
