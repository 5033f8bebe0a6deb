"""Ray's own command takes what `wakeful export serve` prints, on a Ray that was started by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.cluster.machine import side_ports
from deployments.ray_support import ports, processes
from deployments.ray_support.environment import (
    SERVING,
    ingress_variables,
    inherited_variables,
    local_variables,
    path_variables,
    to_mapping,
)
from deployments.ray_support.state_dir import StateDir
from runtime.settings import Settings
from tests.deployments.projects import Project, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full, pytest.mark.models]


class RayByHand:
    """A head with its dashboard, which `serve deploy` talks to; `ray start` made it."""

    def __init__(self, project: Project, root: Path) -> None:
        self.home = StateDir(Path(project.short) / "by-hand")
        self.home.prepare()
        # Its processes have the mark of a cluster of ours, by which they are ended. No `up` has
        # written down that one machine serves without keys, and else keys are asked for.
        (self.home.path / "up.json").write_text('{"kind": "own", "node_ip": "127.0.0.1"}')
        self._root = root
        self._dashboard = ports.find_free("127.0.0.1", 8265)
        variables = (
            *SERVING,
            *ingress_variables(),
            *local_variables(self.home.path, side_ports(project.port)),
            *path_variables(Settings(root=root, models=root / "models"), None),
        )
        self._environ = {
            **inherited_variables(to_mapping(variables)),
            "WAKEFUL_PORT": str(project.port),
        }

    def start(self) -> None:
        """Blocking; its processes stay."""
        self.run(
            "ray",
            "start",
            "--head",
            "--node-ip-address=127.0.0.1",
            f"--port={ports.find_free('127.0.0.1', 26379)}",
            f"--ray-client-server-port={ports.find_free('127.0.0.1', 10001)}",
            "--dashboard-agent-listen-port=0",
            f"--dashboard-port={self._dashboard}",
            f"--temp-dir={self.home.path / 'ray'}",
            f"--num-cpus={8 * (os.cpu_count() or 1)}",
            "--object-store-memory=100000000",
        )

    def deploy(self, file: Path) -> None:
        """`serve deploy`."""
        self.run("serve", "deploy", str(file), "--address", f"http://127.0.0.1:{self._dashboard}")

    def run(self, program: str, *arguments: str) -> str:
        """A command of this environment, in the repository; what it prints."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=self._root,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def by_hand(project: Project, root: Path, models: Path) -> Iterator[RayByHand]:
    """Started; all of its processes are ended."""
    ray = RayByHand(project, root)
    try:
        ray.start()
        yield ray
    finally:
        processes.end_processes(ray.home.path)


def test_the_shipped_file_is_deployed(by_hand: RayByHand, project: Project, tmp_path: Path) -> None:
    """As the file's head says: `wakeful export serve`, then `serve deploy`. A function wakes in the
    host, and so does one that calls it.
    """
    file = tmp_path / "deployed.yaml"
    file.write_text(by_hand.run("wakeful", "export", "serve", "serve_config.yaml"))
    by_hand.deploy(file)

    def answers(name: str) -> Any:
        try:
            call = httpx.post(
                f"{project.url}/v2/models/{name}", json={"text": "When is payday?"}, timeout=60
            )
        except httpx.TransportError:  # HAProxy does not listen yet
            return None
        return call.json() if call.is_success else None

    wait_until(lambda: answers("embed") is not None)
    assert len(answers("embed")["embedding"]) == 384
    assert answers("search")["results"]
