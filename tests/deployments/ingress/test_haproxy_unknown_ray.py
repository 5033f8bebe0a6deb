"""A Ray that writes for HAProxy what is not known: functions answer, and HAProxy's log, ``status``
and ``/metrics`` say which promises are off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from deployments.cli import main
from deployments.cluster import cluster
from deployments.ingress.haproxy.lacks import CLOSED, PROMISES
from deployments.ingress.haproxy_metrics import read_haproxy_metrics
from deployments.ray_support.environment import MARK
from deployments.ray_support.state_dir import ClusterState, DeployedApp, StateDir
from tests.deployments.ingress.haproxy.proxies import at, free, replicas, written
from tests.deployments.projects import HOST, Project, function, wait_until

pytestmark = pytest.mark.slow

RENAMED = """
import importlib.util
import sys

NAME = "ray.serve._private.haproxy_templates"


class AnotherRay:
    def find_spec(self, name, path, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        execute = found.loader.exec_module

        def change(module):
            execute(module)
            for key, text in vars(module).items():
                if isinstance(text, str):
                    setattr(module, key, text.replace("listen stats", "listen pages"))

        found.loader.exec_module = change
        return found


sys.meta_path.insert(0, AnotherRay())
"""
"""``sitecustomize`` of a Ray whose template has another section."""

REASON = "This Wakeful does not know what Ray"

SAID = [f"{name}: {lost}." for name, lost in PROMISES.items()]


def promises(page: str) -> dict[str, float]:
    """Those on a page of metrics: 1 for each that is kept."""
    return {
        sample.labels["promise"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "wakeful_haproxy_promise"
    }


@dataclass(frozen=True)
class Home:
    """The state folder of a machine on which HAProxy runs, and nothing of Ray does."""

    path: Path

    @property
    def folder(self) -> Path:
        """Where Ray writes HAProxy's file."""
        return self.path / "hap" / "node"

    @property
    def log(self) -> str:
        """HAProxy's."""
        return (self.path / "haproxy.log").read_text()

    @contextmanager
    def started(self, text: str, port: int) -> Iterator[None]:
        """The program that Ray starts, on what it has written, once it answers."""
        (self.folder / "haproxy.cfg").write_text(text)
        program = Path(sys.executable).with_name("wakeful-haproxy")
        with (
            (self.path / "haproxy.log").open("wb") as log,
            subprocess.Popen(
                [program, "-db", "-f", self.folder / "haproxy.cfg"],
                env={**os.environ, MARK: str(self.path)},
                stderr=log,
            ) as child,
        ):
            try:
                until = time.monotonic() + 30
                while not answers(port):
                    assert child.poll() is None, self.log
                    assert time.monotonic() < until, self.log
                    time.sleep(0.05)
                yield
            finally:
                child.kill()


def answers(port: int) -> bool:
    """Whether a function does, behind HAProxy."""
    try:
        return httpx.post(f"http://127.0.0.1:{port}/f", content=b"", timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """As `up` left it; its catalogue says that no function is declared."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        made = Home(StateDir().path)
        made.folder.mkdir(parents=True)
        monkeypatch.setenv(MARK, str(made.path))
        monkeypatch.setattr(cluster, "fetch_index", lambda *_: [])
        there = (DeployedApp("catalogue", "/", "catalogue", "1"),)
        StateDir().save(
            ClusterState("joined", "", "127.0.0.1", 8000, "f.yaml", "/", "/", deployed=there)
        )
        yield made


def test_a_file_that_is_not_known_is_told_wherever_one_looks(home):
    """While HAProxy runs by it; and no more once Ray writes what is known."""
    with replicas(1) as ports:
        port = free()
        text = written(home.folder, port, at(ports))
        with home.started(text.replace("listen stats", "listen pages"), port):
            assert REASON in home.log
            assert all(line in home.log.splitlines() for line in SAID)
            assert promises(read_haproxy_metrics()) == {**dict.fromkeys(PROMISES, 0), CLOSED: 1}
            told = CliRunner().invoke(main, ["status"])
            assert told.exit_code == 0, told.output
            assert "HAProxy does not run as it should:" in told.stderr
            assert REASON in told.stderr
            assert all(f"  {line}" in told.stderr.splitlines() for line in SAID)
        with home.started(text, port):
            assert REASON not in home.log
            assert promises(read_haproxy_metrics()) == dict.fromkeys((*PROMISES, CLOSED), 1)
            told = CliRunner().invoke(main, ["status"])
            assert (told.exit_code, told.stderr) == (0, "")


@pytest.mark.ray
@pytest.mark.full
def test_a_cluster_of_an_unknown_ray_serves_and_says_what_is_off(
    project: Project, tmp_path: Path
) -> None:
    """Of a Ray whose template has another section."""
    (tmp_path / "sitecustomize.py").write_text(RENAMED)
    folders = (str(tmp_path), os.environ.get("PYTHONPATH", ""))
    project.more = {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    with project.served(*HOST, function("f", least=0)) as client:
        assert client.post("/v2/models/f", json={"name": "a"}).json()["said"] == "a"
        wait_until(lambda: promises(client.get("/metrics").text).get("replay") == 0)
        told = project.run("status")
        assert told.returncode == 0
        assert REASON in told.stderr
        assert all(f"  {line}" in told.stderr.splitlines() for line in SAID)
        logs = project.home.path.glob("hap/*/*.stderr.log")
        assert any(REASON in log.read_text() for log in logs)
